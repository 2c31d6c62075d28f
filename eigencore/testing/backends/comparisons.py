"""Assertions of the laws of backends: arrays are equal or well formed, calls raise an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.testing.checks import demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from eigencore.space import Array, Floats, Space

DRAWS, SIGMAS = 100, 5.0  # the number of minibatches, and the largest deviation in standard errors
ROUNDING = 1e3  # allowed difference, in rounding units of the numbers that are compared


def demand_close(one: Floats, other: Floats, eps: float, what: str) -> None:
    """Raises AssertionError unless the arrays are equal up to rounding, relative to the larger of the two."""
    demand(one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape} differ")
    size = max(float(np.max(np.abs(each), initial=0.0)) for each in (one, other))
    error = float(np.max(np.abs(one - other), initial=0.0))
    demand(error <= ROUNDING * eps * size, f"{what} differ by {error:.2g}; the largest number is {size:.2g}")


def demand_well_formed(x: Array, shape: tuple[int, ...], space: Space, what: str) -> None:
    """Raises AssertionError unless x is finite, has this shape and is an array of the space."""
    like = arrays.zeros((1,), space)
    expected, found = type(like).__name__, type(x).__name__
    demand(type(x) is type(like), f"{what}: the type is {found}; expected {expected}")
    demand(tuple(x.shape) == shape, f"{what}: the shape is {tuple(x.shape)}; expected {shape}")
    demand(x.dtype == like.dtype, f"{what}: the data type is {x.dtype}; expected {like.dtype}")
    device = arrays.device_of(x)
    demand(device == arrays.device_of(like), f"{what}: the device is {device}; expected {space.device}")
    demand(
        not getattr(x, "requires_grad", False), f"{what}: the array tracks gradients; expected a detached one"
    )
    demand(arrays.is_finite(x), f"{what}: some numbers are not finite")


def demand_error(call: Callable[[], object], error: type[Exception]) -> None:
    """Raises AssertionError unless the call raises an error of this class."""
    outcome = "nothing was raised"
    try:
        call()
    except error:
        return
    except Exception as other:
        outcome = f"{type(other).__name__} was raised: {other}"
    raise AssertionError(f"{outcome}; expected {error.__name__}")
