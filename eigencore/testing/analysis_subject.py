"""The analysis under test, and the run that it is a part of."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

from eigencore.attacks.attack import attack
from eigencore.entries import DEFAULT_KIND, AnalysisEntry
from eigencore.interfaces import Analysis, AnalysisContext, Problem
from eigencore.problems import bind, find_problem
from eigencore.registry import load, require, resolve_options
from eigencore.results import AnalysisResult, EigenResult
from eigencore.runs import load as load_run
from eigencore.solving.solve import solve

PAIRS = 3


@dataclass(frozen=True)
class AnalysisSubject:
    """An analysis on a problem. `entry` says what it declares."""

    analysis: str | Analysis
    entry: AnalysisEntry
    problem: str | Problem
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return self.problem if isinstance(self.problem, str) else self.problem.name or "problem"

    @cached_property
    def context(self) -> AnalysisContext:
        """Of a run that found its pairs."""
        problem = find_problem(self.problem) if isinstance(self.problem, str) else self.problem
        bound = bind(problem)
        require(self.entry, bound.capabilities, self.where)
        return AnalysisContext(
            problem=problem,
            bound=bound,
            eigen=self._solved(bound.operator()),
            kind=DEFAULT_KIND,
            params=None,
            attack=partial(attack, bound),
            solve=solve,
            load=load_run,
            seed=0,
            progress=lambda line: None,
        )

    @cached_property
    def unfinished(self) -> AnalysisContext:
        """Of a run that was stopped after two products."""
        eigen = self._solved(self.context.bound.operator(), max_matvecs=2, certify="none")
        return replace(self.context, eigen=eigen)

    def results(self, context: AnalysisContext | None = None) -> Generator[AnalysisResult, None, None]:
        """What it yields, with nothing of the core in between."""
        given = context or self.context
        if isinstance(self.analysis, str):
            analysis: Analysis = load(self.entry)
            return analysis(given, resolve_options(self.entry, self.options))
        return self.analysis(given, SimpleNamespace(**self.options))

    def last(self) -> AnalysisResult:
        *_, result = self.results()
        return result

    def _solved(self, operator: Any, **limits: Any) -> EigenResult:
        return solve(operator, min(PAIRS, operator.shape[0]), **limits)
