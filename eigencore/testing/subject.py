"""The solver under test, and the operators that it is watched through."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from eigencore.entries import SolverEntry
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.options import resolve
from eigencore.registry import load, load_options
from eigencore.request import Request
from eigencore.solving.solve import solve
from eigencore.space import Array
from eigencore.testing.gallery import Case
from eigencore.testing.laws import CAP, Answer
from eigencore.testing.libraries import Library


@dataclass(frozen=True)
class Subject:
    """A solver on one array library. `entry` says what it declares."""

    solver: str | Solver
    entry: SolverEntry
    library: Library
    options: Mapping[str, Any] = field(default_factory=dict)

    def solve(self, case: Case, **keywords: Any) -> Answer:
        """Its answer to a case, which the core does not grade unless asked to: the solver is tested."""
        operator = case.operator(self.library)
        asked: dict[str, Any] = {
            "k": case.k,
            "which": case.which,
            "tol": case.tol_in(self.library),
            "start": case.start_in(self.library),
            "max_matvecs": CAP,
            "certify": "none",
        }
        result = solve(operator, solver=self.solver, **(asked | keywords), **self.options)
        return Answer(case, self.library, result, operator)

    def snapshots(
        self, case: Case, operator: LinearOperator, start: Array | None = None
    ) -> Generator[Snapshot, None, None]:
        """Its own generator, with nothing of the core in between."""
        request = Request(case.k, case.which, case.tol_in(self.library), start=start)
        if not isinstance(self.solver, str):
            return self.solver(operator, request, SimpleNamespace(**self.options))
        declared = load_options(self.entry)
        options = (
            SimpleNamespace() if declared is None else resolve(declared, self.options, entry=self.solver)
        )
        solver: Solver = load(self.entry)
        return solver(operator, request, options)


class StopHere(BaseException):
    """What a tripwire raises, as the core's budget does: no Exception."""


class Failure(Exception):  # noqa: N818 - it is one, of the operator's
    """What a tripwire raises, as an operator that fails does."""


class Tripwire:
    """A case's operator that gives no more than `last` products: it raises `error`, or gives NaN for None."""

    def __init__(
        self,
        case: Case,
        library: Library,
        last: float = math.inf,
        error: type[BaseException] | None = StopHere,
    ):
        self._A = case.operator(library)
        self.shape, self.xp = self._A.shape, self._A.xp
        self.dtype, self.device = self._A.dtype, self._A.device
        self.last, self.error = last, error
        self.calls = 0

    @property
    def products(self) -> int:
        return self._A.products

    def matvec(self, v: Array, /) -> Array:
        return self._pass(self._A.matvec, v, 1)

    def matmat(self, V: Array, /) -> Array:
        return self._pass(self._A.matmat, V, V.shape[1])

    def _pass(self, product: Callable[[Array], Array], V: Array, columns: int) -> Array:
        self.calls += 1
        if self.products + columns <= self.last:
            return product(V)
        if self.error is None:
            return V * math.nan
        raise self.error()
