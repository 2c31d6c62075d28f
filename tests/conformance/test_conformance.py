"""Every bundled solver holds every check of `eigencore.testing`, on every array library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eigencore.entries import SolverEntry
from eigencore.registry import registry
from eigencore.testing.checks import Check, solver_checks
from eigencore.testing.libraries import installed

KRYLOV = ("lanczos", "arpack")

KNOWN_FAILURES = {
    "arpack": {"warm_start_pays": "ARPACK first looks when its basis is full, wherever it starts"},
}


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
    assert {"lanczos", "arpack", "deflated_power", "accel_power"} <= set(bundled_solvers())


@pytest.mark.parametrize("check", list(checks()))
def test_conformance(check: Check) -> None:
    check()
