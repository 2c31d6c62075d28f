"""The nearest point of a half-space within the bounds of the inputs, in the L2 or the Linf norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore_attacks.norm_ball import unit_rows

if TYPE_CHECKING:
    from eigencore.space import Array
    from eigencore_attacks.norm_ball import Norm

NEWTON_STEPS = 12  # at most
ROUNDING_UNITS = 8  # of the rise that may be missing


def shortest_step(
    x: Array, normal: Array, rise: Array, norm: Norm, bounds: tuple[Array, Array] | None
) -> Array:
    """Returns the smallest step s (b, d) with normal . s = rise for which x + s is within the bounds.

    Without bounds, s is a multiple t of the direction u along which normal . s increases fastest; with
    bounds, it is t u clipped to them. The rise as a function of t is then increasing, concave and piecewise
    linear, so that Newton's iteration from t = 0 converges monotonically, and ends once no further entry is
    clipped.

    Args:
        x: points within the bounds (b, d).
        normal: the normals of the half-spaces (b, d), of any length.
        rise: at least 0 (b, 1). If it is not reached within the bounds, nor with a normal of zero, the step
            is as far as the iteration came.
        norm: the norm of the step.
    """
    xp = arrays.namespace(x)
    size = xp.max(xp.abs(normal), axis=1, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    normal, rise = normal / size, rise / size  # so that neither squares nor sums overflow or underflow
    direction = unit_rows(normal) if norm == "L2" else xp.sign(normal)
    if bounds is None:
        slope = xp.sum(normal * direction, axis=1, keepdims=True)
        return direction * rise / xp.where(slope > 0, slope, xp.ones_like(slope))
    low, high = bounds[0] - x, bounds[1] - x
    tolerance = ROUNDING_UNITS * float(xp.finfo(x.dtype).eps)
    t = xp.zeros_like(rise)
    for _ in range(NEWTON_STEPS):
        step = xp.minimum(xp.maximum(t * direction, low), high)
        free = xp.where(direction > 0, step < high, step > low)
        slope = xp.sum(xp.where(free, normal * direction, xp.zeros_like(x)), axis=1, keepdims=True)
        missing = rise - xp.sum(normal * step, axis=1, keepdims=True)
        # A number on the host in each step, which costs less than the steps that it saves: 3 to 5 are enough.
        if not bool(xp.any((slope > 0) & (missing > tolerance * rise))):
            break
        t = t + xp.where(slope > 0, missing / xp.where(slope > 0, slope, xp.ones_like(slope)), 0 * slope)
    return xp.minimum(xp.maximum(t * direction, low), high)
