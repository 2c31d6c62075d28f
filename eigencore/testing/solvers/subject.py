"""The solver under test, its answer to a case of the gallery, and an operator that fails on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.entries import SolverEntry
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.request import Request, precision_floor
from eigencore.results import EigenResult
from eigencore.solving.solve import solve
from eigencore.solving.start import start_vector
from eigencore.space import Array
from eigencore.testing.checks import loaded
from eigencore.testing.gallery import Case, SpectralOperator
from eigencore.testing.libraries import Library
from eigencore.testing.side_effects import InjectedInterrupt

if TYPE_CHECKING:
    from eigencore.space import Floats

MAX_PRODUCTS = 2000  # the maximum number of products for a case
NOISE = 300  # what rounding may add to a value or a residual in a long run, in rounding units of ||A||


@dataclass(frozen=True)
class SolverSubject:
    """A solver on one array library. `entry` is what the solver declares."""

    solver: str | Solver
    entry: SolverEntry
    library: Library
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return str(self.library)

    def solve(self, case: Case, **keywords: Any) -> SolverAnswer:
        """The answer to a case, uncertified unless requested: the solver is tested, not the core."""
        operator = case.operator(self.library)
        request: dict[str, Any] = {
            "k": case.k,
            "which": case.which,
            "tol": case.tol_in(self.library),
            "start": case.start_in(self.library),
            "max_matvecs": MAX_PRODUCTS,
            "certify": "none",
        }
        result = solve(operator, solver=self.solver, **(request | keywords), **self.options)
        return SolverAnswer(case, self.library, result, operator)

    def snapshots(
        self, case: Case, operator: LinearOperator, start: Array | None = None, state: Any = None
    ) -> Generator[Snapshot, None, None]:
        """The generator that the solver itself returns, without the core in between."""
        request = Request(case.k, case.which, case.tol_in(self.library), start=start)
        request = replace(request, start=start_vector(request, operator, mixed=False)[0])
        solver, options = loaded(self.solver, self.entry, self.options)
        snapshots: Generator[Snapshot, None, None] = solver(
            operator, request, SimpleNamespace() if options is None else options, state=state
        )
        return snapshots


@dataclass(frozen=True)
class SolverAnswer:
    """A result with what it is compared with: the exact operator in float64 on the host, and its spectrum.

    `operator` is the operator that was solved, which has counted its products.
    """

    case: Case
    library: Library
    result: EigenResult
    operator: SpectralOperator

    @cached_property
    def vectors(self) -> Floats:
        """The eigenvectors (n, pairs) on the host."""
        return arrays.to_host(self.result.vectors)

    @cached_property
    def residual_block(self) -> Floats:
        """R = A V - V diag(theta) with the columns of V scaled to norm 1."""
        V = self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=0), np.finfo(float).tiny)
        return np.asarray(self.case.exact(self.library).matmat(V) - V * self.result.values)

    @cached_property
    def residuals(self) -> Floats:
        """The true residual of each pair."""
        return np.array([arrays.norm(column) for column in self.residual_block.T])

    @cached_property
    def floor(self) -> float:
        """The precision floor, below which a residual counts as zero.

        It is the largest of three: rounding at ||A||, the floor of the certificate as far as it is plausible,
        and the error of the products themselves.
        """
        least = precision_floor(self.library.eps, self.case.norm)
        certified = min(self.result.certificate.floor or 0.0, NOISE * self.rounding)
        products = self.case.operator(self.library).matmat(self.result.vectors)
        errors = arrays.to_host(products) - self.case.exact(self.library).matmat(self.vectors)
        return max([least, certified, *(arrays.norm(column) for column in errors.T)])

    @property
    def rounding(self) -> float:
        """One rounding unit of ||A||."""
        return self.library.eps * self.case.norm

    @cached_property
    def thresholds(self) -> Floats:
        """Twice the residual at which a pair counts as converged."""
        return 2 * np.maximum(self.result.tol * np.abs(self.result.values), self.floor)

    @cached_property
    def slack(self) -> Floats:
        """How far a converged value may lie from the eigenvalue that it matches: ||R||_2 (Kahan) + threshold.

        R has only the converged pairs, so that a large residual of another pair does not widen the slack.
        """
        R = self.residual_block[:, self.result.converged]
        size = float(np.max(np.abs(R), initial=0.0))
        return self.thresholds + (size * float(np.linalg.norm(R / size, 2)) if size > 0 else 0.0)


class FailingOperator:
    """The operator of a case, which returns at most `last` products.

    After that it raises `error`, or returns NaN if `error` is None.
    """

    def __init__(
        self,
        case: Case,
        library: Library,
        last: float = math.inf,
        error: type[BaseException] | None = InjectedInterrupt,
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
        return self._multiply(self._A.matvec, v, 1)

    def matmat(self, V: Array, /) -> Array:
        return self._multiply(self._A.matmat, V, V.shape[1])

    def _multiply(self, product: Callable[[Array], Array], V: Array, columns: int) -> Array:
        self.calls += 1
        if self.products + columns <= self.last:
            return product(V)
        if self.error is None:
            return V * math.nan
        raise self.error()
