"""An estimate with its 95 % interval, or the reason why there is none: bootstrap BCa, exact binomial.

BCa: Efron 1987, "Better bootstrap confidence intervals", as SciPy has it; samples are resampled whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import stats

from eigencore.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

    Indices: TypeAlias = npt.NDArray[np.intp]
    Statistic: TypeAlias = Callable[[Indices], Floats]

MINIMUM = 30
"""Broken samples below which there are no intervals, no p-values and no claims."""

CONFIDENCE = 0.95
RESAMPLES = 2000

# Numbers resampled at once: what fits a processor's cache is fastest, and memory stays small for any n.
BATCH = 1 << 16

TOO_FEW = f"fewer than {MINIMUM} samples with a known distance: no inference"
CONSTANT = "the same on every sample"
UNBROKEN = "no sample was broken, or all at one distance"
EMPTY = "no sample has a value"
UNSTABLE = "too few different values: some resamples have no such statistic"


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; what there is not is None, and `reason` says why.

    Attributes:
        n: samples that it was computed from.
        left_out: samples that had no value to compute it from.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    left_out: int = 0
    reason: str = ""

    @property
    def leaves_out_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bootstrapped(
    statistic: Statistic, n: int, *, known: int, left_out: int, seed: int, resamples: int
) -> Interval:
    """The statistic of n samples with its BCa interval.

    Args:
        statistic: of samples (..., n) by index, all resamples at once; NaN where it is not defined.
        known: how many of the n have a known distance; there is no interval below `MINIMUM`.
    """
    estimate = float(statistic(np.arange(n)))
    if known < MINIMUM:
        return Interval(estimate, None, None, n, left_out, TOO_FEW)
    low, high = _bca(statistic, n, estimate, np.random.default_rng(seed), resamples)
    if np.isnan(low):
        return Interval(estimate, None, None, n, left_out, UNSTABLE)
    return Interval(estimate, low, high, n, left_out)


def _bca(
    statistic: Statistic, n: int, estimate: float, rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """NaN where the statistic is not defined on every resample."""

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
        # BCa's acceleration is 0/0 where leaving one sample out changes nothing, its bias infinite where
        # all resamples lie on one side; the percentiles are still there, if every resample has a value.
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(q) for q in np.quantile(result.bootstrap_distribution, [tail, 1 - tail]))
        low, high = min(low, estimate), max(high, estimate)
    return low, high


def jackknifed(statistic: Statistic, n: int) -> Floats:
    """The statistic (n,) of the samples without each one in turn."""
    everyone, at_once = np.arange(n), max(1, BATCH // n)
    parts = [everyone[i : i + at_once] for i in range(0, n, at_once)]
    return np.concatenate([statistic(_without(everyone, part)) for part in parts])


def _without(everyone: Indices, out: Indices) -> Indices:
    """(len(out), n - 1), each row without one of `out`."""
    kept = everyone[None, :] != out[:, None]
    rows: Indices = np.broadcast_to(everyone, kept.shape)[kept].reshape(len(out), -1)
    return rows


def proportion(successes: int, n: int) -> Interval:
    """A share with its exact binomial interval (Clopper and Pearson 1934), which holds for every n."""
    if n == 0:
        return Interval(None, None, None, 0, reason=EMPTY)
    ends = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="exact")
    return Interval(successes / n, float(ends.low), float(ends.high), n)


def as_columns(*columns: npt.ArrayLike) -> Floats:
    """Columns of one length as rows (m, n), float64.

    Raises:
        UsageError: they are not of one length, or not one-dimensional.
    """
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1:
        raise UsageError(f"columns of shapes {sorted(shapes)}; expected a value a sample, equally many")
    return np.stack(arrays)
