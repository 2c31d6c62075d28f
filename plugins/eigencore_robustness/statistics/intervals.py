"""Estimates with 95 % intervals, or the reason why there is none: BCa bootstrap and exact binomial intervals.

BCa: Efron 1987, "Better bootstrap confidence intervals". Resampling and intervals are SciPy's `bootstrap` and
`binomtest`, with samples resampled whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import stats

from eigencore import arrays
from eigencore.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

    Indices: TypeAlias = npt.NDArray[np.intp]
    Statistic: TypeAlias = Callable[[Indices], Floats]

MINIMUM = 30
"""With fewer fooled samples there are no intervals, no p-values and no claims."""

CONFIDENCE = 0.95
RESAMPLES = 2000

# The number of values resampled at once: it fits a processor's cache, which is fastest, and bounds the memory
# for any n.
BATCH = 1 << 16

TOO_FEW = f"fewer than {MINIMUM} samples with a known distance: no inference"
CONSTANT = "constant across the samples"
NOT_FOOLED = "no sample was fooled, or all at the same distance"
EMPTY = "no sample has a value"
UNSTABLE = "too few distinct values: the statistic is undefined on some resamples"


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval. Values that are not available are None; `reason` says why.

    Attributes:
        n: the number of samples behind the estimate.
        left_out: the number of samples without a value.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    left_out: int = 0
    reason: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it does not contain 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bootstrap_interval(
    statistic: Statistic, n: int, *, known: int, left_out: int, seed: int, resamples: int
) -> Interval:
    """Returns the statistic of n samples with its BCa interval.

    Args:
        statistic: takes samples (..., n) by index, all resamples at once; NaN if it is undefined.
        known: how many of the n samples have a known distance; there is no interval below `MINIMUM`.
        left_out: the number of samples without a value, for the record.
        seed: seed of the resampling.
        resamples: the number of resamples.
    """
    estimate = float(statistic(np.arange(n)))
    if known < MINIMUM:
        return Interval(estimate, None, None, n, left_out, TOO_FEW)
    low, high = _bca(statistic, n, estimate, arrays.generator(seed, "bootstrap"), resamples)
    if np.isnan(low):
        return Interval(estimate, None, None, n, left_out, UNSTABLE)
    return Interval(estimate, low, high, n, left_out)


def _bca(
    statistic: Statistic, n: int, estimate: float, rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """Returns the ends of the BCa interval, NaN if the statistic is undefined on some resample."""

    def of_indices(indices: Floats, axis: int = -1) -> Floats:
        return statistic(np.asarray(indices, dtype=np.intp))

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(n),),
            of_indices,
            n_resamples=resamples,
            batch=max(1, BATCH // n),
            vectorized=True,
            confidence_level=CONFIDENCE,
            method="BCa",
            random_state=rng,
        )
    low, high = (float(end) for end in result.confidence_interval)
    if np.isnan(low) or np.isnan(high):
        # BCa's acceleration is 0/0 if leaving one sample out changes nothing, and its bias is infinite if all
        # resamples lie on one side of the estimate. Percentiles still exist if every resample has a value.
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(q) for q in np.quantile(result.bootstrap_distribution, [tail, 1 - tail]))
        low, high = min(low, estimate), max(high, estimate)
    return low, high


def proportion(successes: int, n: int) -> Interval:
    """Returns a proportion with its exact binomial interval (Clopper and Pearson 1934), valid for every n."""
    if n == 0:
        return Interval(None, None, None, 0, reason=EMPTY)
    ends = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="exact")
    return Interval(successes / n, float(ends.low), float(ends.high), n)


def stack_columns(*columns: npt.ArrayLike) -> Floats:
    """Returns columns of one length as rows (m, n) of float64.

    Raises:
        UsageError: the columns differ in length or are not one-dimensional.
    """
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1:
        raise UsageError(
            f"columns have shapes {sorted(shapes)}; expected one-dimensional columns of equal length"
        )
    return np.stack(arrays)
