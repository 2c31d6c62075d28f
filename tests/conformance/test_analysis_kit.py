"""The analysis kit is tested: a correct one passes every check, and each broken one is caught by its law."""

from __future__ import annotations

import contextlib
import io

import pytest

from eigencore.interfaces import AnalysisEntry
from eigencore.problems import find_problem
from eigencore.testing import analysis_checks, check_analysis
from eigencore.testing.analyses.checks import ALWAYS, WITHOUT_PAIRS
from eigencore.testing.analyses.subject import AnalysisSubject
from eigencore.testing.checks import Check
from kit.broken_analyses import SPECIMENS, AnalysisSpecimen, eigenvalue_table, prints

SMALL = find_problem("demo:quadratic", {"n": 30, "outliers": 3})


@pytest.mark.parametrize("check", analysis_checks(eigenvalue_table, SMALL), ids=lambda check: check.name)
def test_a_correct_analysis_passes(check: Check[AnalysisSubject]) -> None:
    check()


@pytest.mark.parametrize(
    "check", analysis_checks("robustness", "demo:digits-numpy", images=40), ids=lambda check: check.name
)
def test_robustness_passes(check: Check[AnalysisSubject]) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    analysis_checks("network", "demo:digits-numpy", images=8)
    + analysis_checks("ranks", "demo:digits-numpy", images=12),
    ids=lambda check: f"{check.name}-{check.subject.analysis}",
)
def test_analyses_that_compare_networks_pass(check: Check[AnalysisSubject]) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    analysis_checks("density", SMALL, probes=2, steps=6)
    + analysis_checks("density", "demo:digits-numpy", probes=1 + 1, steps=4),
    ids=lambda check: f"{check.name}-{check.subject.where}",
)
def test_density_passes(check: Check[AnalysisSubject]) -> None:
    check()


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_analysis_is_caught_by_its_law(specimen: AnalysisSpecimen) -> None:
    entry = AnalysisEntry(name="broken", summary="", load="x:y", eigenpairs=specimen.eigenpairs)
    checks = analysis_checks(specimen.analysis, SMALL, entry=entry)
    (check,) = [one for one in checks if one.name == specimen.caught_by]
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(AssertionError):
        check()


def test_every_law_catches_an_analysis() -> None:
    assert {law.__name__ for law in ALWAYS + WITHOUT_PAIRS} == {specimen.caught_by for specimen in SPECIMENS}


def test_check_analysis_names_the_failed_check() -> None:
    with pytest.raises(
        AssertionError, match="1 check failed\nprints_nothing/demo:quadratic: it printed 'done"
    ):
        check_analysis(prints, SMALL)
    check_analysis(eigenvalue_table, SMALL)


def test_a_problem_that_offers_too_little_is_named() -> None:
    with pytest.raises(AssertionError, match=r"robustness needs .*demo:quadratic offers products"):
        analysis_checks("robustness", SMALL)[0]()
