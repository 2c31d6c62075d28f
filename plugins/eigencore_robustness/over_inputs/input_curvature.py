"""Radii of quadratic models of the margin over the input: the cautious and the second-order radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats


def cautious_radius(margin: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Returns the smallest radius (b,) at which a quadratic model of the margin can be zero.

    The smallest r with m - ||g|| r - nu r^2 / 2 = 0, for the margin m, the norm of its gradient and
    nu = lambda_max of minus its Hessian, here (Moosavi-Dezfooli et al. 2019, arXiv:1811.09716, theorem 1). It
    bounds that model and not the network, so it is not a certificate. A negative nu counts as zero; if the
    slope is zero as well, the radius is infinite.
    """
    nu = np.maximum(curvature, 0.0)
    # Not (||g|| / nu)(sqrt(1 + 2 nu m / ||g||^2) - 1), which is equal but suffers cancellation for small nu.
    denominator = slope + np.sqrt(slope**2 + 2 * nu * margin)
    return np.divide(2 * margin, denominator, out=np.full_like(margin, np.inf), where=denominator > 0)


def quadratic_radius(margin: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Returns r2 (b,): where a quadratic model of the margin along its steepest descent is zero.

    The smallest r > 0 with m - a r + kappa r^2 / 2 = 0, for the margin m, the norm a of its gradient and its
    second derivative kappa along the gradient, here. It is infinite where the model does not reach zero.
    """
    discriminant = slope**2 - 2 * curvature * margin
    reached = discriminant >= 0
    # Not (a - sqrt(a^2 - 2 kappa m)) / kappa, which is equal but suffers cancellation for small kappa.
    denominator = slope + np.sqrt(np.where(reached, discriminant, 0.0))
    usable = reached & (denominator > 0)
    return np.divide(2 * margin, denominator, out=np.full_like(margin, np.inf), where=usable)


def is_flat(curvature: Floats, slope: Floats) -> bool:
    """Returns whether no margin has curvature, as in a piecewise linear network."""
    return bool(np.all(np.abs(curvature) <= 1e-9 * slope))
