"""Curvature over the input: the largest eigenvalue of each sample's Hessian, and the cautious radius.

The eigenvalues come from a Lanczos process (Lanczos 1950) that runs on all samples at once. Each row is a
sample: one product multiplies the Hessian of each sample with that sample's vector, and each row has its own
three-term recurrence, fully reorthogonalised. A row whose Krylov space is exhausted stays at zero while the
others continue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space

TOL = 1e-3  # residual over eigenvalue; the relative error of the eigenvalue is then about its square
MAX_STEPS = 200
CHECK_INTERVAL = 4


@dataclass(frozen=True)
class LargestEigenvalues:
    """The largest eigenvalue of each sample (b,), on the host.

    Attributes:
        values: the eigenvalues (b,).
        residuals: ||H v - lambda v|| (b,) of their Ritz vectors.
        steps: the number of products.
    """

    values: Floats
    residuals: Floats
    steps: int


def largest_eigenvalues(
    product: Callable[[Array], Array], shape: tuple[int, int], space: Space, seed: int
) -> LargestEigenvalues:
    """Returns the largest eigenvalue of each row's symmetric map, to a residual of TOL times the eigenvalue.

    A value that is zero to rounding, relative to the largest product seen in its row, counts as zero.

    Args:
        product: multiplies every row of an array of this shape with the matrix of its sample.
        shape: (samples, d).
        space: the array library, data type and device.
        seed: seed of the start vectors.
    """
    (samples, d), xp = shape, space.xp
    v = _normalised(arrays.random_normal(arrays.generator(seed, "input curvature"), shape, space))[0]
    basis, alphas, betas = [v], [], []
    size = np.zeros(samples)
    rounding = 10 * arrays.eps(space) * d**0.5
    last = min(d, MAX_STEPS)
    for step in range(1, last + 1):
        w = product(basis[-1])
        size = np.maximum(size, arrays.to_host(xp.linalg.vector_norm(w, axis=1)))
        alphas.append(arrays.to_host(xp.sum(w * basis[-1], axis=1)))
        w = _orthogonalised(w, basis)
        w, norm = _normalised(w, floor=arrays.from_host(rounding * size, space))
        betas.append(arrays.to_host(norm))
        if step % CHECK_INTERVAL == 0 or not betas[-1].any() or step == last:
            largest = _ritz(np.array(alphas), np.array(betas))
            if np.all(largest.residuals <= np.maximum(TOL * np.abs(largest.values), rounding * size)):
                break
        basis.append(w)
    return largest


def _normalised(w: Array, floor: Array | None = None) -> tuple[Array, Array]:
    """Returns rows of norm 1, and the norms; rows whose norm is at most the floor become zero in both."""
    xp = arrays.namespace(w)
    norm = xp.linalg.vector_norm(w, axis=1)
    zero = norm <= (xp.zeros_like(norm) if floor is None else floor)
    divisor = xp.where(zero, xp.ones_like(norm), norm)
    return xp.where(zero[:, None], xp.zeros_like(w), w / divisor[:, None]), xp.where(
        zero, xp.zeros_like(norm), norm
    )


def _orthogonalised(w: Array, basis: list[Array]) -> Array:
    """Returns w without its components along the basis, row by row."""
    xp = arrays.namespace(w)
    for _ in range(2):  # a single pass leaves rounding errors
        for v in basis:
            w = w - xp.sum(w * v, axis=1, keepdims=True) * v
    return w


def _ritz(alphas: Floats, betas: Floats) -> LargestEigenvalues:
    """Returns the largest Ritz values of the recurrences (m, b).

    The last row of betas holds the couplings to the vectors that are not in the basis yet.
    """
    m, samples = alphas.shape
    T = np.zeros((samples, m, m))
    diagonal = np.arange(m)
    T[:, diagonal, diagonal] = alphas.T
    T[:, diagonal[:-1], diagonal[1:]] = T[:, diagonal[1:], diagonal[:-1]] = betas[:-1].T
    # An exhausted row continues at zero, which is not a Ritz value: these entries are put below all others.
    rows, steps = np.nonzero(np.cumsum(betas[:-1] == 0, axis=0).T > 0)
    T[rows, steps + 1, steps + 1] = -1 - 2 * np.abs(T).sum(axis=(1, 2))[rows]
    values, vectors = np.linalg.eigh(T)
    return LargestEigenvalues(values[:, -1], np.abs(betas[-1] * vectors[:, -1, -1]), m)


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
