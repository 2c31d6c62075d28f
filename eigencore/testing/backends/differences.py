"""Finite differences: a reported derivative must explain how a function changes over small steps.

The derivative has to fit at one of several steps: over a large step a curved function deviates from its
tangent, and a kink (of a ReLU, of a runner-up class that changes) may lie in between. Only steps at which
rounding is small compared with the change count, so that a wrong derivative fits at none.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats

EPS = float(np.finfo(np.float64).eps)
ROUNDING = 10  # error of the value of a function, in rounding units of its size
# A change counts if it is at least this multiple of the rounding error, and a derivative may have a relative
# error of twice the inverse: 2e-3 in float64, 2e-2 in a lower precision, which leaves fewer digits.
ABOVE, ABOVE_IN_LOW_PRECISION = 1e3, 1e2
# Steps in float64. The step at which rounding and the curvature of the function matter equally is a power of
# the rounding unit, by which the steps are scaled in another precision.
FIRST = (1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
SECOND = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)


def check_first_derivative(
    reported: Floats, f: Callable[[float], Floats], size: float, what: str, eps: float = EPS
) -> bool:
    """Compares reported derivatives of f at 0, one for each of its values, with differences of f.

    Args:
        reported: the derivatives.
        f: returns a number, or an array of numbers, for each step.
        size: a lower bound on the size at which the values of f are rounded.
        what: the name of the derivative, for the error message.
        eps: the rounding unit of the precision in which f is computed.

    Returns:
        Whether any value changes by more than rounding.

    Raises:
        AssertionError: a derivative is wrong.
    """
    changes = []
    for step in _steps(FIRST, eps, 1 / 3):
        ahead, behind = f(step), f(-step)
        size = max(size, float(np.max(np.abs(ahead))))
        changes.append((2 * step, ahead - behind))
    return _fits(reported, changes, size, what, eps)


def check_second_derivative(
    reported: Floats, f: Callable[[float], Floats], size: float, what: str, eps: float = EPS
) -> bool:
    """The same as `check_first_derivative` for the second derivative."""
    here = f(0.0)
    size = max(size, float(np.max(np.abs(here))))
    changes = [(step**2, f(step) + f(-step) - 2 * here) for step in _steps(SECOND, eps, 1 / 4)]
    return _fits(reported, changes, size, what, eps)


def skip_unless_any(changed: Iterable[bool], what: str) -> None:
    """Raises unittest.SkipTest if no comparison had a change to examine: any derivative would pass it."""
    if not any(list(changed)):
        raise unittest.SkipTest(f"{what}: nothing changes by more than rounding")


def _steps(in_float64: tuple[float, ...], eps: float, power: float) -> list[float]:
    return [step * (eps / EPS) ** power for step in in_float64]


def _fits(
    reported: Floats, changes: list[tuple[float, Floats]], size_of_f: float, what: str, eps: float
) -> bool:
    noise, above = ROUNDING * eps * size_of_f, ABOVE if eps <= EPS else ABOVE_IN_LOW_PRECISION
    tolerance = 2 / above
    factors = np.array([factor for factor, _ in changes])[:, None]
    change = np.stack([np.atleast_1d(each) for _, each in changes])
    reported = np.atleast_1d(reported)
    # NaN counts as a change of infinite size, and fits nothing.
    size = np.nan_to_num(np.maximum(np.abs(change), np.abs(factors * reported)), nan=np.inf)
    visible_at = size > above * noise
    largest = np.max(np.where(visible_at, size / factors, 0.0), axis=0)
    fine = noise <= tolerance * factors * largest
    fits = fine & (np.abs(change - factors * reported) <= tolerance * size + noise) & np.isfinite(size)
    visible = np.any(visible_at, axis=0)
    wrong = visible & ~np.any(fits, axis=0)
    if np.any(wrong):
        steps = ", ".join(f"{one:.6g}" for one in (change / factors)[:, wrong][:, 0])
        raise AssertionError(
            f"{what}: {reported[wrong][0]:.6g} was reported; finite differences give {steps} "
            f"({np.sum(wrong)} of {len(wrong)} values are wrong)"
        )
    return bool(np.any(visible))
