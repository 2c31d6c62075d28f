"""Intervals for the eigenvalues of the mean over all samples, from the groups of a weighted sample.

With the mean H over m groups H_b, its Ritz vectors V (n, K) and values theta, all from fresh products:

    G_b = V'H_b V,   p_bi = |(I - V V') H_b v_i|^2,   v_ij = var_b(G_b[i, j]) / m,
    d_ij = var_b(G_b[i, i] - G_b[j, j]) / m,          D_ij = theta_i - theta_j
    out_i = sum_b p_bi / (m (m - 1) theta_i),         in_i = sum_j v_ij D_ij / (D_ij^2 + 4 v_ij + d_ij)

out_i + in_i is the bias of theta_i to second order in the noise: eigenvalues of a mean of noisy matrices lie
too far outside. The regularised gap in `in_i` keeps it bounded where eigenvalues nearly repeat. The standard
error is the larger one of sqrt(v_ii), from the groups, and s_i, from the curvatures v_i'H_s v_i of single
samples. With f = 1 - draws / N without replacement and f = 1 with it, the interval is

    c_i exp(+- rel_i),   c_i = theta_i / (1 + f (out_i + in_i) / theta_i),
    rel_i^2 = f (t max(sqrt(v_ii), s_i) / theta_i)^2 + (f (|out_i| + |in_i|) / theta_i)^2

with the quantile t of Student's distribution with m - 1 degrees of freedom. For a sum over eigenvalues, all
of these are taken of the sum, and pairs within it cancel in the bias. Other intervals were compared on
trained networks and cover less: the same without regularisation, cross-fitting, the bootstrap and the
jackknife.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore.operators.draws import MIN_EFFECTIVE, group_count
from eigencore.results import EigenvalueInterval

if TYPE_CHECKING:
    from eigencore.space import Floats

CONFIDENCE = 0.95
MIN_GROUPS = 10
WIDEST, MOST_BIAS, CLEAR = 0.5, 0.5, 3.0
LARGE_SHARE = 0.1
SAFE = 1.5  # more draws than are expected to be enough, since a sample that is not enough is wasted


@dataclass(frozen=True)
class GroupStatistics:
    """What the products of m groups with K vectors show, on the host. Without what is added to the mean.

    Attributes:
        theta: the Ritz values of the mean (K,), in the order of the request.
        inside: V'H_b V, symmetric (m, K, K).
        outside: the products of the parts of H_b V outside the span of V with each other, (m, K, K).
        residuals: the residual norm of each pair of the mean (K,).
        curvatures: the weighted curvature of each draw along each wanted vector, (draws, k).
        unseen: the factor f.
        gaps: how far each wanted value (k,) is from the last one that was computed; infinite if there are no
            others.
    """

    theta: Floats
    inside: Floats
    outside: Floats
    residuals: Floats
    curvatures: Floats
    unseen: float
    gaps: Floats

    @property
    def groups(self) -> int:
        """The number m of groups."""
        return len(self.inside)

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self.curvatures)


@dataclass(frozen=True)
class Spread:
    """The error of one eigenvalue of the sample, or of a sum of several: see the formulas above.

    Attributes:
        theta: the value.
        error: the standard error.
        outside: out.
        bias: out + in.
        bias_bound: |out| + |in|.
        effective: the number of samples that carry it, (sum q)^2 / sum q^2.
    """

    theta: float
    error: float
    outside: float
    bias: float
    bias_bound: float
    effective: float

    def relative(self, t: float, f: float) -> float:
        """rel, for the quantile t and the factor f."""
        if self.theta == 0:
            return math.inf
        return math.hypot(math.sqrt(f) * t * self.error, f * self.bias_bound) / abs(self.theta)


def spread(statistics: GroupStatistics, ranks: Sequence[int]) -> Spread:
    """The error of the sum of the eigenvalues with these indices, or of a single one."""
    G, m, theta = statistics.inside, statistics.groups, statistics.theta
    chosen, others = list(ranks), [j for j in range(len(theta)) if j not in ranks]
    diagonal = np.diagonal(G, axis1=1, axis2=2)
    variance = _variance(G) / m
    outside, within = 0.0, 0.0
    for i in chosen:
        if theta[i] != 0:
            outside += float(statistics.outside[:, i, i].sum() / (m * (m - 1) * theta[i]))
        for j in others:
            D, v = theta[i] - theta[j], variance[i, j]
            d = float(_variance(diagonal[:, i] - diagonal[:, j])) / m
            if (below := D * D + 4 * v + d) > 0:
                within += float(v * D / below)
    sums, curvature = diagonal[:, chosen].sum(axis=1), statistics.curvatures[:, chosen].sum(axis=1)
    squares = float(curvature @ curvature)
    return Spread(
        theta=float(theta[chosen].sum()),
        error=math.sqrt(max(float(_variance(sums)) / m, float(_variance(curvature)) / len(curvature))),
        outside=outside,
        bias=outside + within,
        bias_bound=abs(outside) + abs(within),
        effective=float(curvature.sum()) ** 2 / squares if squares else 0.0,
    )


def interval(statistics: GroupStatistics, ranks: Sequence[int], shift: float = 0.0) -> EigenvalueInterval:
    """The interval for the sum of the eigenvalues of all data with these indices, which are consecutive.

    It is refused, with a reason, where intervals of this kind have not been shown to hold.

    Args:
        ranks: indices of wanted eigenvalues, from 0.
        shift: is added to every eigenvalue of the mean.
    """
    one, f, added = spread(statistics, ranks), statistics.unseen, shift * len(ranks)
    first, last = min(ranks) + 1, max(ranks) + 1
    if f == 0:  # every sample was drawn once: nothing is left to estimate
        error = float(np.linalg.norm(statistics.residuals[list(ranks)]))
        ends = one.theta + added - error, one.theta + added + error
        return EigenvalueInterval(first, last, one.theta + added, *ends)
    reason, needed = _refusal(statistics, ranks, one)
    correction = 1 + f * one.bias / one.theta if one.theta else 1.0
    centre = one.theta / max(correction, MOST_BIAS)
    if reason:
        return EigenvalueInterval(first, last, centre + added, refused=reason, needed=needed)
    rel = one.relative(quantile(statistics.groups), f)
    low, high = sorted((centre * math.exp(-rel), centre * math.exp(rel)))
    return EigenvalueInterval(first, last, centre + added, low + added, high + added)


def clusters(statistics: GroupStatistics, k: int) -> list[range]:
    """Runs of at least two wanted eigenvalues, each of which the sample does not tell from the next one.

    The sum of such a cluster is known better than its members, whose order is random.
    """
    variance = np.diagonal(_variance(statistics.inside)) / statistics.groups
    found, first = [], 0
    for i in range(1, k + 1):
        error = CLEAR * math.sqrt(variance[i - 1] + variance[i]) if i < k else 0.0
        if i == k or abs(statistics.theta[i] - statistics.theta[i - 1]) >= error:
            if i - first > 1:
                found.append(range(first, i))
            first = i
    return found


def dominant(statistics: GroupStatistics, indices: Sequence[int], k: int) -> list[tuple[int, int, float]]:
    """Samples that carry at least a tenth of an eigenvalue: (rank from 1, index of the sample, share)."""
    found = []
    for i in range(k):
        shares: dict[int, float] = {}
        total = float(statistics.curvatures[:, i].sum())
        for index, value in zip(indices, statistics.curvatures[:, i], strict=True):
            shares[index] = shares.get(index, 0.0) + (float(value) / total if total else 0.0)
        largest = max(shares, key=lambda index: shares[index])
        if shares[largest] >= LARGE_SHARE:
            found.append((i + 1, largest, shares[largest]))
    return found


def quantile(groups: int) -> float:
    """The quantile t of Student's distribution for a two-sided interval from so many groups."""
    from scipy.special import stdtrit

    return float(stdtrit(max(groups - 1, 1), (1 + CONFIDENCE) / 2))


def _refusal(statistics: GroupStatistics, ranks: Sequence[int], one: Spread) -> tuple[str, int | None]:
    """Why there is no interval, and how many draws it needs; an empty reason if there is one."""
    draws, size, bias = statistics.draws, abs(one.theta), abs(one.bias)
    rel = one.relative(quantile(statistics.groups), statistics.unseen)
    if statistics.groups < MIN_GROUPS:
        return f"there are {statistics.groups} groups; expected at least {MIN_GROUPS}", MIN_GROUPS
    if one.effective < MIN_EFFECTIVE:
        reason = f"it is carried by {one.effective:.0f} samples; expected at least {MIN_EFFECTIVE:.0f}"
        return reason, _more(draws, MIN_EFFECTIVE / max(one.effective, 1.0))
    if bias > MOST_BIAS * size:
        reason = f"its bias is more than {100 * MOST_BIAS:.0f} % of it"
        return reason, _more(draws, bias / (MOST_BIAS * size) if size else math.inf)
    if rel > WIDEST:
        return f"its interval would be wider than +-{100 * WIDEST:.0f} %", _more(draws, (rel / WIDEST) ** 2)
    if float(np.max(statistics.residuals[list(ranks)])) > one.error:
        return "its residual norm exceeds its standard error: lower tol", None
    factor = max(_clearance(statistics, i) for i in ranks)
    if factor > 1:
        return "it is not clearly larger than the eigenvalues that were not computed", _more(draws, factor)
    return "", None


def draws_needed(statistics: GroupStatistics, rtol: float, total: int, *, weighted: bool) -> int | None:
    """How many draws make every interval at most +-rtol wide, and none refused; None: no sample is enough.

    The standard error is taken to fall with the root of the draws, the bias with the draws.

    Args:
        total: the number N of samples in the data.
        weighted: whether samples are drawn with replacement.
    """
    before, k = statistics.draws, statistics.curvatures.shape[1]
    spreads = [spread(statistics, [i]) for i in range(k)]
    factors = [_clearance(statistics, i) for i in range(k)]
    factors += [MIN_EFFECTIVE / max(one.effective, 1.0) for one in spreads]
    least = max(MIN_GROUPS, before * max(factors))

    def enough(draws: int) -> bool:
        if not weighted and draws == total:
            return True
        f, t, ratio = 1.0 if weighted else 1 - draws / total, quantile(group_count(draws)), before / draws
        scaled = (
            replace(x, error=x.error * math.sqrt(ratio), bias_bound=x.bias_bound * ratio) for x in spreads
        )
        return draws >= least and all(one.relative(t, f) <= min(rtol, WIDEST) for one in scaled)

    n = bisect_left(range(total + 1), True, lo=MIN_GROUPS, key=enough)
    return n if n <= total else None


def draws_to_polish(statistics: GroupStatistics, rtol: float) -> int:
    """How many draws have vectors that products of all data bring to the relative accuracy rtol.

    What all data add to H v_i outside of the span of V is the error of the mean of the groups, so that the
    correction |r_i|^2 / theta_i is expected to be out_i, which falls with the draws.
    """
    k = statistics.curvatures.shape[1]
    spreads = (spread(statistics, [i]) for i in range(k))
    corrections = [one.outside / one.theta if one.theta else math.inf for one in spreads]
    factor = SAFE * max(corrections) / rtol
    return math.ceil(statistics.draws * factor) if math.isfinite(factor) else sys.maxsize


def _clearance(statistics: GroupStatistics, i: int) -> float:
    """By what factor the draws must increase until value i is CLEAR errors above zero and the last value."""
    gap = min(abs(statistics.theta[i]), statistics.gaps[i])
    error = CLEAR * spread(statistics, [i]).error
    return (error / gap) ** 2 if gap > 0 else math.inf


def _more(draws: int, factor: float) -> int | None:
    return math.ceil(draws * factor) if math.isfinite(factor) else None


def _variance(x: Floats) -> Floats:
    """The variance over the first axis."""
    result: Floats = np.var(x, axis=0, ddof=1)
    return result
