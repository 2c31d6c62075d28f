"""The checks are checked: a right solver passes all of them, and every broken one is caught by its own."""

from __future__ import annotations

import contextlib
import functools
import io
import subprocess
import sys
import unittest
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eigencore.entries import SolverEntry
from eigencore.results import EigenResult, Status
from eigencore.testing import checks, laws
from eigencore.testing.behaviours import DECAY
from eigencore.testing.broken import SPECIMENS, Specimen, lies
from eigencore.testing.checks import Check, check_solver, solver_checks
from eigencore.testing.laws import Answer, BrokenLawError, judge, unmatched
from eigencore.testing.libraries import Library, installed, library
from eigencore.testing.reference import block_krylov

ONE_OF_EACH = [
    str(one) for one in installed() if str(one) in ("numpy-float64", "strict-float64", "torch-float32")
]


@pytest.mark.parametrize("check", solver_checks(block_krylov, libraries=ONE_OF_EACH, solves_everything=True))
def test_a_right_solver_passes(check: Check) -> None:
    check()


# -- what is broken is caught ------------------------------------------------------------------------------


@functools.cache
def caught(specimen: Specimen) -> dict[str, set[str]]:
    """Name of each check that the specimen fails -> the laws that it breaks there."""
    found = {}
    for check in solver_checks(specimen.solver, libraries=[specimen.library]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(unittest.SkipTest):
            try:
                check()
            except AssertionError as failure:
                found[check.name] = set(getattr(failure, "laws", ()))
    return found


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_solver_is_caught(specimen: Specimen) -> None:
    found = caught(specimen)
    assert specimen.caught_by in set(found).union(*found.values())


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_and_for_no_other_reason(specimen: Specimen) -> None:
    if specimen.caught_by not in ("raises_nothing", "closes_quietly"):
        assert not [name for name, broken in caught(specimen).items() if "raises_nothing" in broken]


def test_every_law_and_behaviour_catches_a_solver() -> None:
    found = {name for specimen in SPECIMENS for name in caught(specimen)}
    found |= {law for specimen in SPECIMENS for broken in caught(specimen).values() for law in broken}
    behaviours = (*checks.ALWAYS, *checks.IF_PARTIAL, *checks.IF_WARM, *checks.IF_LARGEST)
    expected = {one.__name__ for one in (*behaviours, *laws.LAWS)}
    # The core puts pairs in order, so that no solver can break this one alone.
    assert expected - found == {"ordered"}


# -- the laws, each on an answer spoilt for it -------------------------------------------------------------


@functools.cache
def right_answer() -> Answer:
    (check,) = (one for one in solver_checks(block_krylov) if one.name == "prints_nothing")
    return check.subject.solve(DECAY)


SPOILT: dict[str, Callable[[EigenResult], EigenResult]] = {
    "well_formed": lambda r: replace(r, values=r.values.astype(np.float32)),
    "ordered": lambda r: replace(
        r, values=r.values[::-1], residuals=r.residuals[::-1], vectors=r.vectors[:, ::-1]
    ),
    "orthonormal": lambda r: replace(r, vectors=r.vectors * (1 + 1e-9)),
    "rayleigh": lambda r: replace(r, values=r.values * (1 + 1e-9)),
    "no_false_converged": lambda r: replace(r, values=r.values * (1 + 1e-5)),
    "no_ghost": lambda r: replace(
        r,
        values=np.full_like(r.values, r.values[0]),
        vectors=np.repeat(r.vectors[:, :1], len(r.values), axis=1),
    ),
    "nothing_missed": lambda r: replace(
        r, values=r.values[:3], residuals=r.residuals[:3], vectors=r.vectors[:, :3], converged=r.converged[:3]
    ),
    "honest_residuals": lambda r: replace(r, residuals=r.residuals / 10),
    "counted": lambda r: replace(r, matvecs=r.matvecs - 1),
}


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_a_law_holds_and_is_broken(law: Callable[[Answer], None]) -> None:
    answer = right_answer()
    law(answer)
    spoilt = SPOILT[law.__name__](answer.result)
    with pytest.raises(AssertionError):
        law(Answer(answer.case, answer.library, spoilt, answer.operator))


def test_judge_names_every_law_that_is_broken() -> None:
    answer = right_answer()
    spoilt = replace(answer.result, values=answer.result.values * (1 + 1e-3), matvecs=0.0)
    with pytest.raises(BrokenLawError) as failure:
        judge(Answer(answer.case, answer.library, spoilt, answer.operator))
    assert {"rayleigh", "no_false_converged", "counted"} <= set(failure.value.laws)


def test_an_answer_that_is_not_finished_misses_nothing() -> None:
    answer = right_answer()
    partial = replace(SPOILT["nothing_missed"](answer.result), status=Status.BUDGET)
    laws.nothing_missed(Answer(answer.case, answer.library, partial, answer.operator))


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ([3.0, 2.0], []),
        ([3.0, 3.0], [3.0]),
        ([2.0, 2.0], []),
        ([2.0, 2.0, 2.0], [2.0]),
        ([2.95, 3.05], [3.05]),
        ([2.5], [2.5]),
        ([], []),
    ],
)
def test_each_value_takes_an_eigenvalue_of_its_own(values: list[float], left: list[float]) -> None:
    spectrum = np.array([3.0, 2.0, 2.0, 1.0])
    found = unmatched(np.array(values), np.full(len(values), 0.1), spectrum)
    assert found.tolist() == left


# -- how checks are chosen and told ------------------------------------------------------------------------


def names(**declared: object) -> set[str]:
    entry = SolverEntry(name="mine", summary="", load="", **declared)  # type: ignore[arg-type]
    return {check.name for check in solver_checks(block_krylov, entry=entry)}


def test_the_checks_follow_what_the_entry_declares() -> None:
    every = names()
    assert every - names(warm_start=False) == {"warm_start_pays", "starts_from_vector_or_block"}
    assert every - names(partial=False) == {one.__name__ for one in checks.IF_PARTIAL}
    assert {"shifted", "hessian-LA", "hessian-SA", "hessian-BE"} <= every - names(which=("LM",))
    assert "hessian-k5" in names(which=("LM",))


def check_of(solver: object, name: str, **known: str) -> Check:
    chosen = solver_checks(solver, known_failures=known)  # type: ignore[arg-type]
    return next(check for check in chosen if check.name == name)


def test_a_known_failure_skips_with_its_reason_while_it_fails() -> None:
    with pytest.raises(unittest.SkipTest, match="it is a liar"):
        check_of(lies, "scaled", scaled="it is a liar")()


def test_a_known_failure_that_holds_fails() -> None:
    with pytest.raises(AssertionError, match=r"is a known failure \(it was slow\), and holds"):
        check_of(block_krylov, "scaled", scaled="it was slow")()


def test_a_known_failure_that_fits_no_check_is_refused() -> None:
    with pytest.raises(ValueError, match="'scald'"):
        solver_checks(block_krylov, known_failures={"scald": "a slip of the pen"})


def test_a_known_failure_can_be_one_librarys() -> None:
    known = {"scaled/numpy-float32": "float32"}
    found = solver_checks(block_krylov, libraries=["numpy-float64", "numpy-float32"], known_failures=known)
    assert [check.__name__ for check in found if check.known_failure] == ["scaled/numpy-float32"]


def test_a_library_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'nampy-float64' is installed; there is: numpy-float64"):
        solver_checks(block_krylov, libraries=["nampy-float64"])


def test_check_solver_tells_all_that_fails() -> None:
    check_solver(block_krylov)
    with pytest.raises(AssertionError, match=r"hessian-k5/numpy-float64: (.*\n)+scaled/numpy-float64: "):
        check_solver(lies)


# -- the fixture -------------------------------------------------------------------------------------------


def test_the_fixture_goes_through_the_libraries(array_library: Library) -> None:
    assert library(str(array_library)) == array_library
    x = array_library.array(np.array([1.0, 0.1]))
    assert x.dtype == array_library.dtype
    assert float(x[1]) == pytest.approx(0.1, rel=array_library.eps)


def test_the_pytest_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys; import eigencore.testing.fixtures;"
        "print(*{'numpy', 'scipy', 'torch', 'rich', 'click'} & set(sys.modules),"
        "*[m for m in sys.modules if m.startswith('eigencore')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["eigencore", "eigencore.testing", "eigencore.testing.fixtures"]
