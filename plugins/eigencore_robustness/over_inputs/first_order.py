"""First-order distance to the decision boundary: the margin to each class over the norm of its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.objectives import Margin
from eigencore.problems.sharing import clip_to_bounds

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array

BISECTIONS = 60  # determine the step length to a relative 2^-60


@dataclass(frozen=True)
class FirstOrder:
    """The nearest boundaries of the linearised network, one for each sample (b,).

    Attributes:
        radius: r1 = min over all classes k of m_k / ||grad m_k||_2, m_k = z_y - z_k; infinite if all these
            gradients are zero.
        radius_in_box: the same for perturbations that stay within the input bounds; infinite if no such
            perturbation reaches a linearised boundary.
        nearest: the class k that attains r1.
    """

    radius: Array
    radius_in_box: Array
    nearest: Array


def first_order(classifier: Classifier, x: Array, y: Array) -> FirstOrder:
    """Returns the first-order distances of correctly classified inputs (b, d) with labels (b,).

    It takes one gradient per class. The margin to the runner-up alone would miss a class whose margin is
    larger but decreases more steeply (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, equation 8).
    """
    xp = classifier.xp
    infinite = xp.full(y.shape, float("inf"), dtype=classifier.dtype, device=classifier.device)
    radius, in_box, nearest = infinite, infinite, xp.zeros_like(y)
    for k in range(classifier.classes):
        margin, gradient = classifier.value_and_grad(Margin(k), x, y)
        other = y != k
        unbounded = xp.where(other, _ratio(margin, xp.linalg.vector_norm(gradient, axis=1)), infinite)
        nearest = xp.where(unbounded < radius, xp.full_like(y, k), nearest)
        radius = xp.minimum(radius, unbounded)
        bounded = unbounded if classifier.bounds is None else _in_box(x, margin, gradient, classifier.bounds)
        in_box = xp.where(other, xp.minimum(in_box, bounded), in_box)
    return FirstOrder(radius, in_box, nearest)


def _ratio(margin: Array, slope: Array) -> Array:
    """Returns margin / slope, infinite where the slope is zero."""
    xp = arrays.namespace(margin)
    flat = slope == 0
    return xp.where(
        flat, xp.full_like(slope, float("inf")), margin / xp.where(flat, xp.ones_like(slope), slope)
    )


def _in_box(x: Array, margin: Array, gradient: Array, bounds: tuple[Array, Array]) -> Array:
    """Returns ||delta|| (b,) of the shortest delta with m + grad'delta = 0 and x + delta within the bounds.

    This delta is clip(x - t grad) - x; the step t is found by bisection, because m + grad'delta decreases
    with t.
    """
    xp = arrays.namespace(x)

    def change(t: Array) -> Array:
        return clip_to_bounds(x - t[:, None] * gradient, bounds) - x

    def remaining(delta: Array) -> Array:
        return margin + xp.sum(gradient * delta, axis=1)

    # From this step on, every input value with a nonzero gradient lies on a bound.
    smallest = xp.min(xp.where(gradient == 0, xp.full_like(gradient, float("inf")), xp.abs(gradient)), axis=1)
    widest = float(xp.max(bounds[1] - bounds[0]))
    high = xp.where(xp.isfinite(smallest), widest / smallest, xp.zeros_like(smallest))
    reached = remaining(change(high)) <= 0
    low = xp.zeros_like(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        crossed = remaining(change(middle)) <= 0
        low, high = xp.where(crossed, low, middle), xp.where(crossed, middle, high)
    length = xp.linalg.vector_norm(change(high), axis=1)
    return xp.where(reached, length, xp.full_like(length, float("inf")))
