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
from eigencore.errors import Culprit, EigencoreError, NotFiniteError, blame
from eigencore.interfaces import Approximation, LinearOperator, Snapshot
from eigencore.news import report
from eigencore.operators import release
from eigencore.operators.conversion import notes_of
from eigencore.request import Request, precision_floor
from eigencore.results import EigenResult, Status, Step
from eigencore.solving.advice import STATUS, Outcome, advise, caveats, first_line
from eigencore.solving.budget import Budget, Ending, Halt
from eigencore.solving.callback import ProgressCallback
from eigencore.solving.certificate import Claim, Grade, certificate_vectors, certify, resolvable, ungraded
from eigencore.solving.completeness import CompletenessSearch, not_proved
from eigencore.solving.products import CountedProducts
from eigencore.solving.refinement import Refinement
from eigencore.solving.selected import SelectedSolver
from eigencore.solving.snapshots import Pace, refuse_malformed, step_of, vectors_of
from eigencore.solving.start import EarlierPart, ResumableState, asked_of

if TYPE_CHECKING:
    from eigencore.space import Array

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One solve: what was requested, and what has been computed so far.

    Attributes:
        complete: the probability at which no eigenvalue is to be missed; None: that is not examined.
        start_bound: what is known of the start vector (see `CompletenessSearch`).
        approximation: what the solver multiplies by in place of the operator; None: by the operator.
        claim: the pairs of the last snapshot.
        formed: its vectors in its own order, as the snapshot formed them; None if they are unusable.
        earlier: the part that this solve continues exactly.
        stricter: whether the solver's estimates were too low, so that it goes on at a lower tolerance.
        error: why the solve failed: an error of ours, or as it is an exception of the caller's function.
    """

    operator: LinearOperator
    request: Request
    selected: SelectedSolver
    budget: Budget
    level: str
    progress: Callable[[Step], None] | None
    complete: float | None = None
    start_bound: float = 0.0
    approximation: Approximation | None = None
    history: list[Step] = field(default_factory=list)
    last: Snapshot | None = None
    search: CompletenessSearch | None = None
    refinement: Refinement | None = None
    claim: Claim = field(init=False)
    formed: Array | None = None
    earlier: EarlierPart | None = None
    stricter: bool = False
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.claim = self._no_pairs()
        self._report = ProgressCallback(self.progress)
        self._products = CountedProducts(
            self.operator,
            self.approximation,
            self.budget,
            refused_by_solver=self.selected.refuses_non_finite,
        )
        self._request = self.request  # that of the solver
        if self.approximation is not None:
            self.refinement = Refinement(self._products, self.approximation, self.request, self.budget)
            self._request = self.refinement.solver_request

    def run(self, resumed: ResumableState | None) -> EigenResult:
        """Runs the solve. There is a result even if the solve fails; `error` then holds the reason."""
        products, request = self._products, self._request
        chains = 0 if resumed is None else resumed.chains
        asked = asked_of(self.request, self.complete, self.selected.options_as_dict())
        self.earlier = None if resumed is None else resumed.earlier_part(asked)
        products.know_norm(0.0 if resumed is None else resumed.norm)
        if self.complete is not None:
            self.search = CompletenessSearch(
                products.of_search,
                self.request,
                self.complete,
                start_bound=self.start_bound if resumed is None else 0.0,
                refused=lambda: self.budget.refusal() is not None,
                spent=self._spent,
                after_product=self._record_product,
                chains=chains,
            )
            if self.earlier is not None:
                self.search.go_on(self.earlier.search)
        snapshots = self.selected.start(
            products.of_solver, request, None if resumed is None else resumed.state
        )
        try:
            ending, grade = self._attempt(snapshots, request)
            if grade.refuted and ending is Ending.PASSED:
                # The solver's estimates were too low: continue once, at a quarter of the tolerance.
                stricter, self.stricter = replace(self.request, tol=self.request.tol / 4), True
                if self.search is not None:
                    self.search.begin_again(from_pairs=self.selected.once)
                if self.selected.once:
                    self._close(snapshots)
                    snapshots = self.selected.start(
                        products.of_solver, replace(stricter, start=self.claim.vectors)
                    )
                certified = self.claim, grade
                ending, grade = self._attempt(snapshots, stricter)
                if grade.certificate.level == "none":  # the estimates alone are not credible any more
                    self.claim, grade = certified
            state = self._state(chains, asked)
        finally:
            self._close(snapshots)
        result = self._result(ending, grade, state)
        # The search and the snapshot's functions refer to counted operators, and these to this job: without
        # these cycles, the operator and its graphs are freed as soon as the caller lets go of them.
        self.last = self.search = self.refinement = None
        return result

    def _attempt(
        self, snapshots: Generator[Snapshot, Array | None, None], request: Request
    ) -> tuple[Ending, Grade]:
        """Consumes snapshots until the solve must or may stop, and grades the last one."""
        before, ending = self.last, Ending.FAILED
        try:
            ending = self._consume(snapshots, request)
        except Halt as halt:
            ending, self.error = halt.ending or ending, halt.error
        except NotFiniteError as error:
            self.error = self._products.diagnosis() or self.selected.failure(error)
        except BaseException as error:  # also one that nothing may catch: `solve` raises it
            self.error = self.selected.failure(error)
        if self.last is not before:
            self.claim = self._claimed()
        try:
            return ending, self._grade(ending)
        except Halt as halt:
            ending, self.error = halt.ending or Ending.FAILED, halt.error
        except NotFiniteError as error:
            ending, self.error = Ending.FAILED, self._products.diagnosis() or error
        except (Exception, SystemExit) as error:
            ending = Ending.FAILED
            self.error = blame(error, Culprit.CERTIFICATE, EigencoreError, "the certificate failed")
        except BaseException as error:
            ending, self.error = Ending.FAILED, error
        if isinstance(self.error, EigencoreError):
            self.error.culprit = Culprit.CERTIFICATE
        return ending, self._grade(ending)

    def _close(self, snapshots: Generator[Snapshot, Array | None, None]) -> None:
        """Closes the solver. A Halt is ignored: a product of its clean-up may exceed the budget."""
        try:
            snapshots.close()
        except Halt:
            pass
        except BaseException as error:
            self.error = self.error or self.selected.failure(error)

    def _consume(self, snapshots: Generator[Snapshot, Array | None, None], request: Request) -> Ending:
        eps = arrays.eps(self.operator)
        patience = max(500, 50 * request.k) if self.budget.max_matvecs is None else math.inf
        self.pace = Pace(patience, at=self._spent())
        if self.earlier is not None and self.last is None:
            self.pace = replace(self.earlier.pace, patience=patience)
        missed: Array | None = None
        while True:
            try:
                yielded = next(snapshots) if missed is None else snapshots.send(missed)
            except StopIteration:
                return Ending.RETURNED
            missed = None
            repeated = self.earlier is not None and self.last is None and not self.budget.spent
            self.last = snapshot = refuse_malformed(yielded, request.k)
            if repeated:  # it was evaluated in the earlier part
                continue
            if self.search is not None:
                self.search.add(snapshot)
            thresholds = request.thresholds(snapshot.values, precision_floor(eps, snapshot.norm))
            passed = snapshot.residuals <= thresholds
            complete = len(passed) >= request.k
            with np.errstate(divide="ignore", invalid="ignore"):
                worst = float(np.max(snapshot.residuals / thresholds, initial=0.0))
            row = step_of(snapshot, passed, worst if complete else math.inf)
            self._append(replace(row, matvecs=self.budget.spent, seconds=self.budget.seconds))
            if complete and bool(np.all(passed)):
                ended, missed = self._examine(snapshot)
                if ended is not None:
                    return ended
            elif not self.selected.once and self.pace.stalled(self._spent(), len(passed), worst):
                return Ending.STALLED
            elif self.refinement is not None:
                self.refinement.watch(
                    snapshot, partial(vectors_of, snapshot, arrays.local_rows(self.operator))
                )
            refusal = None if self.selected.once else self.budget.refusal()
            if refusal is not None:
                return refusal

    def _examine(self, snapshot: Snapshot) -> tuple[Ending | None, Array | None]:
        """Decides whether the solve has ended, now that all pairs of a snapshot have passed.

        Returns:
            How it has ended, or None; then perhaps a block (n, b) from which the solver is to continue.
        """
        vectors = partial(vectors_of, snapshot, arrays.local_rows(self.operator))
        if self.refinement is not None:
            if self.search is not None and self.search.waiting:
                return None, None
            claim, grade = self.refinement.graded(snapshot, self._claimed(), None)
            if self.error is not None:  # the vectors could not be formed
                return Ending.FAILED, None
            if not np.all(grade.converged):
                return Ending.IMPRECISE if grade.certificate.exact else Ending.PRODUCTS, None
            vectors = partial(getattr, claim, "vectors")
            snapshot = Snapshot(claim.values, claim.estimates, vectors, claim.norm)
        if self.search is None:
            return Ending.PASSED, None
        ended, missed = self.search.examine(snapshot, vectors)
        return Ending.PASSED if ended else None, missed

    def _spent(self) -> float:
        """The products of the solver so far, with those of the part that this solve continues exactly."""
        return self.budget.spent + (0.0 if self.earlier is None else self.earlier.spent)

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

    def _state(self, chains: int, asked: tuple[Any, ...]) -> ResumableState | None:
        """The state of the last snapshot, formed while it is valid; None if its vectors are unusable."""
        if self.last is None or self.last.state is None or self.formed is None:
            return None
        if self.search is not None:
            chains = self.search.chains
        try:
            state = self.last.state(self.formed)
            rows, dtype = self.formed.shape[0], str(self.operator.dtype)
            products = "" if self.approximation is None else self.approximation.name
            part = self._part(asked)
            return ResumableState(
                self.selected.name, state, rows, dtype, self.last.norm, chains, products, part
            )
        except BaseException as error:
            self._keep_first(error)
            return None

    def _part(self, asked: tuple[Any, ...]) -> EarlierPart | None:
        """What another solve needs besides the solver's state to continue this one exactly."""
        passed = not self.history or self.history[-1].converged == self.request.k
        if passed or self.stricter or self.approximation is not None:
            return None
        made = self._products.matvecs - self._products.of_certificate.matvecs
        spent = made + self._spent() - self.budget.spent
        search = None if self.search is None else self.search.memory()
        return EarlierPart(asked, spent, replace(self.pace), search)

    def _keep_first(self, error: BaseException) -> None:
        """Keeps an error in forming the last snapshot, unless the run already ended with another one."""
        if self.error is None:
            self.error = error.error if isinstance(error, Halt) else self.selected.failure(error)

    def _grade(self, ending: Ending) -> Grade:
        claim, why = self.claim, self._why_no_certificate(ending)
        if why is None:
            vectors = certificate_vectors(self.level, len(claim.values)) * arrays.local_rows(self.operator)
            release(self.operator, needed=vectors * arrays.itemsize(self.operator))
        if self.refinement is not None:
            self.claim, grade = self.refinement.graded(self.last, claim, why)
            return grade
        if why is not None:
            return ungraded(self.operator, claim, self.request, why)
        report("computing the certificate from fresh products")
        fresh, left = self._products.of_certificate, self.budget.left()
        return certify(fresh, claim, self.request, level=self.level, allowance=left)

    def _why_no_certificate(self, ending: Ending) -> str | None:
        if ending is Ending.INTERRUPTED:
            return "the solve was interrupted"
        if self.error is None:
            return None if len(self.claim.values) else "there was no answer to certify"
        of_certificate = getattr(self.error, "culprit", None) is Culprit.CERTIFICATE
        return "the certificate failed" if of_certificate else "the solve failed"

    def _result(self, ending: Ending, grade: Grade, state: ResumableState | None) -> EigenResult:
        k, converged = self.request.k, int(np.sum(grade.converged))
        matvecs = self._products.matvecs
        certificate = replace(grade.certificate, matvecs=self._products.of_certificate.matvecs)
        if self.search is not None:
            if self.error is None and self.last is not None and len(self.claim.values):
                self.search.rely_on_recurrence(self.last)
            certificate = self.search.certified(certificate, converged=converged == k)
        open_questions = not_proved(self.request, certificate, self.operator.shape[0])
        certificate = replace(certificate, not_proved=open_questions)
        grade = resolvable(replace(grade, certificate=certificate))
        notes = (*(self.last.notes if self.last else ()), *notes_of(self.operator))
        if self.refinement is not None:
            notes = (self.refinement.note, *notes)
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
                failure="" if self.error is None else first_line(self.error),
                history=self.history,
                complete=grade.certificate.complete,
                ignored=self.search is not None and self.search.ignored,
                cut_short=self.search is not None and self.search.cut_short,
                approximation=self.approximation,
                error=None if self.refinement is None else self.refinement.largest_error,
            )
        )
