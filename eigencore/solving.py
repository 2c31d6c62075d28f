"""solve: runs a solver under a request, stops it, grades its answer, and says how it ended.

A solver yields snapshots and knows nothing of budgets; here they are consumed. Between two snapshots the
core may stop; within a product only the counting operator can, for solvers that yield but once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.advice import Outcome, advise
from eigencore.certificate import LEVELS, Claim, Grade, certify, products_needed, ungraded
from eigencore.defaults import SOLVER
from eigencore.errors import EigencoreError, Interrupted, OptionError, PluginError, UsageError
from eigencore.interfaces import Capability, LinearOperator, MinibatchOperator, Snapshot, Solver, SolverEntry
from eigencore.operators import as_operator, counting
from eigencore.options import resolve
from eigencore.registry import load, load_options, registry, require
from eigencore.request import Request, precision_floor
from eigencore.results import Certificate, EigenResult, Status, Step
from eigencore.watching import Ending, Halt, ProductGuard, Watch, interruption

if TYPE_CHECKING:
    from eigencore.interfaces import Array, Floats

Progress = Callable[[Step], None]

STATUS = {
    Ending.PRODUCTS: Status.BUDGET,
    Ending.TIME: Status.BUDGET,
    Ending.INTERRUPTED: Status.INTERRUPTED,
    Ending.STALLED: Status.STAGNATED,
    Ending.PASSED: Status.STAGNATED,
    Ending.RETURNED: Status.BREAKDOWN,
}


def solve(
    op: Any,
    k: int = 5,
    *,
    solver: str | Solver = SOLVER,
    which: str = "LM",
    tol: float = 1e-3,
    seed: int = 0,
    start: Array | None = None,
    state: Any = None,
    max_matvecs: float | None = None,
    max_seconds: float | None = None,
    certify: str = "sketch",
    progress: Progress | None = None,
    **options: Any,
) -> EigenResult:
    """k eigenpairs of a symmetric operator, with a certificate.

    Args:
        op: anything `as_operator` takes.
        k: how many pairs.
        solver: a registered name, or a callable as `interfaces.Solver` says.
        which: "LM" largest magnitude, "LA" largest, "SA" smallest, "BE" both ends.
        tol: a pair has converged when ||A v - theta v|| <= max(tol |theta|, floor of the precision).
        seed: of every random number.
        start: a vector (n,) or block (n, b) to start from.
        state: `EigenResult.state` of an earlier solve by the same solver, to go on from.
        max_matvecs: products at most, the certificate's included.
        max_seconds: time at most, looked at between products.
        certify: "sketch" (three products), "full" (k products) or "none".
        progress: called with a Step after every snapshot.
        **options: of the solver; see `eigen solvers NAME`.

    Raises:
        UsageError: something that can't be asked for; before any product.
        NotFiniteError, NotSymmetricError: by the products; `.partial` holds the result so far.
        Interrupted: Ctrl-C, also where the answer was complete by then; `.result` holds it.
    """
    operator = as_operator(op)
    request = Request(k, which, tol, seed, _as_start(start, operator))
    request.fits(operator.shape[0])
    chosen = _choose(solver, options, request, operator)
    _refuse_bad_limits(max_matvecs, max_seconds, certify)
    with interruption() as flag:
        watch = Watch(max_matvecs, max_seconds, products_needed(certify, k), flag)
        job = _Job(operator, request, chosen, watch, certify, progress)
        result = job.run(state)
    if job.error is not None:
        job.error.partial = result
        raise job.error
    if flag.pressed:
        raise Interrupted(result)
    return result


@dataclass(frozen=True)
class _Chosen:
    """A solver with its options. `once`: it yields a single snapshot, at the end."""

    name: str
    solver: Solver
    options: Any
    once: bool = False

    def told(self) -> dict[str, Any]:
        return dict(vars(self.options))


@dataclass
class _Pace:
    """Whether the worst residual still falls: it must halve within `patience` products."""

    patience: float
    best: float = math.inf
    at: float = 0.0

    def stalled(self, spent: float, worst: float) -> bool:
        if worst < self.best / 2 or self.best == math.inf:
            self.best, self.at = worst, spent
        return spent - self.at > self.patience


@dataclass
class _Job:
    """One solve: what is asked, and what has come of it so far."""

    operator: LinearOperator
    request: Request
    chosen: _Chosen
    watch: Watch
    level: str
    progress: Progress | None
    history: list[Step] = field(default_factory=list)
    last: Snapshot | None = None
    claim: Claim | None = None
    error: EigencoreError | None = None

    def run(self, state: Any) -> EigenResult:
        guard = ProductGuard(self.operator)
        counted = counting(self.operator, before=self.watch.before, after=guard.after)
        fresh = counting(self.operator, before=self.watch.before_certificate, after=guard.after)
        ask = self.chosen.solver
        with contextlib.closing(ask(counted, self.request, self.chosen.options, state=state)) as snapshots:
            ending, grade = self._attempt(snapshots, self.request, fresh)
            if grade.refuted and ending is Ending.PASSED:
                # The solver's word was not enough: once more, at a quarter of the tolerance.
                stricter = replace(self.request, tol=self.request.tol / 4)
                if self.chosen.once and self.claim is not None:
                    anew = replace(stricter, start=self.claim.vectors)
                    snapshots = ask(counted, anew, self.chosen.options)
                ending, grade = self._attempt(snapshots, stricter, fresh)
        return self._result(ending, grade, counted.matvecs + fresh.matvecs, fresh.matvecs)

    def _attempt(
        self, snapshots: Generator[Snapshot, None, None], request: Request, fresh: LinearOperator
    ) -> tuple[Ending, Grade]:
        """Listens until it must or may stop, and grades what was told by then."""
        ending = Ending.RETURNED
        try:
            ending = self._listen(snapshots, request)
        except Halt as halt:
            ending, self.error = halt.ending or ending, halt.error
        except EigencoreError as error:
            self.error = error
        except Exception as error:
            self.error = PluginError(f"the solver {self.chosen.name} failed: {type(error).__name__}: {error}")
            self.error.__cause__ = error
        self.claim = self._claimed()
        try:
            return ending, self._grade(ending, fresh)
        except Halt as halt:
            ending, self.error = halt.ending or ending, halt.error
            return ending, self._grade(Ending.INTERRUPTED, fresh)

    def _listen(self, snapshots: Generator[Snapshot, None, None], request: Request) -> Ending:
        eps = arrays.eps(self.operator)
        capped = self.watch.max_matvecs is not None
        pace = _Pace(math.inf if capped else max(500, 50 * request.k), at=self.watch.spent)
        for snapshot in snapshots:
            self.last = snapshot
            thresholds = request.thresholds(snapshot.values, precision_floor(eps, snapshot.norm))
            passed = snapshot.residuals <= thresholds
            complete = len(passed) >= request.k
            self._record(snapshot, passed)
            if complete and bool(np.all(passed)):
                if snapshot.settled:
                    return Ending.PASSED
            elif not self.chosen.once:
                with np.errstate(divide="ignore", invalid="ignore"):
                    worst = float(np.max(snapshot.residuals / thresholds)) if complete else math.inf
                if pace.stalled(self.watch.spent, worst):
                    return Ending.STALLED
            forbidden = None if self.chosen.once else self.watch.over()
            if forbidden is not None:
                return forbidden
        return Ending.RETURNED

    def _record(self, snapshot: Snapshot, passed: Any) -> None:
        first = next((i for i, fine in enumerate(passed) if not fine), None)
        row = Step(
            matvecs=self.watch.spent,
            seconds=self.watch.seconds,
            values=tuple(float(value) for value in snapshot.values),
            converged=int(np.sum(passed)),
            value=None if first is None else float(snapshot.values[first]),
            residual=None if first is None else float(snapshot.residuals[first]),
            restarts=snapshot.restarts,
        )
        self.history.append(row)
        if self.progress is not None:
            self.progress(row)

    def _claimed(self) -> Claim | None:
        """The last snapshot's pairs, in the request's order; vectors are formed before a solver goes on."""
        if self.last is None or len(self.last.values) == 0:
            return None
        vectors = self.last.vectors()
        if not (np.all(np.isfinite(self.last.values)) and arrays.is_finite(vectors)):
            return None
        order = self.request.order(self.last.values)
        if not np.array_equal(order, np.arange(len(self.last.values))):
            index = self.operator.xp.asarray(order, device=self.operator.device)
            vectors = self.operator.xp.take(vectors, index, axis=1)
        return Claim(self.last.values[order], vectors, self.last.residuals[order], self.last.norm)

    def _grade(self, ending: Ending, fresh: LinearOperator) -> Grade:
        claim = self.claim
        if claim is None:
            claim = Claim(
                np.zeros(0), arrays.zeros((self.operator.shape[0], 0), self.operator), np.zeros(0), 0.0
            )
        eps = arrays.eps(self.operator)
        if self.error is not None or ending is Ending.INTERRUPTED or len(claim.values) == 0:
            why = "it was interrupted" if ending is Ending.INTERRUPTED else "there was no answer to certify"
            return ungraded(claim, self.request, eps, why)
        return certify(fresh, claim, self.request, level=self.level, allowance=self.watch.left())

    def _result(self, ending: Ending, grade: Grade, matvecs: float, certifying: float) -> EigenResult:
        claim, k = self.claim, self.request.k
        converged = int(np.sum(grade.converged))
        values = claim.values if claim else np.zeros(0)
        vectors = claim.vectors if claim else arrays.zeros((self.operator.shape[0], 0), self.operator)
        certificate = replace(grade.certificate, matvecs=certifying)
        told = self.last.notes if self.last else ()
        return EigenResult(
            values=values,
            vectors=vectors,
            residuals=grade.residuals,
            converged=grade.converged,
            status=Status.CONVERGED if converged == k else STATUS[ending],
            advice=self._advice(ending, grade, values, matvecs),
            matvecs=matvecs,
            seconds=self.watch.seconds,
            certificate=certificate,
            solver=self.chosen.name,
            k=k,
            which=self.request.which,
            tol=self.request.tol,
            seed=self.request.seed,
            n=self.operator.shape[0],
            dtype=str(self.operator.dtype),
            device=str(self.operator.device),
            history=tuple(self.history),
            notes=(*told, *_more_notes(certificate, self.last)),
            options=self.chosen.told(),
            state=self.last.state if self.last else None,
        )

    def _advice(self, ending: Ending, grade: Grade, values: Floats, matvecs: float) -> str:
        thresholds = self.request.thresholds(values, grade.certificate.floor or 0.0)
        excess = np.where(grade.converged, -1.0, grade.residuals - thresholds)
        worst = int(np.argmax(excess)) if len(values) and not np.all(grade.converged) else None
        return advise(
            Outcome(
                ending=ending,
                refuted=grade.refuted or grade.certificate.contradicted,
                k=self.request.k,
                converged=int(np.sum(grade.converged)),
                tol=self.request.tol,
                residual=None if worst is None else float(grade.residuals[worst]),
                threshold=None if worst is None else float(thresholds[worst]),
                solver=self.chosen.name,
                dtype=str(self.operator.dtype),
                matvecs=matvecs,
                seconds=self.watch.seconds,
                max_matvecs=self.watch.max_matvecs,
                history=self.history,
            )
        )


def _more_notes(certificate: Certificate, last: Snapshot | None) -> tuple[str, ...]:
    notes = []
    if certificate.floor_decided:
        how = "measured" if certificate.floor_measured else "estimated"
        notes.append(
            f"the precision of the products decided: below {certificate.floor:.1e} ({how}) they show no more"
        )
    if last is not None and not last.settled:
        notes.append(
            "stopped while still looking for copies of what was found: that none is missing isn't shown"
        )
    return tuple(notes)


def _choose(
    solver: str | Solver, options: Mapping[str, Any], request: Request, operator: LinearOperator
) -> _Chosen:
    if not isinstance(solver, str):
        if not callable(solver):
            raise UsageError(f"solver is a {type(solver).__name__}; expected a name or a callable")
        name = getattr(solver, "__name__", type(solver).__name__)
        return _Chosen(name, solver, SimpleNamespace(**options))
    entry = registry().find(SolverEntry, solver)
    if request.which not in entry.which:
        raise UsageError(
            f"{entry.name} finds {', '.join(entry.which)} only; which is {request.which}",
            hint=f"Use the solver {SOLVER}.",
        )
    offered = {Capability.PRODUCTS}
    if isinstance(operator, MinibatchOperator):
        offered.add(Capability.MINIBATCHES)
    require(entry, frozenset(offered), "this operator")
    declared = load_options(entry)
    if declared is None and options:
        raise OptionError(f"{entry.name} has no options; given were {', '.join(options)}")
    resolved = SimpleNamespace() if declared is None else resolve(declared, options, entry=entry.name)
    return _Chosen(entry.name, load(entry), resolved, once=not entry.partial)


def _as_start(start: Any, operator: LinearOperator) -> Array | None:
    """The start vectors as arrays of the operator; a zero or non-finite one is refused."""
    if start is None:
        return None
    block = operator.xp.asarray(start, dtype=operator.dtype, device=operator.device)
    if not arrays.is_finite(block):
        raise UsageError("start holds NaN or infinity")
    if block.ndim in (1, 2) and not bool(operator.xp.any(block != 0)):
        raise UsageError("start is all zeros; expected a vector with a direction")
    return block


def _refuse_bad_limits(max_matvecs: float | None, max_seconds: float | None, certify: str) -> None:
    if max_matvecs is not None and not max_matvecs >= 1:
        raise UsageError(f"max_matvecs is {max_matvecs!r}; expected at least 1, or None")
    if max_seconds is not None and not max_seconds > 0:
        raise UsageError(f"max_seconds is {max_seconds!r}; expected a number above 0, or None")
    if certify not in LEVELS:
        raise UsageError(f"certify is {certify!r}; expected one of {', '.join(LEVELS)}")
