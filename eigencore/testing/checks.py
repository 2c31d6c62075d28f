"""Conformance checks for solvers.

    import pytest
    from eigencore.testing import solver_checks

    @pytest.mark.parametrize("check", solver_checks("mine", libraries=["numpy-float64", "torch-float32"]))
    def test_mine(check):
        check()

The checks are chosen by what the solver's entry declares: the ends of the spectrum it finds, whether it
starts warm and yields as it goes. There are two kinds. One takes a case of the gallery, and judges the
answer by every law of `eigencore.testing.laws`; it bears the case's name. The other is a behaviour of
`eigencore.testing.behaviours`, and bears its name.

A check that can't hold is a known failure and gives its reason. It is run all the same: it is skipped with
that reason while it fails, and fails when it holds again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eigencore.entries import SolverEntry
from eigencore.interfaces import Solver
from eigencore.registry import registry
from eigencore.testing import behaviours, laws
from eigencore.testing.behaviours import Behaviour
from eigencore.testing.check import Check, run_all, with_known_failures
from eigencore.testing.gallery import Case, cases
from eigencore.testing.libraries import library
from eigencore.testing.subject import Subject

ALWAYS: tuple[Behaviour, ...] = (
    behaviours.snapshots_are_right,
    behaviours.errors_come_through,
    behaviours.closes_quietly,
    behaviours.budget_at_every_product,
    behaviours.products_that_are_not_finite,
    behaviours.certified,
    behaviours.start_is_left_alone,
    behaviours.same_seed_same_bits,
    behaviours.global_randomness_is_left_alone,
    behaviours.prints_nothing,
    behaviours.scaled,
    behaviours.negated,
)
IF_PARTIAL: tuple[Behaviour, ...] = (
    behaviours.yields_after_every_product,
    behaviours.vectors_outlive_a_product,
    behaviours.goes_on_from_its_state,
)
IF_WARM: tuple[Behaviour, ...] = (
    behaviours.starts_from_vector_or_block,
    behaviours.warm_start_pays,
)
IF_LARGEST: tuple[Behaviour, ...] = (behaviours.shifted,)


def solver_checks(
    solver: str | Solver,
    *,
    libraries: Iterable[str] = ("numpy-float64",),
    entry: SolverEntry | None = None,
    solves_everything: bool = False,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[Subject]]:
    """The checks that apply to a solver.

    Args:
        solver: a registered name, or a Solver that is not registered.
        libraries: names such as "strict-float32" (see `eigencore.testing.libraries`).
        entry: what the solver declares; left out, what it is registered with, or the defaults of SolverEntry.
        solves_everything: every case must converge, and not only those that power iteration solves.
        known_failures: name of a check, or NAME/LIBRARY, with * for any text -> the reason it can't hold.
        **options: of the solver.

    Raises:
        ValueError: a library is not installed, or a known failure fits no check.
    """
    if entry is None:
        entry = declared(solver)
    found = [
        check
        for name in libraries
        for check in _of(Subject(solver, entry, library(name), options), solves_everything)
    ]
    return with_known_failures(found, known_failures, entry.name)


def check_solver(solver: str | Solver, **as_for_solver_checks: Any) -> None:
    """Runs every check that applies, without pytest.

    Raises:
        AssertionError: with all that failed, and how.
    """
    run_all(solver_checks(solver, **as_for_solver_checks))


def declared(solver: str | Solver) -> SolverEntry:
    """The entry that a solver is registered with; for one that isn't, the defaults."""
    if isinstance(solver, str):
        return registry().find(SolverEntry, solver)
    name = getattr(solver, "__name__", type(solver).__name__)
    return SolverEntry(name=name, summary="", load="")


def _of(subject: Subject, solves_everything: bool) -> Iterator[Check[Subject]]:
    where = str(subject.library)
    for case in cases():
        if case.which in subject.entry.which:
            yield Check(case.name, where, subject, _Answers(case, solves_everything))
    chosen = ALWAYS
    chosen += IF_PARTIAL if subject.entry.partial else ()
    chosen += IF_WARM if subject.entry.warm_start else ()
    chosen += IF_LARGEST if "LA" in subject.entry.which else ()
    for behaviour in chosen:
        yield Check(behaviour.__name__, where, subject, behaviour)


@dataclass(frozen=True)
class _Answers:
    """The answer to a case holds every law."""

    case: Case
    solves_everything: bool

    def __call__(self, subject: Subject) -> None:
        ending = laws.converges if self.solves_everything else laws.converges_where_power_iteration_does
        laws.judge(subject.solve(self.case), laws=(*laws.LAWS, ending))
