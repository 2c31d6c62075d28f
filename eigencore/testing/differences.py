"""Finite differences, as a judge: a derivative must explain what a function does over small steps.

It has to fit at one step of several: over a large one a curve bends away, and a kink (of a ReLU, of a
runner-up that changes) may lie in between. Only steps count over which rounding is small beside what is to be
told, so that a derivative that is wrong fits at none.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats

EPS = float(np.finfo(np.float64).eps)
TOLERANCE = 2e-3  # how far off a derivative may be, as a part of itself
ROUNDING = 10 * EPS  # of a function's value, as a part of its size
ABOVE = 1e3  # times the rounding: a change that is seen
FIRST = (1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
SECOND = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)


def is_first_derivative(told: Floats, f: Callable[[float], Floats], size: float, what: str) -> bool:
    """Holds `told` to f at 0, a number for each of its values; whether any was seen to change.

    `size` is what f's values are rounded at, at least.
    """
    changes = []
    for step in FIRST:
        ahead, behind = f(step), f(-step)
        size = max(size, float(np.max(np.abs(ahead))))
        changes.append((2 * step, ahead - behind))
    return _fits(told, changes, ROUNDING * size, what)


def is_second_derivative(told: Floats, f: Callable[[float], Floats], size: float, what: str) -> bool:
    """The same for the second derivative."""
    here = f(0.0)
    size = max(size, float(np.max(np.abs(here))))
    changes = [(step**2, f(step) + f(-step) - 2 * here) for step in SECOND]
    return _fits(told, changes, ROUNDING * size, what)


def seen(judged: Iterable[bool], what: str) -> None:
    """Raises unittest.SkipTest where not one of them was: such a law would hold of anything."""
    if not any(list(judged)):
        raise unittest.SkipTest(f"{what}: nothing changes by more than rounding")


def _fits(told: Floats, changes: list[tuple[float, Floats]], noise: float, what: str) -> bool:
    factors = np.array([factor for factor, _ in changes])[:, None]
    change = np.stack([np.atleast_1d(each) for _, each in changes])
    told = np.atleast_1d(told)
    # What isn't a number is seen by everybody, and fits nothing.
    size = np.nan_to_num(np.maximum(np.abs(change), np.abs(factors * told)), nan=np.inf)
    seen_at = size > ABOVE * noise
    largest = np.max(np.where(seen_at, size / factors, 0.0), axis=0)
    fine = noise <= TOLERANCE * factors * largest
    fits = fine & (np.abs(change - factors * told) <= TOLERANCE * size + noise) & np.isfinite(size)
    shown = np.any(seen_at, axis=0)
    wrong = shown & ~np.any(fits, axis=0)
    if np.any(wrong):
        steps = ", ".join(f"{one:.6g}" for one in (change / factors)[:, wrong][:, 0])
        raise AssertionError(
            f"{what}: {told[wrong][0]:.6g} was told, differences give {steps} ({np.sum(wrong)} are wrong)"
        )
    return bool(np.any(shown))
