"""Selects the conformance checks that apply to a solver.

The fields `which`, `warm_start`, `partial` and `refuses_non_finite` of the solver's entry decide which checks
apply. There are two kinds of check. One solves a case of the gallery and applies every law of `answer_laws`
to the answer; it has the name of the case. The other is a law of `behaviour_laws` and has its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eigencore.entries import SolverEntry
from eigencore.interfaces import Solver
from eigencore.testing.checks import (
    Check,
    Law,
    checks_of,
    declared_entry,
    runner_of,
    with_known_failures,
)
from eigencore.testing.gallery import Case, cases
from eigencore.testing.libraries import library
from eigencore.testing.solvers import answer_laws
from eigencore.testing.solvers import behaviour_laws as laws
from eigencore.testing.solvers.evidence_laws import evidence_is_of_the_vectors_that_are_multiplied
from eigencore.testing.solvers.subject import SolverSubject

ALWAYS: tuple[Law[SolverSubject], ...] = (
    laws.snapshots_are_correct,
    laws.errors_propagate,
    laws.makes_no_product_when_closed,
    laws.is_correct_at_every_budget,
    laws.non_finite_products_are_reported,
    laws.is_correct_under_a_certificate,
    laws.start_is_not_modified,
    laws.same_seed_same_bits,
    laws.global_random_state_is_unchanged,
    laws.prints_nothing,
    laws.values_scale_with_the_matrix,
    laws.values_change_sign_with_the_matrix,
    evidence_is_of_the_vectors_that_are_multiplied,
)
IF_PARTIAL: tuple[Law[SolverSubject], ...] = (
    laws.yields_after_every_product,
    laws.vectors_stay_valid_during_the_next_product,
    laws.continues_from_its_state,
    laws.its_state_can_be_used_twice,
    laws.its_state_can_be_pickled,
    laws.a_converged_state_is_as_small_as_the_vectors,
)
IF_WARM: tuple[Law[SolverSubject], ...] = (
    laws.starts_from_vector_or_block,
    laws.warm_start_saves_products,
)
IF_REFUSING: tuple[Law[SolverSubject], ...] = (laws.refuses_products_that_are_not_finite,)
IF_LARGEST: tuple[Law[SolverSubject], ...] = (laws.values_shift_with_the_matrix,)


def solver_checks(
    solver: str | Solver,
    *,
    libraries: Iterable[str | tuple[str, str]] = ("numpy-float64",),
    entry: SolverEntry | None = None,
    solves_everything: bool = False,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[SolverSubject]]:
    """The checks that apply to a solver.

    Known failures are run as well. Such a check is reported as skipped, with its reason, while it fails, and
    as failed once it passes.

    Args:
        solver: a registered name, or a Solver that is not registered.
        libraries: the array libraries, such as "strict-float32" (see `eigencore.testing.libraries`), or as a
            module and a data type, such as ("jax.numpy", "float32").
        entry: what the solver declares; None: its registered entry, or a default SolverEntry.
        solves_everything: whether every case must converge, not only those that power iteration solves.
        known_failures: name of a check or NAME/LIBRARY, with * for any text -> why the check fails.
        **options: options of the solver.

    Raises:
        UnknownNameError: no solver has this name.
        ValueError: a library is not installed, or a known failure matches no check.

    Example:
        import pytest
        from eigencore.testing import solver_checks

        @pytest.mark.parametrize("check", solver_checks("lanczos", libraries=["numpy-float64"]))
        def test_conforms(check):
            check()
    """
    if entry is None:
        entry = declared_entry(SolverEntry, solver)
    subjects = [SolverSubject(solver, entry, library(name), options) for name in libraries]
    found = [check for subject in subjects for check in _checks(subject, solves_everything)]
    return with_known_failures(found, known_failures, entry.name)


check_solver = runner_of(
    solver_checks,
    example="""from eigencore.testing import check_solver

        check_solver("lanczos")""",
)


def _checks(subject: SolverSubject, solves_everything: bool) -> Iterator[Check[SolverSubject]]:
    for case in cases():
        if case.which in subject.entry.which:
            yield Check(case.name, subject, _AnswerLaws(case, solves_everything))
    applicable = ALWAYS
    applicable += IF_PARTIAL if subject.entry.partial else ()
    applicable += IF_WARM if subject.entry.warm_start else ()
    applicable += IF_REFUSING if subject.entry.refuses_non_finite else ()
    applicable += IF_LARGEST if "LA" in subject.entry.which else ()
    yield from checks_of(subject, applicable)


@dataclass(frozen=True)
class _AnswerLaws:
    """The law that the answer to a case obeys every law of an answer."""

    case: Case
    solves_everything: bool

    def __call__(self, subject: SolverSubject) -> None:
        if self.solves_everything:
            convergence = answer_laws.converges
        else:
            convergence = answer_laws.converges_where_power_iteration_does
        answer_laws.judge(subject.solve(self.case), laws=(*answer_laws.LAWS, convergence))
