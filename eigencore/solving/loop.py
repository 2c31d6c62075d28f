"""One solve: consumes a solver's snapshots, stops it, has its answer certified, and describes how it ended.

A solver yields snapshots and knows nothing of budgets. The core may stop it between two snapshots; a solver
that yields only once can be stopped within a product, by the counting operator.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import Culprit, EigencoreError, NotFiniteError, blame, described
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.operators import release
from eigencore.operators.conversion import notes_of
from eigencore.operators.counting import counting
from eigencore.request import Request, precision_floor
from eigencore.results import EigenResult, Status, Step
from eigencore.solving.advice import Outcome, advise, caveats
from eigencore.solving.budget import Budget, Ending, Halt
from eigencore.solving.callback import ProgressCallback
from eigencore.solving.certificate import Claim, Grade, certificate_vectors, certify, resolvable, ungraded
from eigencore.solving.completeness import CompletenessSearch, not_proved
from eigencore.solving.product_checks import ProductChecks
from eigencore.solving.selected import SelectedSolver
from eigencore.solving.snapshots import Pace, refuse_malformed, vectors_of
from eigencore.solving.start import ResumableState

if TYPE_CHECKING:
    from eigencore.space import Array

Progress = Callable[[Step], None]
log = logging.getLogger(__name__)

STATUS = {
    Ending.PRODUCTS: Status.BUDGET,
    Ending.TIME: Status.BUDGET,
    Ending.INTERRUPTED: Status.INTERRUPTED,
    Ending.STALLED: Status.STAGNATED,
    Ending.PASSED: Status.STAGNATED,
    Ending.RETURNED: Status.BREAKDOWN,
    Ending.FAILED: Status.BREAKDOWN,
}


@dataclass
class Job:
    """One solve: what was requested, and what has been computed so far.

    Attributes:
        complete: the probability at which no eigenvalue is to be missed; None: that is not examined.
        start_bound: what is known of the start vector (see `CompletenessSearch`).
        claim: the pairs of the last snapshot.
        formed: its vectors in its own order, as the snapshot formed them; None if they are unusable.
        error: why the solve failed: an error of ours, or as it is an exception of the caller's function.
    """

    operator: LinearOperator
    request: Request
    selected: SelectedSolver
    budget: Budget
    level: str
    progress: Progress | None
    complete: float | None = None
    start_bound: float = 0.0
    history: list[Step] = field(default_factory=list)
    last: Snapshot | None = None
    search: CompletenessSearch | None = None
    claim: Claim = field(init=False)
    formed: Array | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.claim = self._no_pairs()
        self._report = ProgressCallback(self.progress)
        self._checks = ProductChecks(self.operator, refused_by_solver=self.selected.refuses_non_finite)

    def run(self, resumed: ResumableState | None) -> EigenResult:
        """Runs the solve. There is a result even if the solve fails; `error` then holds the reason."""
        counted = counting(
            self.operator,
            before=self.budget.before_product,
            after=self._after_product,
            after_sample=self._after_sample,
            failed=_halt,
        )
        chained = counting(
            self.operator, before=self.budget.before_product, after=self._after_own_product, failed=_halt
        )
        fresh = counting(
            self.operator, before=self.budget.before_certificate, after=self._checks.after_own, failed=_halt
        )
        chains = 0 if resumed is None else resumed.chains
        self._checks.norm = 0.0 if resumed is None else resumed.norm
        if self.complete is not None:
            self.search = CompletenessSearch(
                chained,
                self.request,
                self.complete,
                start_bound=self.start_bound if resumed is None else 0.0,
                refused=lambda: self.budget.refusal() is not None,
                spent=lambda: self.budget.spent,
                after_product=self._record_product,
                chains=chains,
            )
        snapshots = self.selected.start(counted, self.request, None if resumed is None else resumed.state)
        try:
            ending, grade = self._attempt(snapshots, self.request, fresh)
            if grade.refuted and ending is Ending.PASSED:
                # The solver's estimates were too low: continue once, at a quarter of the tolerance.
                stricter = replace(self.request, tol=self.request.tol / 4)
                if self.search is not None:
                    self.search.begin_again(from_pairs=self.selected.once)
                if self.selected.once:
                    self._close(snapshots)
                    snapshots = self.selected.start(counted, replace(stricter, start=self.claim.vectors))
                certified = self.claim, grade
                ending, grade = self._attempt(snapshots, stricter, fresh)
                if grade.certificate.level == "none":  # the estimates alone are not credible any more
                    self.claim, grade = certified
            state = self._state(chains)
        finally:
            self._close(snapshots)
        matvecs = counted.matvecs + chained.matvecs + fresh.matvecs
        result = self._result(ending, grade, matvecs, fresh.matvecs, state)
        # The search and the snapshot's functions refer to counted operators, and these to this job: without
        # these cycles, the operator and its graphs are freed as soon as the caller lets go of them.
        self.last = self.search = None
        return result

    def _after_product(self, V: Array, AV: Array) -> None:
        self.budget.after_product()
        self._checks.after(V, AV)

    def _after_own_product(self, V: Array, AV: Array) -> None:
        self.budget.after_product()
        self._checks.after_own(V, AV)

    def _after_sample(self, V: Array, AV: Array) -> None:
        self.budget.after_product(sample=True)
        self._checks.after_sample(V, AV)

    def _attempt(
        self, snapshots: Generator[Snapshot, Array | None, None], request: Request, fresh: LinearOperator
    ) -> tuple[Ending, Grade]:
        """Consumes snapshots until the solve must or may stop, and grades the last one."""
        before, ending = self.last, Ending.FAILED
        try:
            ending = self._consume(snapshots, request)
        except Halt as halt:
            ending, self.error = halt.ending or ending, halt.error
        except NotFiniteError as error:
            self.error = self._checks.diagnosis() or self.selected.failure(error)
        except BaseException as error:  # also one that nothing may catch: `solve` raises it
            self.error = self.selected.failure(error)
        if self.last is not before:
            self.claim = self._claimed()
        try:
            return ending, self._grade(ending, fresh)
        except Halt as halt:
            ending, self.error = halt.ending or Ending.FAILED, halt.error
        except NotFiniteError as error:
            ending, self.error = Ending.FAILED, self._checks.diagnosis() or error
        except (Exception, SystemExit) as error:
            ending = Ending.FAILED
            self.error = blame(error, Culprit.CERTIFICATE, EigencoreError, "the certificate failed")
        except BaseException as error:
            ending, self.error = Ending.FAILED, error
        if isinstance(self.error, EigencoreError):
            self.error.culprit = Culprit.CERTIFICATE
        return ending, self._grade(ending, fresh)

    def _close(self, snapshots: Generator[Snapshot, Array | None, None]) -> None:
        """Closes the solver. A Halt is ignored: a product of its clean-up may exceed the budget."""
        try:
            snapshots.close()
        except Halt:
            pass
        except BaseException as error:
            self.error = self.error or self.selected.failure(error)

    def _consume(self, snapshots: Generator[Snapshot, Array | None, None], request: Request) -> Ending:
        eps, rows = arrays.eps(self.operator), arrays.local_rows(self.operator)
        capped = self.budget.max_matvecs is not None
        pace = Pace(math.inf if capped else max(500, 50 * request.k), at=self.budget.spent)
        missed: Array | None = None
        while True:
            try:
                yielded = next(snapshots) if missed is None else snapshots.send(missed)
            except StopIteration:
                return Ending.RETURNED
            missed = None
            self.last = snapshot = refuse_malformed(yielded, request.k)
            if self.search is not None:
                self.search.add(snapshot)
            thresholds = request.thresholds(snapshot.values, precision_floor(eps, snapshot.norm))
            passed = snapshot.residuals <= thresholds
            complete = len(passed) >= request.k
            with np.errstate(divide="ignore", invalid="ignore"):
                worst = float(np.max(snapshot.residuals / thresholds, initial=0.0))
            self._record(snapshot, passed, worst if complete else math.inf)
            if complete and bool(np.all(passed)):
                if self.search is None:
                    return Ending.PASSED
                ended, missed = self.search.examine(snapshot, partial(vectors_of, snapshot, rows))
                if ended:
                    return Ending.PASSED
            elif not self.selected.once and pace.stalled(self.budget.spent, len(passed), worst):
                return Ending.STALLED
            refusal = None if self.selected.once else self.budget.refusal()
            if refusal is not None:
                return refusal

    def _record(self, snapshot: Snapshot, passed: Any, worst: float) -> None:
        first = next((i for i, fine in enumerate(passed) if not fine), None)
        row = Step(
            matvecs=self.budget.spent,
            seconds=self.budget.seconds,
            values=tuple(float(value) for value in snapshot.values),
            converged=int(np.sum(passed)),
            value=None if first is None else float(snapshot.values[first]),
            residual=None if first is None else float(snapshot.residuals[first]),
            restarts=snapshot.restarts,
            worst=worst if math.isfinite(worst) else None,
        )
        self._append(row)

    def _record_product(self) -> None:
        """Records a product that was made in search of missed eigenvalues."""
        self._append(replace(self.history[-1], matvecs=self.budget.spent, seconds=self.budget.seconds))

    def _append(self, row: Step) -> None:
        self.history.append(row)
        log.debug("%g products: %d of %d converged", row.matvecs, row.converged, self.request.k)
        self._report(row)

    def _no_pairs(self) -> Claim:
        rows = arrays.local_rows(self.operator)
        return Claim(np.zeros(0), arrays.zeros((rows, 0), self.operator), np.zeros(0), 0.0)

    def _claimed(self) -> Claim:
        """The last snapshot's pairs, in the request's order. Its vectors are formed while they are valid."""
        self.formed = None
        if self.last is None or len(self.last.values) == 0:
            return self._no_pairs()
        try:
            vectors = arrays.trimmed(vectors_of(self.last, arrays.local_rows(self.operator)))
            if not (np.all(np.isfinite(self.last.values)) and arrays.is_finite(vectors, self.operator)):
                return self._no_pairs()
            self.formed = vectors
            order = self.request.order(self.last.values)
            if not np.array_equal(order, np.arange(len(self.last.values))):
                index = self.operator.xp.asarray(order, device=self.operator.device)
                vectors = self.operator.xp.take(vectors, index, axis=1)
        except BaseException as error:
            self._keep_first(error)
            return self._no_pairs()
        return Claim(self.last.values[order], vectors, self.last.residuals[order], self.last.norm)

    def _state(self, chains: int) -> ResumableState | None:
        """The state of the last snapshot, formed while it is valid; None if its vectors are unusable."""
        if self.last is None or self.last.state is None or self.formed is None:
            return None
        if self.search is not None:
            chains = self.search.chains
        try:
            state = self.last.state(self.formed)
            rows, dtype = self.formed.shape[0], str(self.operator.dtype)
            return ResumableState(self.selected.name, state, rows, dtype, self.last.norm, chains)
        except BaseException as error:
            self._keep_first(error)
            return None

    def _keep_first(self, error: BaseException) -> None:
        """Keeps an error in forming the last snapshot, unless the run already ended with another one."""
        if self.error is None:
            self.error = error.error if isinstance(error, Halt) else self.selected.failure(error)

    def _grade(self, ending: Ending, fresh: LinearOperator) -> Grade:
        claim = self.claim
        if self.error is not None or ending is Ending.INTERRUPTED or len(claim.values) == 0:
            return ungraded(self.operator, claim, self.request, self._why_no_certificate(ending))
        vectors = certificate_vectors(self.level, len(claim.values)) * arrays.local_rows(self.operator)
        release(self.operator, needed=vectors * arrays.itemsize(self.operator))
        return certify(fresh, claim, self.request, level=self.level, allowance=self.budget.left())

    def _why_no_certificate(self, ending: Ending) -> str:
        if ending is Ending.INTERRUPTED:
            return "the solve was interrupted"
        if self.error is None:
            return "there was no answer to certify"
        of_certificate = getattr(self.error, "culprit", None) is Culprit.CERTIFICATE
        return "the certificate failed" if of_certificate else "the solve failed"

    def _result(
        self, ending: Ending, grade: Grade, matvecs: float, certifying: float, state: ResumableState | None
    ) -> EigenResult:
        k, converged = self.request.k, int(np.sum(grade.converged))
        certificate = replace(grade.certificate, matvecs=certifying)
        if self.search is not None:
            if self.error is None and self.last is not None and len(self.claim.values):
                self.search.rely_on_recurrence(self.last)
            certificate = self.search.certified(certificate, converged=converged == k)
        open_questions = not_proved(self.request, certificate, self.operator.shape[0])
        certificate = replace(certificate, not_proved=open_questions)
        grade = resolvable(replace(grade, certificate=certificate))
        notes = (*(self.last.notes if self.last else ()), *notes_of(self.operator))
        return EigenResult(
            values=self.claim.values,
            vectors=self.claim.vectors,
            residuals=grade.residuals,
            converged=grade.converged,
            status=Status.CONVERGED if converged == k else STATUS[ending],
            advice=self._advice(ending, grade, matvecs),
            matvecs=matvecs,
            seconds=self.budget.seconds,
            certificate=grade.certificate,
            solver=self.selected.name,
            k=k,
            which=self.request.which,
            tol=self.request.tol,
            seed=self.request.seed,
            n=self.operator.shape[0],
            dtype=str(self.operator.dtype),
            device=str(self.operator.device),
            history=tuple(self.history),
            notes=(*notes, *caveats(certificate)),
            options=self.selected.options_as_dict(),
            state=state,
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
                exact=grade.certificate.exact,
                k=self.request.k,
                converged=int(np.sum(grade.converged)),
                tol=self.request.tol,
                residual=None if worst is None else float(grade.residuals[worst]),
                threshold=None if worst is None else float(thresholds[worst]),
                solver=self.selected.name,
                dtype=str(self.operator.dtype),
                matvecs=matvecs,
                seconds=self.budget.seconds,
                max_matvecs=self.budget.max_matvecs,
                max_seconds=self.budget.max_seconds,
                reserved=self.budget.reserved,
                per_product=self.budget.seconds_per_product,
                failure="" if self.error is None else _first_line(self.error),
                history=self.history,
                complete=grade.certificate.complete,
                ignored=self.search is not None and self.search.ignored,
                cut_short=self.search is not None and self.search.cut_short,
            )
        )


def _halt(error: EigencoreError) -> None:
    raise Halt(error=error)


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, EigencoreError) else described(error)
    return text.partition("\n")[0]
