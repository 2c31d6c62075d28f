"""Selects the conformance checks that apply to an analysis.

All laws of `laws` apply to every analysis, except one about analyses without eigenpairs. Each check has the
name of its law. They show that the results of an analysis can be printed, saved and repeated, and that it has
no side effects. They do not show
that the results are correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eigencore.entries import AnalysisEntry
from eigencore.interfaces import Analysis, Problem
from eigencore.testing.analyses import laws
from eigencore.testing.analyses.subject import AnalysisSubject
from eigencore.testing.checks import (
    Check,
    Law,
    checks_of,
    declared_entry,
    runner_of,
    with_known_failures,
)

ALWAYS: tuple[Law[AnalysisSubject], ...] = (
    laws.yields_results,
    laws.has_a_verdict,
    laws.numbers_are_plain,
    laws.tables_are_complete,
    laws.columns_have_equal_lengths,
    laws.figures_can_be_drawn,
    laws.can_be_saved,
    laws.yielded_results_do_not_change,
    laws.can_be_closed_after_any_result,
    laws.accepts_pairs_that_did_not_converge,
    laws.eigenpairs_are_not_modified,
    laws.same_seed_same_result,
    laws.global_random_state_is_unchanged,
    laws.prints_nothing,
    laws.ends_with_the_products,
)
WITHOUT_PAIRS: tuple[Law[AnalysisSubject], ...] = (laws.runs_without_eigenpairs,)


def analysis_checks(
    analysis: str | Analysis,
    problem: str | Problem = "demo:quadratic",
    *,
    entry: AnalysisEntry | None = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[AnalysisSubject]]:
    """The checks that apply to an analysis, on a problem.

    Known failures are run as well. Such a check is reported as skipped, with its reason, while it fails, and
    as failed once it passes.

    Args:
        analysis: a registered name, or an Analysis that is not registered.
        problem: a registered name or a Problem. It must offer what the analysis needs, and should be small,
            because every law runs the analysis again.
        entry: what the analysis declares; None: its registered entry, or a default AnalysisEntry.
        known_failures: name of a check or NAME/PROBLEM, with * for any text -> why the check fails.
        **options: options of the analysis.

    Raises:
        UnknownNameError: no analysis has this name.
        ValueError: a known failure matches no check.

    Example:
        import pytest
        from eigencore.testing import analysis_checks

        @pytest.mark.parametrize("check", analysis_checks("robustness", "demo:digits-numpy", images=40))
        def test_conforms(check):
            check()
    """
    if entry is None:
        entry = declared_entry(AnalysisEntry, analysis)
    subject = AnalysisSubject(analysis, entry, problem, options)
    selected = ALWAYS if entry.eigenpairs else ALWAYS + WITHOUT_PAIRS
    return with_known_failures(checks_of(subject, selected), known_failures, entry.name)


check_analysis = runner_of(
    analysis_checks,
    example="""from eigencore.testing import check_analysis

        check_analysis("robustness", "demo:digits-numpy", images=40)""",
)
