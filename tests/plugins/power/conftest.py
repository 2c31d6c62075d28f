"""Drives a solver's generator as the core does, without the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.operators import counting
from eigencore.request import Request, precision_floor


@dataclass(frozen=True)
class Driven:
    """The last snapshot, what it cost, and whether all pairs passed and the solver was settled."""

    last: Snapshot
    products: int
    passed: bool


def passes(operator: LinearOperator, request: Request, snapshot: Snapshot) -> bool:
    floor = precision_floor(arrays.eps(operator), snapshot.norm)
    fine = snapshot.residuals <= request.thresholds(snapshot.values, floor)
    return len(fine) == request.k and bool(np.all(fine)) and snapshot.settled


def drive(
    solver: Solver,
    operator: LinearOperator,
    request: Request,
    options: Any,
    *,
    most: int = 3000,
    state: Any = None,
) -> Driven:
    """Pulls snapshots until k pairs pass and the solver is settled, or `most` products are spent."""
    counted = counting(operator)
    snapshots: Iterator[Snapshot] = solver(counted, request, options, state=state)
    for last in snapshots:
        passed = passes(operator, request, last)
        if passed or counted.matvecs >= most:
            break
    return Driven(last, int(counted.matvecs), passed)


@pytest.fixture(name="drive")
def drive_fixture() -> Callable[..., Driven]:
    return drive
