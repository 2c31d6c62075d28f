"""Answers that are called complete at 99 % are right, but for as many as chance allows.

If each of N answers were wrong with probability 1 %, more than `allowed(N)` of them would be wrong with
probability 1 %. All seeds are fixed, so that the counts are the same in every run.
`benchmarks/completeness.py` prints them in detail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from eigencore.entries import Capability, SolverEntry
from eigencore.registry import registry
from kit.effort import cases_to_try, some_of
from kit.hard_matrices import hard_solves
from kit.planted import SPECTRA, STARTS, planted_cases

CAP = 3000
CASES = 400
FAST = ("lanczos", "arpack")
SOLVERS = [one.entry for one in registry().entries(SolverEntry) if one.entry.needs <= {Capability.PRODUCTS}]
all_solvers = pytest.mark.parametrize("entry", SOLVERS, ids=lambda entry: entry.name)


def allowed(answers: int) -> int:
    from scipy.stats import binom

    return int(binom.ppf(0.99, answers, 0.01))


def count(cases: Iterable[Any], answer: Callable[[Any], Any]) -> tuple[int, list[str]]:
    """How many answers were called complete, and which of these are wrong."""
    complete, wrong = 0, []
    for case in cases:
        result = answer(case)
        complete += result.complete is True
        if case.is_wrong(result):
            wrong.append(f"{case}: {result.values}")
    return complete, wrong


def planted(entry: SolverEntry, cases: int) -> tuple[int, list[str]]:
    limits: dict[str, Any] = {} if entry.name in FAST else {"largest": 300, "tolerances": (1e-1, 1e-2, 1e-3)}
    return count(
        planted_cases(cases, entry.which, **limits), lambda case: case.solve(entry.name, max_matvecs=CAP)
    )


def hard(entry: SolverEntry, largest: int, share: float) -> tuple[int, list[str]]:
    solves = hard_solves(entry.which, largest=largest)
    return count(some_of(solves, share), lambda case: case.solve(entry.name, max_matvecs=CAP))


def judge(complete: int, wrong: list[str], least: int) -> None:
    assert complete >= least
    assert len(wrong) <= allowed(complete), "\n".join([f"{len(wrong)} of {complete}", *wrong])


def lanczos() -> SolverEntry:
    return registry().find(SolverEntry, "lanczos")


def test_lanczos_misses_few_planted_eigenvalues() -> None:
    """Of 350 answers, 8 may be wrong; at 1 %, 3.5 would be on average."""
    assert allowed(350) == 8
    assert 10 * len(SPECTRA) * len(STARTS) <= CASES
    judge(*planted(lanczos(), CASES), least=300)


def test_lanczos_misses_no_eigenvalue_of_small_hard_matrices() -> None:
    complete, wrong = hard(lanczos(), largest=80, share=0.14)
    judge(complete, wrong, least=250)
    assert not wrong


@pytest.mark.slow
@all_solvers
def test_at_most_one_in_a_hundred_planted_eigenvalues_is_missed(entry: SolverEntry) -> None:
    """Of 2,000 answers that are called complete, at most 30 may be wrong: EIGEN_EFFORT=5 tries that many."""
    complete, wrong = planted(entry, cases_to_try(480))
    judge(complete, wrong, least=cases_to_try(400))
    assert len(wrong) <= 30 * complete / 2000


@pytest.mark.slow
@all_solvers
def test_hard_matrices_give_right_answers_or_incomplete_ones(entry: SolverEntry) -> None:
    """EIGEN_EFFORT=10 tries all of them."""
    complete, wrong = hard(entry, largest=1000 if entry.name in FAST else 150, share=0.1)
    assert complete >= cases_to_try(50)
    assert len(wrong) <= complete / 100, "\n".join(wrong)
