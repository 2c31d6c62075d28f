"""Every bundled solver passes every check of `eigencore.testing`, on every array library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eigencore.entries import SolverEntry
from eigencore.registry import registry
from eigencore.testing import solver_checks
from eigencore.testing.checks import Check
from eigencore.testing.libraries import installed

KRYLOV = ("lanczos", "arpack")

FULL_BASIS = "ARPACK first tests for convergence when its basis is full, wherever it starts"
KNOWN_FAILURES = {"arpack": {"warm_start_saves_products": FULL_BASIS}}


def bundled_solvers() -> tuple[str, ...]:
    return tuple(
        one.entry.name
        for one in registry().entries(SolverEntry)
        if one.plugin.distribution.lower() == "eigencore"
    )


def checks() -> Iterator[Any]:
    for solver in bundled_solvers():
        for check in solver_checks(
            solver,
            libraries=[str(library) for library in installed()],
            solves_everything=solver in KRYLOV,
            known_failures=KNOWN_FAILURES.get(solver),
        ):
            yield pytest.param(check, id=f"{solver}-{check.__name__}")


def test_the_bundled_solvers_are_found() -> None:
    assert {"lanczos", "arpack", "deflated_power", "accel_power", "lobpcg"} <= set(bundled_solvers())


@pytest.mark.parametrize("check", list(checks()))
def test_a_bundled_solver_conforms(check: Check) -> None:
    check()
