"""How many cases the long tests try: EIGEN_EFFORT=5 tries five times as many, among them the same ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

_FACTOR = float(os.environ.get("EIGEN_EFFORT", "1"))
_Case = TypeVar("_Case")


def cases_to_try(usual: int) -> int:
    """The number of cases, given that of a usual run."""
    return max(1, round(_FACTOR * usual))


def some_of(cases: Iterable[_Case], usual: float) -> Iterator[_Case]:
    """A random part of the cases, given its share of them in a usual run."""
    rng = np.random.default_rng(0)
    return (case for case in cases if rng.random() < _FACTOR * usual)
