"""Selects the analyses of a run, and runs them so that a failed one does not affect the rest."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.entries import AnalysisEntry, Capability
from eigencore.errors import Culprit, EigencoreError, PluginError, described
from eigencore.figures import Figure, check_figure
from eigencore.interfaces import AnalysisContext
from eigencore.news import WorkDone
from eigencore.operators.counting import CountingOperator, counting
from eigencore.registry import load, registry, require, resolve_options
from eigencore.results import AnalysisFailure, AnalysisResult
from eigencore.runs import host
from eigencore.solving import Budget, Ending, Halt, ProductChecks, ProgressCallback

if TYPE_CHECKING:
    from eigencore.news import News, Progress
    from eigencore.results import AttackResult, EigenResult, Step
    from eigencore.space import Array

Selected = dict[str, AnalysisEntry]
NO_RESULT = "no result"  # the verdict for an analysis that ended before its first result
log = logging.getLogger(__name__)


class KeptResults(Protocol):
    """Where the results of analyses are kept while a run works, as in its journal."""

    def finished(self, name: str, /) -> AnalysisResult | None: ...
    def keep(self, name: str, result: AnalysisResult, /) -> None: ...


@dataclass(frozen=True)
class Planned:
    """An analysis that will run, with its resolved options; `name` is unique within the run."""

    name: str
    entry: AnalysisEntry
    options: Any


@dataclass
class Findings:
    """What the analyses of a run found.

    Attributes:
        results, failed: the results and the failures, by analysis.
        stopped: the name of the analysis that Ctrl-C stopped.
        spent: whether an analysis was stopped by the limits of the run.
        raised: an exception of the caller's progress function, or one that nothing may catch.
    """

    results: dict[str, AnalysisResult] = field(default_factory=dict)
    failed: dict[str, AnalysisFailure] = field(default_factory=dict)
    stopped: str | None = None
    spent: bool = False
    raised: BaseException | None = None

    @property
    def finished(self) -> bool:
        """Whether no analysis failed or was stopped."""
        return not (self.failed or self.spent or self.stopped or self.raised is not None)


def find_analyses(names: Iterable[str]) -> Selected:
    """The entries of the analyses with these names; each is loaded, so that a failure is reported early.

    Raises:
        UnknownNameError: no analysis has that name.
        UsageError: several plugins provide an analysis of that name.
        PluginError: an analysis cannot be loaded.
    """
    selected = {name: registry().find(AnalysisEntry, name) for name in names}
    for entry in selected.values():
        load(entry)
    return selected


def plan(
    requested: Selected | None,
    offered: frozenset[Capability],
    options: Mapping[str, Mapping[str, Any]],
    problem: str,
) -> tuple[Planned, ...]:
    """The analyses to run, with their options resolved.

    Args:
        requested: the analyses that the user named; None: those that run by default and need no more than
            the problem offers.
        offered: the capabilities of the bound problem.
        options: the given options, by entry.
        problem: the name of the problem, for messages.

    Raises:
        CapabilityError: a requested analysis needs more than the problem offers.
        OptionError, UnknownNameError: an option of an analysis is invalid.
    """
    for entry in (requested or {}).values():
        require(entry, offered, problem)
    selected = requested if requested is not None else _possible(offered)
    return tuple(
        Planned(name, entry, resolve_options(entry, options.get(entry.name, {})))
        for name, entry in selected.items()
    )


def run_analyses(
    planned: Iterable[Planned], context: AnalysisContext, budget: Budget, journal: KeptResults | None = None
) -> Findings:
    """Runs the analyses in turn. If one fails or is stopped, its last result is kept and gets a warning.

    Args:
        context: what each of them gets, but with an operator whose products are counted and checked.
        budget: what remains of the run's limits, which their products are charged to.
        journal: keeps the results of those that finish; those that it has do not run again.
    """
    findings, progress = Findings(), ProgressCallback(context.progress)
    for analysis in planned:
        kept = None if journal is None else journal.finished(analysis.name)
        if kept is not None:
            findings.results[analysis.name] = kept
            budget.spent += kept.matvecs
            continue
        began, last, ended = budget.clock(), None, ""
        operator = _counted(context, budget)
        own = replace(
            context,
            operator=operator,
            progress=progress,
            attack=_attacking(context.attack, analysis.name, progress),
            solve=_solving(context.solve, analysis.name, progress),
        )
        try:
            with operator.processes.together(f"the analysis {analysis.name}"):
                for result in _results(analysis, own):
                    last = replace(result, matvecs=operator.matvecs, seconds=budget.clock() - began)
        except BaseException as error:
            reason = error.error if isinstance(error, Halt) and error.error is not None else error
            if progress.error is not None:
                ended = f"stopped, because the progress function raised {described(progress.error)}"
            elif isinstance(reason, Halt):
                findings.spent, ended = True, _limit(reason, budget, operator.matvecs)
            elif isinstance(reason, KeyboardInterrupt):
                findings.stopped, ended = analysis.name, "interrupted"
            elif isinstance(reason, Exception | SystemExit):
                findings.failed[analysis.name] = failure = _failure(reason)
                ended = f"failed with {failure.message}"
            else:
                findings.raised, ended = reason, f"stopped by {described(reason)}"
        findings.raised = progress.error or findings.raised
        log.info("%s: %s (%g products)", analysis.name, ended or "done", operator.matvecs)
        if ended:
            last = _with_warning(last, ended)
        if last is not None:
            findings.results[analysis.name] = last
            if journal is not None and not ended:
                journal.keep(analysis.name, last)
        if findings.stopped or findings.raised is not None:
            break
    return findings


def _attacking(
    attack: Callable[..., AttackResult], analysis: str, progress: Progress
) -> Callable[..., AttackResult]:
    """The `attack` of an analysis, whose news name the analysis."""

    def named(news: News) -> None:
        progress(replace(news, what=f"{analysis}: {news.what}") if isinstance(news, WorkDone) else news)

    def attacking(name: str, **keywords: Any) -> AttackResult:
        return attack(name, **{"progress": named, **keywords})

    return attacking


def _solving(
    solve: Callable[..., EigenResult], analysis: str, progress: Progress
) -> Callable[..., EigenResult]:
    """The `solve` of an analysis, which reports products: its Steps are no part of the run's history."""

    def spent(step: Step) -> None:
        progress(WorkDone(f"{analysis}: solve", int(step.matvecs), None, "products", step.seconds))

    def solving(*arguments: Any, **keywords: Any) -> EigenResult:
        return solve(*arguments, **{"progress": spent, **keywords})

    return solving


def _counted(context: AnalysisContext, budget: Budget) -> CountingOperator:
    """The operator that an analysis gets. Its products raise a Halt that no analysis catches."""
    checks = ProductChecks(context.operator)
    if context.pairs is not None and len(context.pairs.values):
        # In the complement of the eigenvectors, products may be nothing but rounding errors of this norm.
        checks.norm = float(max(abs(context.eigen.values)))

    def after(V: Array, AV: Array) -> None:
        budget.after_product()
        checks.after(V, AV)

    def after_sample(V: Array, AV: Array) -> None:
        budget.after_product(sample=True)
        checks.after_sample(V, AV)

    return counting(context.operator, before=budget.before_product, after=after, after_sample=after_sample)


def _limit(halt: Halt, budget: Budget, matvecs: float) -> str:
    """Which limit ended an analysis."""
    products = f"after {matvecs:g} product{'s' * (matvecs != 1)}"
    if halt.ending is Ending.TIME:
        return f"stopped by max_seconds={budget.max_seconds:g} {products}"
    return f"stopped by max_matvecs={budget.max_matvecs:g} {products}"


def _failure(error: BaseException) -> AnalysisFailure:
    """An invalid option or an unsuitable problem, which our errors report, is not the plugin's failure."""
    exit_code = error.exit_code if isinstance(error, EigencoreError) else PluginError.exit_code
    culprit = getattr(error, "culprit", None) or Culprit.ANALYSIS
    details = "".join(traceback.format_exception(error))
    ours = (
        error
        if isinstance(error, EigencoreError)
        else PluginError(f"the analysis failed: {described(error)}")
    )
    ours.culprit, ours.__traceback__, ours.__cause__, ours.__context__ = culprit, None, None, None
    return AnalysisFailure(described(error), culprit, exit_code, details, ours)


def _possible(offered: frozenset[Capability]) -> Selected:
    """The analyses that run by default and need no more than is offered."""
    return _where(lambda entry: entry.by_default and entry.needs <= offered)


def impossible(offered: frozenset[Capability]) -> Selected:
    """The analyses that run by default but need more than is offered."""
    return _where(lambda entry: entry.by_default and not entry.needs <= offered)


def _where(condition: Callable[[AnalysisEntry], bool]) -> Selected:
    """All analyses with a property; if two have the same name, both by their full names."""
    found = [item for item in registry().entries(AnalysisEntry) if condition(item.entry)]
    counts = Counter(item.entry.name for item in found)
    return {
        item.entry.name
        if counts[item.entry.name] == 1
        else f"{item.entry.name}@{item.plugin.distribution}": item.entry
        for item in found
    }


def _results(analysis: Planned, context: AnalysisContext) -> Generator[AnalysisResult, None, None]:
    """The results that an analysis yields, checked, with their columns on the host."""
    started = load(analysis.entry)(context, analysis.options)
    if not isinstance(started, Generator):
        raise PluginError(f"it returned a {type(started).__name__}; expected a generator of AnalysisResults")
    with contextlib.closing(started) as results:
        for result in results:
            if not isinstance(result, AnalysisResult):
                raise PluginError(f"it yielded a {type(result).__name__}; expected an AnalysisResult")
            columns = {name: host(column) for name, column in result.columns.items()}
            if len({len(column) for column in columns.values()}) > 1:
                raise PluginError(f"its columns differ in length: {', '.join(columns)}")
            figures = tuple(map(_drawable, result.figures))
            yield replace(result, columns=columns, figures=figures)


def _drawable(figure: Figure) -> Figure:
    """The figure with its arrays on the host; raises PluginError if it can't be drawn."""
    on_host = replace(
        figure,
        series={name: host(series) for name, series in figure.series.items()},
        bands={name: (host(low), host(high)) for name, (low, high) in figure.bands.items()},
        atoms={name: (host(at), host(height)) for name, (at, height) in figure.atoms.items()},
    )
    try:
        check_figure(on_host)
    except ValueError as error:
        raise PluginError(str(error)) from error
    return on_host


def _with_warning(last: AnalysisResult | None, ended: str) -> AnalysisResult:
    if last is None:
        return AnalysisResult(verdict=NO_RESULT, warnings=(ended,))
    return replace(last, warnings=(*last.warnings, f"{ended}; this is its last result"))
