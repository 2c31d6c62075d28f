"""Chooses the analyses of a run, and runs each so that one that fails costs nothing but itself."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eigencore.entries import AnalysisEntry, Capability
from eigencore.errors import PluginError
from eigencore.interfaces import AnalysisContext
from eigencore.registry import load, registry, require, resolve_options
from eigencore.results import AnalysisResult
from eigencore.runs import host

Selected = dict[str, AnalysisEntry]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """An analysis that will run; `name` is unique within the run."""

    name: str
    entry: AnalysisEntry
    options: Any


@dataclass
class Findings:
    """What came of the analyses: `failed` says by name how, `stopped` names the one that Ctrl-C ended."""

    results: dict[str, AnalysisResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


def find_analyses(names: Iterable[str]) -> Selected:
    """The analyses of those names, each of which can be loaded.

    Raises:
        UnknownNameError, UsageError, PluginError: one can't.
    """
    chosen = {name: registry().find(AnalysisEntry, name) for name in names}
    for entry in chosen.values():
        load(entry)
    return chosen


def plan(
    asked: Selected | None,
    offered: frozenset[Capability],
    options: Mapping[str, Mapping[str, Any]],
    problem: str,
) -> tuple[Planned, ...]:
    """The analyses to run, each with its options from `options`.

    Args:
        asked: those asked for by name; None: all whose needs are met by what the problem offers.

    Raises:
        CapabilityError: one that was asked for needs more than that.
        OptionError, UnknownNameError: an option that one can't have.
    """
    for entry in (asked or {}).values():
        require(entry, offered, problem)
    chosen = asked if asked is not None else _possible(offered)
    return tuple(
        Planned(name, entry, resolve_options(entry, options.get(entry.name, {})))
        for name, entry in chosen.items()
    )


def run_analyses(planned: Iterable[Planned], context: AnalysisContext) -> Findings:
    """Runs them one after the other. Of one that fails or is stopped the last result is kept, marked so."""
    findings = Findings()
    for analysis in planned:
        last, ended = None, ""
        try:
            for result in _results(analysis, context):
                last = result
        except KeyboardInterrupt:
            findings.stopped, ended = analysis.name, "interrupted"
        except (Exception, SystemExit) as error:
            told = f"{type(error).__name__}: {error}"
            findings.failed[analysis.name], ended = told, f"failed with {told}"
        log.info("%s: %s", analysis.name, ended or "done")
        if ended:
            last = _marked(last, ended)
        if last is not None:
            findings.results[analysis.name] = last
        if findings.stopped:
            break
    return findings


def _possible(offered: frozenset[Capability]) -> Selected:
    """All analyses whose needs are met; where two plugins bring one name, each by its full name."""
    found = [one for one in registry().entries(AnalysisEntry) if one.entry.needs <= offered]
    counts = Counter(one.entry.name for one in found)
    return {
        one.entry.name
        if counts[one.entry.name] == 1
        else f"{one.entry.name}@{one.plugin.distribution}": one.entry
        for one in found
    }


def _results(analysis: Planned, context: AnalysisContext) -> Generator[AnalysisResult, None, None]:
    """What an analysis yields, checked, with its columns on the host."""
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
            yield replace(result, columns=columns)


def _marked(last: AnalysisResult | None, ended: str) -> AnalysisResult:
    if last is None:
        return AnalysisResult(verdict="no result", warnings=(ended,))
    return replace(last, warnings=(*last.warnings, f"{ended}; this is what it had until then"))
