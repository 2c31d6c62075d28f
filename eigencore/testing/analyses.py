"""Conformance checks for analyses.

    import pytest
    from eigencore.testing import analysis_checks

    @pytest.mark.parametrize("check", analysis_checks("mine", "demo:quadratic"))
    def test_mine(check):
        check()

Each is a law of `eigencore.testing.analysis_laws` and bears its name. They tell that what an analysis yields
can be shown, saved and repeated, and that it disturbs nothing; whether it is true they can't tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eigencore.entries import AnalysisEntry
from eigencore.interfaces import Analysis, Problem
from eigencore.registry import registry
from eigencore.testing import analysis_laws as laws
from eigencore.testing.analysis_laws import AnalysisLaw
from eigencore.testing.analysis_subject import AnalysisSubject
from eigencore.testing.check import Check, run_all, with_known_failures

ALWAYS: tuple[AnalysisLaw, ...] = (
    laws.yields_results,
    laws.tells_a_verdict,
    laws.numbers_are_plain,
    laws.tables_are_whole,
    laws.columns_are_of_one_length,
    laws.can_be_saved,
    laws.what_was_told_stays,
    laws.closes_quietly,
    laws.bears_pairs_that_did_not_converge,
    laws.leaves_the_eigenpairs_alone,
    laws.same_seed_same_result,
    laws.global_randomness_is_left_alone,
    laws.prints_nothing,
)


def analysis_checks(
    analysis: str | Analysis,
    problem: str | Problem = "demo:quadratic",
    *,
    entry: AnalysisEntry | None = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[AnalysisSubject]]:
    """The checks of an analysis, on a problem.

    Args:
        analysis: a registered name, or an Analysis that is not registered.
        problem: one that offers what the analysis needs, or its name; small, since every law runs it anew.
        entry: what the analysis declares; left out, what it is registered with, or nothing.
        known_failures: name of a check, or NAME/PROBLEM, with * for any text -> the reason it can't hold.
        **options: of the analysis.

    Raises:
        ValueError: a known failure fits no check.
    """
    if entry is None:
        entry = _declared(analysis)
    subject = AnalysisSubject(analysis, entry, problem, options)
    found = [Check(law.__name__, subject.where, subject, law) for law in ALWAYS]
    return with_known_failures(found, known_failures, entry.name)


def check_analysis(
    analysis: str | Analysis, problem: str | Problem = "demo:quadratic", **as_for_analysis_checks: Any
) -> None:
    """Runs every check, without pytest.

    Raises:
        AssertionError: with all that failed, and how.
    """
    run_all(analysis_checks(analysis, problem, **as_for_analysis_checks))


def _declared(analysis: str | Analysis) -> AnalysisEntry:
    if isinstance(analysis, str):
        return registry().find(AnalysisEntry, analysis)
    return AnalysisEntry(name=getattr(analysis, "__name__", type(analysis).__name__), summary="", load="")
