"""Unbiased estimates of a trace over all data, from samples whose groups are tested by a vector each.

Let the groups of a sample have the means H_b, weighted so that E H_b = A, and let z_b be uniform on the
sphere of radius sqrt(n), all of them independent. Then T_b = z_b'H_b z_b are independent with the mean tr A.
Their mean has no bias, and their spread contains both errors, that of the draws and that of the vectors. This
is Hutchinson's estimate (1990) with a new operator for every vector.

With D draws in groups of g and r vectors for each group, the variance is (a + (g b + c) / r) / D, where a is
the variance of the weighted traces of single samples, b = 2 |A|_F^2, and c the mean of 2 |w_s A_s|_F^2. The
cost is r D / N products. So at the same cost one vector for each group is best, and more draws are better
than more vectors. Small groups are better still, but each has an overhead.

The variance of T_b has an unbiased estimate s^2 from the groups, and v from the residuals of the products
(see `intervals`) for the part of the vectors alone. The interval is that of Student with m - 1 degrees of
freedom and the variance v + f max(s^2 - v, 0), where f = 1 - D / N without replacement and f = 1 with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eigencore.operators.draws import MIN_EFFECTIVE
from eigencore_spectrum.intervals import IntervalEstimate, quantile
from eigencore_spectrum.probes import probes, tested

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator, MeanOperator
    from eigencore.operators import Draw
    from eigencore.space import Array
    from eigencore_spectrum.complement import Complement

PURPOSE = "trace of a sample"
DRAWS_PER_GROUP, FEWEST_GROUPS = 8, 20
AT_ONCE = 160  # groups whose data are taken at once, which limits memory
REPORTED = 40  # groups after which there is a result


@dataclass(frozen=True)
class SampleTrace:
    """A trace over all data, estimated from a sample.

    Attributes:
        estimate: the estimate with its interval.
        draws: how many samples were drawn.
        groups: how many groups they were put into.
        effective: how many draws carry the estimate, draws / (1 + g var(T_b) / mean^2): fewer where a few of
            them contribute most, or where the parts of both signs cancel.
    """

    estimate: IntervalEstimate
    draws: int
    groups: int
    effective: float

    @property
    def refused(self) -> bool:
        """Whether intervals like this one were not shown to hold. Others are within 30 % of the estimate."""
        return self.effective < MIN_EFFECTIVE

    @property
    def needed(self) -> int | None:
        """How many draws an interval takes, if it is refused; None: more than can be stated."""
        if self.effective * 1e6 < self.draws:
            return None
        return math.ceil(self.draws * MIN_EFFECTIVE / self.effective)

    def draws_for(self, accuracy: float) -> int | None:
        """How many draws make an interval whose half width is this share of the estimate; None: no number."""
        value, half = abs(self.estimate.value), self.estimate.half_width
        if not value or not accuracy or self.needed is None:
            return None
        return math.ceil(self.draws * max((half / (accuracy * value)) ** 2, MIN_EFFECTIVE / self.effective))

    def is_within(self, accuracy: float) -> bool:
        """Whether the interval is that narrow, and not refused."""
        return not self.refused and self.estimate.half_width <= accuracy * abs(self.estimate.value)


@dataclass
class GroupTests:
    """The tests of the groups so far, each by one product with its share of the data.

    Args:
        operator: the operator that samples are taken of.
        known: pairs, of any accuracy and any operator: with V theta V' taken out of every H_b, only the rest
            is tested, which costs no product and leaves the mean as it is.
        seed: determines the vectors.
        confidence: the confidence of the interval.
    """

    operator: MeanOperator
    known: Complement
    seed: int
    confidence: float
    _found: list[tuple[float, float, int]] = field(default_factory=list)  # T_b, v_b and the draws, by group
    _unseen: float = 1.0

    def add(self, drawn: Draw) -> Iterator[SampleTrace]:
        """Tests the groups of a draw, and yields the estimate from all groups so far after some of them."""
        repeated = drawn.weighted or bool(self._found)
        for part in drawn.parts(AT_ONCE):
            mean = self.operator.sampled(part.groups, part.weights)
            vector = _Vector(self.operator, self.seed, len(self._found))
            last = vector.first + len(part.groups)
            products = mean.group_products(vector.drawn)
            for group, product in zip(part.groups, products, strict=True):
                Z = vector.latest
                rest = self.known.without_known(Z, product + mean.shift * Z)
                (value,), (residual,), _ = tested(Z, rest, self.operator)
                self._found.append((float(value), 2 * float(residual), len(group)))
                if len(self._found) % REPORTED == 0 or len(self._found) == last:
                    self._unseen = 1.0 if repeated else 1 - self.draws / drawn.total
                    yield self.trace()

    @property
    def draws(self) -> int:
        """The draws in all groups so far."""
        return sum(size for _, _, size in self._found)

    def trace(self) -> SampleTrace:
        """The estimate from all groups so far."""
        values, own, sizes = (np.array(part) for part in zip(*self._found, strict=True))
        exact, m, draws = float(self.known.values.sum()), len(values), self.draws
        value = exact + float(values @ sizes) / draws
        spread = float(values.var(ddof=1)) if m > 1 else math.inf
        vectors = float(own.mean())
        variance = vectors + self._unseen * max(spread - vectors, 0.0)
        half = quantile(self.confidence, max(m - 1, 1)) * math.sqrt(variance / m)
        relative = variance / value**2 if value else math.inf
        effective = draws / (1 + draws / m * relative)
        return SampleTrace(IntervalEstimate(value, half), draws, m, effective)


@dataclass
class _Vector:
    """A random vector on the sphere (n, 1), the latest one that a product was asked for."""

    operator: LinearOperator
    seed: int
    first: int
    latest: Array = None

    def drawn(self, number: int) -> Array:
        """The vector of the group of this number, counted from `first`."""
        self.latest = probes(self.operator, [self.first + number], self.seed, PURPOSE, "sphere")
        return self.latest


def groups_of(draws: int) -> int:
    """The number of groups that so many draws are put into."""
    return min(draws, max(FEWEST_GROUPS, draws // DRAWS_PER_GROUP))
