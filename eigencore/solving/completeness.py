"""Completeness: that nothing beyond the k-th eigenvalue was missed, at a stated probability.

Residuals prove that values are eigenvalues, not that they are the wanted ones. Once all residuals have
passed, two parts show this, for every solver:

1. The recurrence of the run itself, if the solver reports it as evidence, excludes most places for a missed
   eigenvalue without a product (`recurrence`). While it does not exclude the neighbourhood of the k-th, the
   run goes on for a few products. It cannot exclude repeats of the values that were found.
2. A chain in the complement of the pairs, from a random vector, excludes what is left (`chain`), or finds a
   missed eigenvalue. The solver then continues from what was found, and the search begins again.

The probability that something was missed is shared among these: half of it for the recurrence, if there is
one, and 1/2, 1/4, 1/8, ... of the rest for the chains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.request import Request
from eigencore.results import Certificate
from eigencore.solving.chain import Chain, ChainEnd
from eigencore.solving.recurrence import ROUNDING, Recurrence, smallest_part

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats

# Below this many rounding units of ||A||, neither part can tell an eigenvalue from a found one.
RESOLUTION = 1000
# The most products of a search: the first number, or the second one times the products so far, if that is
# more. Of these, the run goes on for no more than GOING_ON.
SEARCH = 20, 0.3
GOING_ON = 10, 0.1
# Up to this n, a solver that keeps its whole basis goes on until it has all eigenvalues, if that is cheaper
# than a chain, or the chain has no answer.
EXHAUSTIBLE = 256
# What a search is given, and does not remember for another one.
_GIVEN = ("operator", "request", "probability", "start_bound", "refused", "spent", "after_product")


@dataclass(frozen=True)
class End:
    """One end of the spectrum: of all eigenvalues, those of sign * value above `kth` are wanted.

    `slack` is how far beyond `kth` a missed eigenvalue makes no difference: twice the tolerance.
    """

    sign: int
    kth: float
    slack: float

    @property
    def threshold(self) -> float:
        return self.kth + self.slack


def ends_of(request: Request, values: Floats, resolution: float) -> tuple[End, ...]:
    """The ends of the spectrum that are requested, where `values` (k,) was found.

    Args:
        resolution: the smallest distance of eigenvalues that can be told apart.
    """

    def end(sign: int, kth: float) -> End:
        return End(sign, kth, max(2 * request.tol * abs(kth), resolution))

    if request.which == "LM":
        kth = float(np.min(np.abs(values)))
        return end(1, kth), end(-1, kth)
    if request.which == "LA":
        return (end(1, float(np.min(values))),)
    if request.which == "SA":
        return (end(-1, -float(np.max(values))),)
    descending, low = np.sort(values)[::-1], len(values) // 2
    upper = end(1, float(descending[len(values) - low - 1]))
    return (upper, end(-1, -float(descending[len(values) - low]))) if low else (upper,)


MISSED = {
    "LM": "no eigenvalue larger in magnitude",
    "LA": "no larger eigenvalue",
    "SA": "no smaller eigenvalue",
    "BE": "no eigenvalue further out at either end",
}


def not_proved(request: Request, certificate: Certificate, n: int) -> str:
    """What a certificate leaves open, about the values and about what was missed, as clauses."""
    clauses = [certificate.not_proved] if certificate.not_proved else []
    if not certificate.complete and request.k < n:
        ends = []
        if certificate.complete_above is not None:
            beyond = "larger in magnitude" if request.which == "LM" else "larger"
            ends.append(f"{beyond}, up to {certificate.complete_above:.6g},")
        if certificate.complete_below is not None:
            ends.append(f"smaller, down to {certificate.complete_below:.6g},")
        missed = f"no eigenvalue {' or '.join(ends)}" if ends else MISSED[request.which]
        clauses.append(f"that {missed} was missed")
    return ", and ".join(clauses)


def _other_pairs(request: Request, values: Floats, end: End) -> npt.NDArray[np.bool_]:
    """Which of the wanted values (k,) belong to the other end of the spectrum, as a mask."""
    if request.which == "LM":
        return end.sign * values < 0
    if request.which == "BE":
        return end.sign * values < end.kth
    return np.zeros(len(values), dtype=bool)


def _magnitude(request: Request, values: Floats, ends: tuple[End, ...]) -> float:
    """A number that grows whenever a missed eigenvalue takes its place among the wanted values (k,)."""
    others = [_other_pairs(request, values, end) for end in ends]
    return sum(float(np.sum(end.sign * values[~other])) for end, other in zip(ends, others, strict=True))


@dataclass(frozen=True)
class HiddenAt:
    """Where an eigenvalue may be hidden at one end.

    Attributes:
        intervals: those of sign * value (m, 2), ascending and beyond the threshold.
    """

    end: End
    intervals: Floats

    @property
    def nowhere(self) -> bool:
        return len(self.intervals) == 0

    @property
    def near_kth(self) -> bool:
        return not self.nowhere and bool(self.intervals[0, 0] <= self.end.threshold)

    @property
    def last(self) -> float:
        """The value beyond which nothing is hidden."""
        return self.end.threshold if self.nowhere else float(self.intervals[-1, 1])

    def up_to(self, t: float) -> HiddenAt:
        """The same, if nothing is hidden beyond t."""
        below = self.intervals[self.intervals[:, 0] < t]
        return replace(self, intervals=np.minimum(below, t))


@dataclass
class CompletenessSearch:
    """The search of one solve.

    Attributes:
        operator: A, whose products are counted.
        probability: the probability at which nothing is to be missed.
        start_bound: the factor by which the bound of |u'v_0| for a random v_0 is to be multiplied; 0.0 if
            nothing is known of the start vector.
        refused: whether a further product would exceed the budget.
        spent: the products so far.
        after_product: is called after each product of a chain.
        chains: the number of chains so far, in this solve and in those that it resumes.
        products: the number of products of the chains.
        ignored: whether the solver has made no use of the last directions that it was given.
        cut_short: whether the budget has ended the search.
    """

    operator: LinearOperator
    request: Request
    probability: float
    start_bound: float
    refused: Callable[[], bool]
    spent: Callable[[], float]
    after_product: Callable[[], None]
    chains: int = 0
    products: int = 0
    ignored: bool = False
    cut_short: bool = False
    _began: float = 0.0
    _magnitude: float = -math.inf  # of the values when the search began
    _restarted: bool = False  # whether the solver has dropped a part of its basis
    _exhausting: bool = False  # whether it goes on until it has all eigenvalues
    _wait: float = 0.0  # the products that the solver may make before it must have used what was missed
    _missed: bool = False  # whether an eigenvalue was found that the values do not have
    _hidden: tuple[HiddenAt, ...] = ()
    _recurrence: Recurrence = field(init=False)

    def __post_init__(self) -> None:
        eta = (1 - self.probability) / 2
        bound = smallest_part(self.operator.shape[0], eta) * self.start_bound
        self._recurrence = Recurrence(bound)
        self._remaining = eta if bound else 2 * eta

    def memory(self) -> dict[str, Any]:
        """What the search has shown so far, as a value from which another one of the same request goes on."""
        return deepcopy({name: value for name, value in vars(self).items() if name not in _GIVEN})

    def go_on(self, memory: Mapping[str, Any] | None) -> None:
        """Takes over what an earlier search had shown."""
        vars(self).update(deepcopy(dict(memory or {})))

    def begin_again(self, *, from_pairs: bool) -> None:
        """Forgets what chains have shown, because the pairs will change.

        Args:
            from_pairs: whether the solver starts again from the pairs, which no recurrence can tell about.
        """
        self._magnitude, self._missed, self._exhausting = -math.inf, False, False
        self._recurrence.running = self._recurrence.running and not from_pairs

    def add(self, snapshot: Snapshot) -> None:
        """Takes the evidence of the next snapshot into account."""
        evidence = snapshot.evidence
        self._recurrence.add(evidence, ROUNDING * self._rounding_unit(snapshot))
        self._restarted = self._restarted or evidence is None or len(evidence.dropped) > 0

    def rely_on_recurrence(self, snapshot: Snapshot) -> None:
        """Takes what the recurrence excludes as the result, if the solve ended before a search began.

        No eigenvalue at all, repeated or not, lies beyond the last hiding place, whether or not the pairs
        have converged. The probability is the same at any product: all that may fail is that the start vector
        has too small a part along one eigenvector.
        """
        if not self._hidden:
            self._hidden = self._hiding_places(snapshot)

    def certified(self, certificate: Certificate, *, converged: bool) -> Certificate:
        """The certificate with what the search has shown.

        Args:
            converged: whether all pairs have converged. Otherwise the answer is not complete, but what was
                excluded stays so.
        """
        last = {hidden.end.sign: hidden.last for hidden in self._hidden}
        upper, lower = last.get(1, math.inf), last.get(-1, math.inf)
        if self.request.which == "LM":
            upper, lower = max(upper, lower), math.inf
        return replace(
            certificate,
            complete=converged and bool(self._hidden) and all(hidden.nowhere for hidden in self._hidden),
            complete_confidence=self.probability,
            complete_above=upper if math.isfinite(upper) else None,
            complete_below=-lower if math.isfinite(lower) else None,
            complete_matvecs=float(self.products),
        )

    @property
    def waiting(self) -> bool:
        """Whether the solver may still take up what was missed, so that there is nothing to examine."""
        return self._missed and self.spent() < self._wait

    def examine(self, snapshot: Snapshot, vectors: Callable[[], Array]) -> tuple[bool, Array | None]:
        """Searches for missed eigenvalues, once all pairs of a snapshot have passed.

        Args:
            vectors: forms the vectors of the snapshot.

        Returns:
            Whether the search has ended; if not, a block (n, b) from which the solver is to continue, or None
            if it is to go on as it is.
        """
        n, values = self.operator.shape[0], snapshot.values
        ends = self._ends(snapshot)
        evidence = snapshot.evidence
        if len(values) == n or (evidence is not None and len(evidence.ritz) == n):
            self._hidden = tuple(HiddenAt(end, np.zeros((0, 2))) for end in ends)
            return True, None
        magnitude = _magnitude(self.request, values, ends)
        if magnitude > self._magnitude + min(end.slack for end in ends) / 4:
            self._began, self._magnitude, self._missed = self.spent(), magnitude, False
        self.ignored = self._missed
        if self.waiting:
            return self._stopped(), None
        spent = self.spent() - self._began
        self._hidden = self._hiding_places(snapshot)
        if all(hidden.nowhere for hidden in self._hidden):
            return True, None
        near = self._recurrence.running and any(hidden.near_kth for hidden in self._hidden)
        # Repeats of a single value make no difference, so that the recurrence alone is enough for it.
        share = SEARCH if len(values) == 1 else GOING_ON
        if self._exhausting or (near and spent < max(share[0], share[1] * self._began)):
            return self._stopped(), None
        products = max(SEARCH[0], SEARCH[1] * self._began) - spent
        exhaustible = n <= EXHAUSTIBLE and evidence is not None and not self._restarted
        if exhaustible and evidence is not None and n - len(evidence.ritz) <= products:
            self._exhausting = True
            return self._stopped(), None
        ended, missed = self._follow_chain(snapshot, vectors, products)
        undecided = ended and not all(hidden.nowhere for hidden in self._hidden)
        self._exhausting = undecided and exhaustible and not self._stopped()
        return ended and not self._exhausting, missed

    def _ends(self, snapshot: Snapshot) -> tuple[End, ...]:
        return ends_of(self.request, snapshot.values, self._resolution(snapshot))

    def _hiding_places(self, snapshot: Snapshot) -> tuple[HiddenAt, ...]:
        """What the recurrence leaves open at each end."""
        resolution, open_beyond = self._resolution(snapshot), self._recurrence.open_beyond
        return tuple(
            HiddenAt(end, open_beyond(end.threshold, end.sign, resolution)) for end in self._ends(snapshot)
        )

    def _follow_chain(
        self, snapshot: Snapshot, vectors: Callable[[], Array], products: float
    ) -> tuple[bool, Array | None]:
        """As `examine`, by a chain of at most so many products."""
        if products <= 0 or self._stopped():
            return True, None
        n, k = self.operator.shape[0], len(snapshot.values)
        x = arrays.random_normal(
            arrays.generator(self.request.seed, "chain", self.chains), (n,), self.operator
        )
        self.chains, self._remaining = self.chains + 1, self._remaining / 2
        asked = {
            hidden.end.sign: ChainEnd(hidden.end.sign, _threshold_in_complement(snapshot, hidden))
            for hidden in self._hidden
            if not hidden.nowhere
        }
        bound = smallest_part(n - k, self._remaining)
        chain = Chain(self.operator, vectors(), x, tuple(asked.values()), bound, snapshot.norm)
        until = self.spent() + products
        while not chain.finished and self.spent() < until and not self._stopped():
            chain.step()
            self.products += 1
            self.after_product()
        self._hidden = tuple(
            _after_chain(snapshot, hidden, chain, asked[hidden.end.sign])
            if hidden.end.sign in asked and chain.alphas
            else hidden
            for hidden in self._hidden
        )
        self._missed = self._missed or chain.found
        # What the chain took to find it, the solver may take as well.
        self._wait = self.spent() + len(chain.alphas)
        return (False, chain.missed()) if chain.found else (True, None)

    def _resolution(self, snapshot: Snapshot) -> float:
        return RESOLUTION * self._rounding_unit(snapshot)

    def _rounding_unit(self, snapshot: Snapshot) -> float:
        """The rounding unit times ||A||, and above 0 for a zero matrix."""
        limits = self.operator.xp.finfo(self.operator.dtype)
        return max(float(limits.eps) * snapshot.norm, float(limits.smallest_normal))

    def _stopped(self) -> bool:
        self.cut_short = self.refused()
        return self.cut_short


def _after_chain(snapshot: Snapshot, hidden: HiddenAt, chain: Chain, asked: ChainEnd) -> HiddenAt:
    """What is left of an end's hiding places after a chain."""
    if asked.excluded:
        return hidden.up_to(float(hidden.intervals[0, 0]))
    s = chain.smallest_excluded(asked)
    return hidden.up_to(s + _shift(snapshot, hidden.end, s))


def _threshold_in_complement(snapshot: Snapshot, hidden: HiddenAt) -> float:
    """The s such that nothing is hidden at one end if no eigenvalue of B, the complement, is beyond s.

    If m of the pairs lie beyond t, A is to have no more than m eigenvalues beyond t. By the inertia of the
    Schur complement at t, this is so if no eigenvalue of B is beyond t - `_shift`. Any t up to the lowest
    hiding place will do, and the highest s takes the fewest products. As s increases between the values of
    pairs, t is either that hiding place or one of these values, whose pair then counts as one beyond t.
    """
    end, lowest = hidden.end, float(hidden.intervals[0, 0])
    values = end.sign * snapshot.values
    places = [lowest, *(float(value) for value in values[(values > end.kth) & (values < lowest)])]
    highest = max(t - _shift(snapshot, end, t) for t in places)
    # In a cluster of pairs at the k-th the shift may be too large: `_shift` takes all residuals to point to
    # the same eigenvector of B. Half the slack then remains for it.
    return max(highest, end.kth + end.slack / 2)


def _shift(snapshot: Snapshot, end: End, t: float) -> float:
    """By how much pairs below t at this end, theta_i with residual r_i, can move an eigenvalue of B up to t.

    This is sum_i r_i^2 / (t - theta_i), the Schur complement at t. Pairs beyond t move it down.
    """
    distances = t - end.sign * snapshot.values
    below = distances > 0
    residuals = snapshot.residuals[below]
    with np.errstate(over="ignore"):  # a pair may be as close to t as numbers can be
        return float(np.sum(residuals * (residuals / distances[below])))
