"""One solve from inside: listens to a solver, stops it, grades its answer, and tells how it ended.

A solver yields snapshots and knows nothing of budgets; here they are consumed. Between two snapshots the
core may stop; within a product only the counting operator can, for solvers that yield but once.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.advice import Outcome, advise, caveats
from eigencore.certificate import Claim, Grade, certify, ungraded
from eigencore.errors import EigencoreError, PluginError
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.operators import counting
from eigencore.request import Request, precision_floor
from eigencore.results import EigenResult, Status, Step
from eigencore.snapshots import Pace, refuse_malformed, vectors_of
from eigencore.watching import Ending, Halt, ProductGuard, Watch

Progress = Callable[[Step], None]
log = logging.getLogger(__name__)

STATUS = {
    Ending.PRODUCTS: Status.BUDGET,
    Ending.TIME: Status.BUDGET,
    Ending.INTERRUPTED: Status.INTERRUPTED,
    Ending.STALLED: Status.STAGNATED,
    Ending.PASSED: Status.STAGNATED,
    Ending.RETURNED: Status.BREAKDOWN,
}


@dataclass(frozen=True)
class Chosen:
    """A solver with its options. `once`: it yields a single snapshot, at the end."""

    name: str
    solver: Solver
    options: Any
    once: bool = False

    def told(self) -> dict[str, Any]:
        return dict(vars(self.options))

    def start(
        self, operator: LinearOperator, request: Request, state: Any = None
    ) -> Generator[Snapshot, None, None]:
        try:
            snapshots = self.solver(operator, request, self.options, state=state)
            if not isinstance(snapshots, Generator):
                raise TypeError(f"it returned a {type(snapshots).__name__}; expected a generator")
        except (Exception, SystemExit) as error:
            raise self.failed(error) from error
        return snapshots

    def failed(self, error: BaseException) -> PluginError:
        failure = PluginError(f"the solver {self.name} failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure


@dataclass
class Job:
    """One solve: what is asked, and what has come of it so far."""

    operator: LinearOperator
    request: Request
    chosen: Chosen
    watch: Watch
    level: str
    progress: Progress | None
    history: list[Step] = field(default_factory=list)
    last: Snapshot | None = None
    claim: Claim = field(init=False)
    error: EigencoreError | None = None

    def run(self, state: Any) -> EigenResult:
        guard = ProductGuard(self.operator)
        counted = counting(
            self.operator, before=self.watch.before, after=guard.after, after_sample=guard.after_sample
        )
        fresh = counting(self.operator, before=self.watch.before_certificate, after=guard.after)
        with _closing(self.chosen.start(counted, self.request, state)) as snapshots:
            ending, grade = self._attempt(snapshots, self.request, fresh)
            if grade.refuted and ending is Ending.PASSED:
                # The solver's word was not enough: once more, at a quarter of the tolerance.
                stricter = replace(self.request, tol=self.request.tol / 4)
                if self.chosen.once:
                    snapshots = self.chosen.start(counted, replace(stricter, start=self.claim.vectors))
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
        except (Exception, SystemExit) as error:
            self.error = self.chosen.failed(error)
        self.claim = self._claimed()
        try:
            return ending, self._grade(ending, fresh)
        except Halt as halt:
            ending, self.error = halt.ending or ending, halt.error
            return ending, self._grade(ending, fresh)

    def _listen(self, snapshots: Generator[Snapshot, None, None], request: Request) -> Ending:
        eps = arrays.eps(self.operator)
        capped = self.watch.max_matvecs is not None
        pace = Pace(math.inf if capped else max(500, 50 * request.k), at=self.watch.spent)
        for told in snapshots:
            self.last = snapshot = refuse_malformed(told, request.k)
            thresholds = request.thresholds(snapshot.values, precision_floor(eps, snapshot.norm))
            passed = snapshot.residuals <= thresholds
            complete = len(passed) >= request.k
            with np.errstate(divide="ignore", invalid="ignore"):
                worst = float(np.max(snapshot.residuals / thresholds, initial=0.0))
            self._record(snapshot, passed, worst if complete else math.inf)
            if complete and bool(np.all(passed)):
                if snapshot.settled:
                    return Ending.PASSED
            elif not self.chosen.once and pace.stalled(self.watch.spent, len(passed), worst):
                return Ending.STALLED
            forbidden = None if self.chosen.once else self.watch.over()
            if forbidden is not None:
                return forbidden
        return Ending.RETURNED

    def _record(self, snapshot: Snapshot, passed: Any, worst: float) -> None:
        first = next((i for i, fine in enumerate(passed) if not fine), None)
        row = Step(
            matvecs=self.watch.spent,
            seconds=self.watch.seconds,
            values=tuple(float(value) for value in snapshot.values),
            converged=int(np.sum(passed)),
            value=None if first is None else float(snapshot.values[first]),
            residual=None if first is None else float(snapshot.residuals[first]),
            restarts=snapshot.restarts,
            worst=worst if math.isfinite(worst) else None,
        )
        self.history.append(row)
        log.debug("%g products: %d of %d converged", row.matvecs, row.converged, self.request.k)
        if self.progress is not None:
            self.progress(row)

    def _claimed(self) -> Claim:
        """The last snapshot's pairs, in the request's order; vectors are formed before a solver goes on."""
        none = Claim(np.zeros(0), arrays.zeros((self.operator.shape[0], 0), self.operator), np.zeros(0), 0.0)
        if self.last is None or len(self.last.values) == 0:
            return none
        try:
            vectors = vectors_of(self.last, self.operator.shape[0])
        except Exception as error:
            self.error = self.chosen.failed(error)
            return none
        if not (np.all(np.isfinite(self.last.values)) and arrays.is_finite(vectors)):
            return none
        order = self.request.order(self.last.values)
        if not np.array_equal(order, np.arange(len(self.last.values))):
            index = self.operator.xp.asarray(order, device=self.operator.device)
            vectors = self.operator.xp.take(vectors, index, axis=1)
        return Claim(self.last.values[order], vectors, self.last.residuals[order], self.last.norm)

    def _grade(self, ending: Ending, fresh: LinearOperator) -> Grade:
        claim, eps = self.claim, arrays.eps(self.operator)
        if self.error is not None or ending is Ending.INTERRUPTED or len(claim.values) == 0:
            why = "it was interrupted" if ending is Ending.INTERRUPTED else "there was no answer to certify"
            return ungraded(claim, self.request, eps, why)
        return certify(fresh, claim, self.request, level=self.level, allowance=self.watch.left())

    def _result(self, ending: Ending, grade: Grade, matvecs: float, certifying: float) -> EigenResult:
        k, converged = self.request.k, int(np.sum(grade.converged))
        certificate = replace(grade.certificate, matvecs=certifying)
        told = self.last.notes if self.last else ()
        return EigenResult(
            values=self.claim.values,
            vectors=self.claim.vectors,
            residuals=grade.residuals,
            converged=grade.converged,
            status=Status.CONVERGED if converged == k else STATUS[ending],
            advice=self._advice(ending, grade, matvecs),
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
            notes=(*told, *caveats(certificate, settled=self.last is None or self.last.settled)),
            options=self.chosen.told(),
            state=self.last.state if self.last else None,
        )

    def _advice(self, ending: Ending, grade: Grade, matvecs: float) -> str:
        values = self.claim.values
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


@contextlib.contextmanager
def _closing(snapshots: Generator[Snapshot, None, None]) -> Iterator[Generator[Snapshot, None, None]]:
    """Closes a solver in the end; what it multiplies while it cleans up may be beyond the budget."""
    try:
        yield snapshots
    finally:
        with contextlib.suppress(Halt):
            snapshots.close()
