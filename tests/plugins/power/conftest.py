"""Runs a solver's generator as the core does, without the core."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.operators.counting import counting
from eigencore.request import Request, precision_floor
from eigencore.testing.gallery import HOST


@dataclass(frozen=True)
class SolverRun:
    """The last snapshot, its products, and whether all pairs converged."""

    last: Snapshot
    products: int
    passed: bool


def has_converged(operator: LinearOperator, request: Request, snapshot: Snapshot) -> bool:
    floor = precision_floor(arrays.eps(operator), snapshot.norm)
    passed = snapshot.residuals <= request.thresholds(snapshot.values, floor)
    return len(passed) == request.k and bool(np.all(passed))


def drive(
    solver: Solver,
    operator: LinearOperator,
    request: Request,
    options: Any,
    *,
    most: int = 3000,
    state: Any = None,
) -> SolverRun:
    """Requests snapshots until k pairs pass, or `most` products are made."""
    counted = counting(operator)
    snapshots: Iterator[Snapshot] = solver(counted, request, options, state=state)
    for last in snapshots:
        passed = has_converged(operator, request, last)
        if passed or counted.matvecs >= most:
            break
    return SolverRun(last, int(counted.matvecs), passed)


class AllocationRecorder:
    """A diagonal operator that records the allocated memory at each product; its minibatches are itself."""

    xp, dtype, device = HOST.xp, HOST.dtype, "cpu"

    def __init__(self, spectrum: np.ndarray):
        n = len(spectrum)
        self.shape, self.spectrum, self.allocated = (n, n), spectrum[:, None], list[int]()

    def matmat(self, V: Any) -> Any:
        self.allocated.append(tracemalloc.get_traced_memory()[0])
        return self.spectrum * V

    matvec = matmat

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
        return self, 0.1


def vectors_held(solver: Callable[[Any], Iterator[Snapshot]], spectrum: np.ndarray, snapshots: int) -> float:
    """The largest number of vectors allocated at a product, with the last snapshot kept as in the core."""
    operator, last = AllocationRecorder(spectrum), None
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for snapshot in islice(solver(operator), snapshots):
        last = snapshot
    tracemalloc.stop()
    assert last is not None
    return (max(operator.allocated) - before) / (8 * len(spectrum))


@pytest.fixture(name="vectors_held")
def vectors_held_fixture() -> Callable[..., float]:
    return vectors_held


@pytest.fixture(name="drive")
def drive_fixture() -> Callable[..., SolverRun]:
    return drive
