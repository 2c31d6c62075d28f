"""The analysis under test, and the context of the run that it is part of."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from eigencore.attacks.attack import attack
from eigencore.entries import DEFAULT_KIND, AnalysisEntry
from eigencore.interfaces import Analysis, AnalysisContext, Problem
from eigencore.problems import bind, find_problem
from eigencore.registry import require
from eigencore.results import AnalysisResult, EigenResult
from eigencore.runs import load as load_run
from eigencore.solving.solve import solve
from eigencore.testing.checks import loaded

PAIRS = 3


@dataclass(frozen=True)
class AnalysisSubject:
    """An analysis on a problem. `entry` is what the analysis declares."""

    analysis: str | Analysis
    entry: AnalysisEntry
    problem: str | Problem
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return self.problem if isinstance(self.problem, str) else self.problem.name or "problem"

    @cached_property
    def context(self) -> AnalysisContext:
        """The context of a run whose pairs converged."""
        problem = find_problem(self.problem) if isinstance(self.problem, str) else self.problem
        bound = bind(problem)
        require(self.entry, bound.capabilities, self.where)
        operator = bound.operator()
        return AnalysisContext(
            operator=operator,
            problem=problem,
            bound=bound if problem.operator is None else None,
            pairs=self._solved(operator),
            kind=DEFAULT_KIND,
            params=None,
            attack=partial(attack, bound),
            solve=solve,
            load=load_run,
            bind=bind,
            seed=0,
            progress=lambda line: None,
        )

    @cached_property
    def unfinished(self) -> AnalysisContext:
        """The context of a run that was stopped after two products."""
        eigen = self._solved(self.context.operator, max_matvecs=2, certify="none")
        return replace(self.context, pairs=eigen)

    def results(self, context: AnalysisContext | None = None) -> Generator[AnalysisResult, None, None]:
        """The generator that the analysis itself returns, without the core in between."""
        analysis, options = loaded(self.analysis, self.entry, self.options)
        results: Generator[AnalysisResult, None, None] = analysis(context or self.context, options)
        return results

    def last(self) -> AnalysisResult:
        """The last result that the analysis yields, which is the one that counts."""
        *_, result = self.results()
        return result

    def _solved(self, operator: Any, **limits: Any) -> EigenResult:
        return solve(operator, min(PAIRS, operator.shape[0]), **limits)
