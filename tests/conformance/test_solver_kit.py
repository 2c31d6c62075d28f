"""The solver kit is tested: a correct solver passes every check, and each broken one is caught by its law."""

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
from eigencore.testing import check_solver, solver_checks
from eigencore.testing.checks import BrokenLawError, Check
from eigencore.testing.libraries import Library, installed, library
from eigencore.testing.solvers import answer_laws, checks
from eigencore.testing.solvers.answer_laws import judge, unmatched
from eigencore.testing.solvers.behaviour_laws import DECAY
from eigencore.testing.solvers.subject import SolverAnswer
from kit.block_krylov import block_krylov
from kit.broken_solvers import SPECIMENS, SolverSpecimen, reports_a_thousandth_of_the_residual

ONE_OF_EACH = [
    str(one) for one in installed() if str(one) in ("numpy-float64", "strict-float64", "torch-float32")
]


@pytest.mark.parametrize("check", solver_checks(block_krylov, libraries=ONE_OF_EACH, solves_everything=True))
def test_a_correct_solver_passes(check: Check) -> None:
    check()


# -- broken solvers are caught -----------------------------------------------------------------------------


@functools.cache
def caught(specimen: SolverSpecimen) -> dict[str, set[str]]:
    """The name of each check that the specimen fails -> the laws that it breaks there."""
    found = {}
    for check in solver_checks(specimen.solver, libraries=[specimen.library]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(unittest.SkipTest):
            try:
                check()
            except AssertionError as failure:
                found[check.name] = set(getattr(failure, "laws", ()))
    return found


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_solver_is_caught(specimen: SolverSpecimen) -> None:
    found = caught(specimen)
    assert specimen.caught_by in set(found).union(*found.values())


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_solver_raises_no_error_of_its_own(specimen: SolverSpecimen) -> None:
    if specimen.caught_by not in ("raises_nothing", "makes_no_product_when_closed"):
        assert not [name for name, broken in caught(specimen).items() if "raises_nothing" in broken]


def test_a_solver_that_refuses_nothing_is_caught() -> None:
    entry = SolverEntry(name="block_krylov", summary="", load="", refuses_non_finite=True)
    name = "refuses_products_that_are_not_finite"
    (check,) = (one for one in solver_checks(block_krylov, entry=entry) if one.name == name)
    with pytest.raises(AssertionError, match="NaN"):
        check()


def test_every_law_catches_a_solver() -> None:
    found = {name for specimen in SPECIMENS for name in caught(specimen)}
    found |= {law for specimen in SPECIMENS for broken in caught(specimen).values() for law in broken}
    behaviour_laws = (*checks.ALWAYS, *checks.IF_PARTIAL, *checks.IF_WARM, *checks.IF_LARGEST)
    expected = {law.__name__ for law in (*behaviour_laws, *answer_laws.LAWS)}
    # The core sorts the pairs, so that no solver on its own can break this law.
    assert expected - found == {"is_ordered"}


# -- each law, on an answer that breaks it -----------------------------------------------------------------


@functools.cache
def correct_answer() -> SolverAnswer:
    (check,) = (one for one in solver_checks(block_krylov) if one.name == "prints_nothing")
    return check.subject.solve(DECAY)


BREAK: dict[str, Callable[[EigenResult], EigenResult]] = {
    "is_well_formed": lambda r: replace(r, values=r.values.astype(np.float32)),
    "is_ordered": lambda r: replace(
        r, values=r.values[::-1], residuals=r.residuals[::-1], vectors=r.vectors[:, ::-1]
    ),
    "vectors_are_orthonormal": lambda r: replace(r, vectors=r.vectors * (1 + 1e-9)),
    "values_are_rayleigh_quotients": lambda r: replace(r, values=r.values * (1 + 1e-9)),
    "no_false_convergence": lambda r: replace(r, values=r.values * (1 + 1e-5)),
    "no_spurious_eigenvalue": lambda r: replace(
        r,
        values=np.full_like(r.values, r.values[0]),
        vectors=np.repeat(r.vectors[:, :1], len(r.values), axis=1),
    ),
    "no_missed_eigenvalue": lambda r: replace(
        r, values=r.values[:3], residuals=r.residuals[:3], vectors=r.vectors[:, :3], converged=r.converged[:3]
    ),
    "residuals_are_accurate": lambda r: replace(r, residuals=r.residuals / 10),
    "products_are_counted": lambda r: replace(r, matvecs=r.matvecs - 1),
}


@pytest.mark.parametrize("law", answer_laws.LAWS, ids=lambda law: law.__name__)
def test_a_law_holds_for_a_correct_answer_and_fails_for_a_broken_one(
    law: Callable[[SolverAnswer], None],
) -> None:
    answer = correct_answer()
    law(answer)
    broken = BREAK[law.__name__](answer.result)
    with pytest.raises(AssertionError):
        law(SolverAnswer(answer.case, answer.library, broken, answer.operator))


def test_judge_names_every_broken_law() -> None:
    answer = correct_answer()
    broken = replace(answer.result, values=answer.result.values * (1 + 1e-3), matvecs=0.0)
    with pytest.raises(BrokenLawError) as failure:
        judge(SolverAnswer(answer.case, answer.library, broken, answer.operator))
    assert {"values_are_rayleigh_quotients", "no_false_convergence", "products_are_counted"} <= set(
        failure.value.laws
    )


def test_an_unfinished_answer_misses_no_eigenvalue() -> None:
    answer = correct_answer()
    partial = replace(BREAK["no_missed_eigenvalue"](answer.result), status=Status.BUDGET)
    answer_laws.no_missed_eigenvalue(SolverAnswer(answer.case, answer.library, partial, answer.operator))


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


# -- selection and messages of the checks ------------------------------------------------------------------


def names(**declared: object) -> set[str]:
    entry = SolverEntry(name="mine", summary="", load="", **declared)  # type: ignore[arg-type]
    return {check.name for check in solver_checks(block_krylov, entry=entry)}


def test_the_checks_follow_what_the_entry_declares() -> None:
    every = names()
    assert every - names(warm_start=False) == {"warm_start_saves_products", "starts_from_vector_or_block"}
    assert every - names(partial=False) == {one.__name__ for one in checks.IF_PARTIAL}
    assert {"values_shift_with_the_matrix", "hessian-LA", "hessian-SA", "hessian-BE"} <= every - names(
        which=("LM",)
    )
    assert "hessian-k5" in names(which=("LM",))


def check_of(solver: object, name: str, **known: str) -> Check:
    chosen = solver_checks(solver, known_failures=known)  # type: ignore[arg-type]
    return next(check for check in chosen if check.name == name)


def test_a_known_failure_is_skipped_with_its_reason_while_it_fails() -> None:
    known = {"values_scale_with_the_matrix": "its residuals are wrong"}
    with pytest.raises(unittest.SkipTest, match="known failure: its residuals are wrong"):
        check_of(reports_a_thousandth_of_the_residual, "values_scale_with_the_matrix", **known)()


def test_a_known_failure_that_passes_fails() -> None:
    known = {"values_scale_with_the_matrix": "it was slow"}
    with pytest.raises(AssertionError, match=r"is listed as a known failure \(it was slow\), but it passes"):
        check_of(block_krylov, "values_scale_with_the_matrix", **known)()


def test_a_known_failure_that_matches_no_check_is_refused() -> None:
    with pytest.raises(
        ValueError, match="known_failures has 'scald', which matches no check of block_krylov"
    ):
        solver_checks(block_krylov, known_failures={"scald": "misspelt"})


def test_a_known_failure_can_be_limited_to_one_library() -> None:
    known = {"values_scale_with_the_matrix/numpy-float32": "float32"}
    found = solver_checks(block_krylov, libraries=["numpy-float64", "numpy-float32"], known_failures=known)
    assert [check.__name__ for check in found if check.known_failure] == list(known)


def test_a_library_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ValueError, match="'nampy-float64' is installed; available: numpy-float64"):
        solver_checks(block_krylov, libraries=["nampy-float64"])


def test_check_solver_names_every_failed_check() -> None:
    check_solver(block_krylov)
    with pytest.raises(
        AssertionError, match=r"hessian-k5/numpy-float64: (.*\n)+values_scale_with_the_matrix/numpy-float64: "
    ):
        check_solver(reports_a_thousandth_of_the_residual)


# -- the fixture -------------------------------------------------------------------------------------------


def test_the_fixture_is_every_library_in_turn(array_library: Library) -> None:
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
