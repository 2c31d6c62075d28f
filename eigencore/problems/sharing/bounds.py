"""The bounds of inputs: checked, converted to those of rows, clipped to, and compared with inputs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space

# How far rounding may move an input beyond its bounds, relative to their distance.
BOUNDS_SLACK = 1e-6


def check_bounds(given: Any) -> tuple[Floats, Floats] | None:
    """The lowest and the highest value in `Problem.bounds` as arrays on the host; None if there are none.

    Raises:
        ProblemError: they are not two finite numbers in ascending order, or two arrays of such numbers.
            Arrays may be equal in some entries, which are then fixed.
    """
    if given is None:
        return None
    try:
        low, high = (_on_host(bound) for bound in given)
    except (TypeError, ValueError, RuntimeError):
        low = high = np.array(np.nan)
    finite = np.all(np.isfinite(low)) and np.all(np.isfinite(high))
    # Arrays of different shapes are compared by `bounds_of_rows`, which knows the shape of an input.
    comparable = low.shape == high.shape or not (low.ndim and high.ndim)
    if not finite or (comparable and not _ascending(low, high)):
        raise _invalid_bounds(given)
    return low, high


def bounds_of_rows(
    given: Any, shape: tuple[int, ...], space: Space, channel_axis: int | None = None
) -> tuple[Array, Array] | None:
    """The lowest and the highest value of each entry of a row, two arrays (d,); None if there are no bounds.

    Args:
        given: `Problem.bounds`: two numbers, or two arrays that broadcast to one input or have one number for
            each of its channels.
        shape: the shape of one input.
        space: the array library, data type and device of the rows.
        channel_axis: the axis of the shape that counts the channels; None: the first one.

    Raises:
        ProblemError: the bounds are invalid, do not fit the inputs, or fit them in two different ways.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.problems.sharing import bounds_of_rows

        low, high = bounds_of_rows(([0, 0, 0], [1, 2, 3]), (3, 8, 8), as_operator(np.eye(2)))
        print(low.shape, high[0], high[-1])
    """
    bounds = check_bounds(given)
    if bounds is None:
        return None
    low, high = (_of_one_input(bound, shape, channel_axis or 0) for bound in bounds)
    if not _ascending(low, high):
        raise _invalid_bounds(given)
    return arrays.from_host(low, space), arrays.from_host(high, space)


def clip_to_bounds(x: Array, bounds: tuple[Array, Array] | None) -> Array:
    """Rows x (b, d) with each entry clipped to its bounds (d,); x itself if there are no bounds.

    Example:
        import numpy as np
        from eigencore.problems.sharing import clip_to_bounds

        print(clip_to_bounds(np.array([[-1.0, 0.5], [0.5, 3.0]]), (np.zeros(2), np.array([1.0, 2.0]))))
    """
    if bounds is None:
        return x
    xp, (low, high) = arrays.namespace(x), bounds
    return xp.minimum(xp.maximum(x, low), high)


def input_range(x: Array, bounds: tuple[Array, Array] | None) -> float:
    """The largest width of the bounds, or that of the rows x (b, d) if there are none; always above zero.

    Example:
        import numpy as np
        from eigencore.problems.sharing import input_range

        print(input_range(np.array([[10.0, 30.0], [25.0, 10.0]]), None))
    """
    xp = arrays.namespace(x)
    if bounds is not None:
        low, high = bounds
        return float(xp.max(high - low))
    # Rows whose numbers are all equal have no range, but a scale.
    return float(xp.max(x) - xp.min(x)) or float(xp.max(xp.abs(x))) or 1.0


def bounds_excess(x: Array, bounds: tuple[Array, Array]) -> float:
    """The largest distance of an entry of rows x (b, d) from its bounds (d,); 0 if it is within rounding."""
    xp, (low, high) = arrays.namespace(x), bounds
    if not x.shape[0]:
        return 0.0
    rounding = 4 * float(xp.finfo(x.dtype).eps) * xp.maximum(xp.abs(low), xp.abs(high))
    excess = xp.maximum(low - x, x - high)
    beyond = excess > BOUNDS_SLACK * (high - low) + rounding
    return float(xp.max(xp.where(beyond, excess, xp.zeros_like(excess))))


def _ascending(low: Floats, high: Floats) -> bool:
    return bool(np.all(low <= high) and np.any(low < high))


def _invalid_bounds(given: object) -> ProblemError:
    return ProblemError(
        f"bounds are {' '.join(repr(given).split()):.80}; expected two finite numbers, the lower one first, "
        "or two arrays of such numbers",
        hint="Give the lowest and highest value that any input may take, such as bounds=(0, 1).",
    )


def _on_host(x: Any) -> Floats:
    return arrays.to_host(x) if arrays.is_array(x) else np.asarray(x, dtype=np.float64)


def _of_one_input(bound: Floats, shape: tuple[int, ...], axis: int) -> Floats:
    """One bound for each value of an input, in a row (d,)."""
    per_channel = tuple(side if i == axis else 1 for i, side in enumerate(shape))
    readings = [bound]
    if bound.shape == shape[axis : axis + 1]:
        readings.append(bound.reshape(per_channel))
    found = []
    for reading in readings:
        with suppress(ValueError):
            found.append(np.broadcast_to(reading, shape))
    if found and np.array_equal(found[0], found[-1]):
        return found[0].reshape(-1)
    fit = "do not fit" if not found else "fit, along the first axis and along the last,"
    raise ProblemError(
        f"bounds of shape {bound.shape} {fit} inputs of shape {shape}; expected numbers, or arrays that "
        "broadcast to one input",
        hint=f"For one number per channel, give arrays of shape {per_channel}.",
    )
