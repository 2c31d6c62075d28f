"""`solve` with `samples` or `rtol`: eigenpairs of a sample, and intervals for the eigenvalues of all data."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import CapabilityError, Interrupted, attach
from eigencore.interfaces import LinearOperator, MeanOperator
from eigencore.operators.counting import SCORES
from eigencore.operators.draws import PILOT, Draw, draw
from eigencore.processes import processes_of
from eigencore.request import Request
from eigencore.results import EigenResult, EigenvalueInterval, Sampling, SamplingCost, Status, Step
from eigencore.solving.clock import Clock, clock
from eigencore.solving.sampling.arguments import refuse_bad_sampling, refuse_other_ends
from eigencore.solving.sampling.costs import Pilot, interval_products, predicted_full
from eigencore.solving.sampling.estimate import (
    CONFIDENCE,
    GroupStatistics,
    clusters,
    dominant,
    interval,
)
from eigencore.solving.sampling.measure import measure, polish

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

log = logging.getLogger(__name__)

GUARDS = 3  # the pairs beyond the k-th whose vectors the intervals are computed with
ROUNDS, LEAST_GROWTH = 3, 1.2
WORTH = 0.75  # a sample is less accurate than all data, and must cost less than this part of them
MIN_SECONDS = 1e-3  # what is left of a limit on seconds that has passed


@dataclass(frozen=True)
class Limits:
    """The limits of a solve on products with all data and on seconds; None: no limit."""

    max_matvecs: float | None
    max_seconds: float | None


@dataclass(frozen=True)
class Sampled:
    """A sample that has been solved.

    Attributes:
        result: its k pairs, with products counted in products with all data.
        vectors: the Ritz vectors (n, K) of all pairs that were computed.
        shift: what is added to every eigenvalue of the mean.
        pilot: what its groups show; None if the limits came first.
    """

    draw: Draw
    result: EigenResult
    vectors: Array
    shift: float
    pilot: Pilot | None = None


def sampled_solve(
    operator: LinearOperator,
    request: Request,
    *,
    samples: int | None,
    rtol: float | None,
    limits: Limits,
    progress: Callable[[Step], None] | None,
    inner: Callable[..., EigenResult],
) -> EigenResult:
    """The pairs of a sample, with intervals for the eigenvalues of all data.

    Args:
        operator: any; only a MeanOperator can be sampled.
        samples: the number of draws; or None, and `rtol` is given.
        rtol: the relative accuracy of every eigenvalue, which a pilot sample finds the cheapest way to.
        inner: solves an operator, inner(operator, k, max_matvecs, max_seconds, progress).

    Raises:
        UsageError: an argument is invalid; raised before any product.
        CapabilityError: the operator is not a mean over samples.
        Interrupted: Ctrl-C was pressed; `.result` holds the pairs so far.
    """
    refuse_bad_sampling(samples, rtol)
    refuse_other_ends(request.which)
    if not isinstance(operator, MeanOperator):
        raise CapabilityError(
            "this operator is not a mean over samples that can be drawn, so samples and rtol do not apply",
            hint="Give a Problem, or its operator of the kind hessian or ggn; or leave samples and rtol out.",
        )
    solving = _Solving(operator, request.k, request.which, request.seed, limits, progress, inner)
    return solving.fixed(index(samples)) if samples is not None else solving.accurate(float(rtol or 0))


@dataclass
class _Solving:
    """One call: its arguments, and the products with all data that were spent so far."""

    operator: MeanOperator
    k: int
    which: str
    seed: int
    limits: Limits
    progress: Callable[[Step], None] | None
    inner: Callable[..., EigenResult]
    spent: float = 0.0
    clock: Clock = field(default_factory=clock)
    began: float = field(default_factory=lambda: clock()())

    def __post_init__(self) -> None:
        self.scores: Floats = np.asarray(self.operator.sample_scores(), dtype=np.float64)
        self.total = len(self.scores)
        self.spent += SCORES
        self.vectors = min(self.k + GUARDS, self.operator.shape[0])

    def fixed(self, samples: int) -> EigenResult:
        """The result for so many draws."""
        return self._presented(self._sampled(samples))

    def accurate(self, rtol: float) -> EigenResult:
        """The result of the cheapest way to this accuracy."""
        if self.total <= 2 * PILOT:
            return self._full()
        done = first = self._sampled(PILOT)
        for _ in range(ROUNDS):
            if done.pilot is None or _is_accurate(done, rtol):
                break
            cost = done.pilot.cost(rtol)
            if cost.matvecs is None or WORTH * done.pilot.full <= cost.matvecs:
                return self._full(done.pilot.costs(rtol), done.pilot.full)
            draws = cost.draws or 0
            if cost.method == "polish" and draws <= done.draw.draws:
                return self._polished(done, done.pilot, rtol)
            done = self._sampled(min(max(draws, math.ceil(LEAST_GROWTH * done.draw.draws)), self.total))
        if first.pilot is None or done.pilot is None:  # the limits came first
            return self._presented(done)
        if not _is_accurate(done, rtol):
            return self._full(done.pilot.costs(rtol), done.pilot.full)
        return self._presented(done, first.pilot.costs(rtol), first.pilot.full)

    # -- the ways ------------------------------------------------------------------------------------------

    def _sampled(self, samples: int) -> Sampled:
        """Solves a sample of so many draws, and computes what its groups show."""
        drawn = draw(self.scores, samples, self.seed)
        mean, share = self.operator.sampled(drawn.groups, drawn.weights), drawn.draws / self.total
        before, steps = self.spent, list[Step]()
        extra = interval_products(self.vectors, self.k)
        most = self._products_left(share)
        enough = most is None or most >= extra + 1
        if most is not None:
            most = most - extra if enough else max(most, 1.0)

        def step(row: Step) -> None:
            steps.append(row)
            if self.progress is not None:
                self.progress(_step(row, self.k, share, before))

        def solved(result: EigenResult) -> Sampled:
            shown = self._of_sample(result, share, before)
            return Sampled(drawn, shown, result.vectors, mean.shift)

        with self._kept(lambda result: self._presented(solved(result))):
            result = self.inner(
                mean, self.vectors, max_matvecs=most, max_seconds=self._seconds_left(), progress=step
            )
        self.spent += share * result.matvecs
        done, wanted = solved(result), min(self.k, len(result.values))
        if not wanted or not enough or self._seconds_left() == MIN_SECONDS:
            return done
        with self._keeping(done):
            statistics = measure(mean, result.vectors, wanted, self.which, drawn)
        self.spent += share * extra
        full = predicted_full(result, steps, self.k)
        pilot = Pilot(statistics, self.total, drawn.weighted, self.vectors, result.matvecs, full)
        return replace(done, pilot=pilot)

    def _polished(self, done: Sampled, pilot: Pilot, rtol: float) -> EigenResult:
        """Multiplies the vectors of a sample by the operator of all data; solves that if it is not enough."""
        costs, wanted = pilot.costs(rtol), min(self.k, len(done.result.values))
        with self._keeping(done, costs, pilot.full):
            found = polish(self.operator, done.vectors, wanted, self.which, done.shift)
        self.spent += self.vectors
        if not all(_is_within(one, rtol) for one in found):
            return self._full(costs, pilot.full)
        result = self._presented(done, costs, pilot.full)
        assert result.sampling is not None
        sampling = replace(result.sampling, method="polish", confidence=None, intervals=found, sums=())
        return replace(result, sampling=sampling)

    def _full(self, costs: tuple[SamplingCost, ...] = (), full: float | None = None) -> EigenResult:
        """Solves the operator of all data."""
        sampling = Sampling("full", 0, self.total, 0, weighted=False, confidence=None, costs=costs, full=full)
        before = self.spent

        def shown(result: EigenResult) -> EigenResult:
            matvecs = before + result.matvecs
            return replace(result, matvecs=matvecs, seconds=self._seconds, sampling=sampling)

        with self._kept(shown):
            result = self.inner(
                self.operator,
                self.k,
                max_matvecs=self._products_left(1.0),
                max_seconds=self._seconds_left(),
                progress=self.progress,
            )
        return shown(result)

    # -- limits, and what is kept when something ends the solve --------------------------------------------

    @property
    def _seconds(self) -> float:
        return self.clock() - self.began

    def _seconds_left(self) -> float | None:
        if self.limits.max_seconds is None:
            return None
        seconds = processes_of(self.operator).from_first(self._seconds)
        return max(self.limits.max_seconds - seconds, MIN_SECONDS)

    def _products_left(self, share: float) -> float | None:
        """The products that are left, each of which takes this share of the data."""
        if self.limits.max_matvecs is None:
            return None
        return max((self.limits.max_matvecs - self.spent) / share, 1.0)

    @contextmanager
    def _kept(self, shown: Callable[[EigenResult], EigenResult]) -> Iterator[None]:
        """The result that an error of a solve carries is replaced by what is shown of it."""
        try:
            yield
        except Interrupted as interrupted:
            raise Interrupted(shown(interrupted.result)) from None
        except BaseException as error:
            if isinstance(getattr(error, "partial", None), EigenResult):
                attach(error, partial=shown(error.partial))  # type: ignore[attr-defined]
            raise

    @contextmanager
    def _keeping(
        self, done: Sampled, costs: tuple[SamplingCost, ...] = (), full: float | None = None
    ) -> Iterator[None]:
        """An error, and Ctrl-C, carry the pairs of the sample."""
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(self._presented(done, costs, full)) from None
        except BaseException as error:
            attach(error, partial=self._presented(done, costs, full))
            raise

    # -- the result ----------------------------------------------------------------------------------------

    def _of_sample(self, result: EigenResult, share: float, before: float) -> EigenResult:
        """The first k pairs of a result of a sample, with products counted in products with all data."""
        k, certificate = self.k, result.certificate
        converged = result.converged[:k]
        done = len(converged) == k and bool(converged.all())
        above = certificate.complete_above
        if above is not None and len(result.values) > k:  # the pairs beyond the k-th are not shown
            edge = float(result.values[k]) if self.which == "LA" else abs(float(result.values[k]))
            above = max(above, edge)
        status = Status.CONVERGED if done else result.status
        return replace(
            result,
            values=result.values[:k],
            vectors=arrays.trimmed(result.vectors[:, :k]),
            residuals=result.residuals[:k],
            converged=converged,
            status=status,
            advice=_advice(result, status, int(converged.sum()), k),
            matvecs=before + share * result.matvecs,
            certificate=replace(
                certificate,
                matvecs=share * certificate.matvecs,
                complete_above=above,
                complete_matvecs=share * certificate.complete_matvecs,
            ),
            k=k,
            history=tuple(_step(row, k, share, before) for row in result.history),
            state=None,
        )

    def _presented(
        self, done: Sampled, costs: tuple[SamplingCost, ...] = (), full: float | None = None
    ) -> EigenResult:
        """The result for the caller: the pairs of the sample, with the intervals for all data."""
        drawn, notes = done.draw, done.result.notes
        intervals: tuple[EigenvalueInterval, ...] = tuple(
            EigenvalueInterval(
                i + 1, i + 1, float(value), refused="the solve ended before the intervals were computed"
            )
            for i, value in enumerate(done.result.values)
        )
        sums: tuple[EigenvalueInterval, ...] = ()
        if done.pilot is not None:
            statistics, k = done.pilot.statistics, len(done.result.values)
            intervals = tuple(interval(statistics, [i], done.shift) for i in range(k))
            sums = tuple(interval(statistics, ranks, done.shift) for ranks in _summed(statistics, k))
            notes = (
                *notes,
                *(
                    f"sample {index} of the data carries {100 * share:.0f} % of eigenvalue {rank}"
                    for rank, index, share in dominant(statistics, drawn.indices, k)
                ),
            )
        sampling = Sampling(
            method="sample",
            draws=drawn.draws,
            samples=self.total,
            groups=len(drawn.groups),
            weighted=drawn.weighted,
            confidence=CONFIDENCE,
            intervals=intervals,
            sums=sums,
            costs=costs,
            full=full,
        )
        spent = max(self.spent, done.result.matvecs)
        return replace(done.result, matvecs=spent, seconds=self._seconds, notes=notes, sampling=sampling)


def _is_accurate(done: Sampled, rtol: float) -> bool:
    """Whether every eigenvalue has an interval of at most that relative width to both sides."""
    if done.pilot is None:
        return False
    k = len(done.result.values)
    found = [interval(done.pilot.statistics, [i], done.shift) for i in range(k)]
    return all(_is_within(one, rtol) for one in found)


def _is_within(one: EigenvalueInterval, rtol: float) -> bool:
    if one.low is None or one.high is None:
        return False
    return one.high - one.low <= 2 * (1 + rtol) * rtol * abs(one.estimate)


def _summed(statistics: GroupStatistics, k: int) -> list[range]:
    """The eigenvalues whose sums have intervals: the clusters, and all k if they have one sign."""
    signs = np.sign(statistics.theta[:k])
    found = clusters(statistics, k)
    if k > 1 and range(k) not in found and abs(float(signs.sum())) == k:
        found.append(range(k))
    return found


def _step(row: Step, k: int, share: float, before: float) -> Step:
    """A row of the history of a sample, for k pairs and in products with all data."""
    return replace(
        row, matvecs=before + share * row.matvecs, values=row.values[:k], converged=min(row.converged, k)
    )


def _advice(result: EigenResult, status: Status, converged: int, k: int) -> str:
    """The advice of the solve of a sample, whose numbers of pairs and products are not the caller's."""
    pairs = "the pair" if k == 1 else f"all {k} pairs"
    match status:
        case Status.CONVERGED:
            return f"{pairs} of the sample converged (relative tolerance {result.tol:g})"
        case Status.BUDGET:
            return (
                f"{converged} of {k} pairs of the sample converged within the limits. Raise max_matvecs or "
                "max_seconds, or lower samples."
            )
        case Status.INTERRUPTED:
            return f"interrupted: {converged} of {k} pairs of the sample have converged"
        case _:
            return result.advice
