"""The error of an estimator of the distance after rescaling by one factor, the same for every sample.

Spearman's correlation saturates near 1 for good estimators and is insensitive to their scale; the error after
rescaling and the factor itself are not. The median absolute deviation is SciPy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eigencore_robustness.statistics.intervals import (
    EMPTY,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    stack_columns,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats
    from eigencore_robustness.statistics.intervals import Statistic


@dataclass(frozen=True)
class Calibration:
    """The scale and error of an estimator e of the distance d, over samples with both positive and finite.

    Attributes:
        ratio: the median of e / d before rescaling: 1.4 overstates the distance by 40 %.
        error: the median relative error after rescaling: exp(median |log(d / e) - c|) - 1, where c is the
            median of log(d / e). .06 is 6 %.
        censored: the number of samples left out because the attack did not fool them: their d is infinite.
        unusable: the number of samples left out because e or d is not positive and finite for another reason.
    """

    ratio: Interval
    error: Interval
    censored: int
    unusable: int


def calibration(e: npt.ArrayLike, d: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Calibration:
    """Returns the median ratio of an estimator (n,) to the distance (n,), and its error after rescaling."""
    rows = stack_columns(e, d)
    log_e, log_d = _logs(rows)
    log_ratio = log_d - log_e
    left_out, censored = rows.shape[1] - len(log_d), int(np.isposinf(rows[1]).sum())
    return Calibration(
        ratio=_interval(
            lambda i: np.exp(-np.median(log_ratio[i], axis=-1)), len(log_d), left_out, seed, resamples
        ),
        error=_interval(lambda i: _error(log_ratio[i]), len(log_d), left_out, seed, resamples),
        censored=censored,
        unusable=left_out - censored,
    )


def calibration_gain(
    e: npt.ArrayLike,
    reference: npt.ArrayLike,
    d: npt.ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    """Returns by how much the error of e (n,) is smaller than that of a reference (n,), with its interval.

    The bootstrap is paired: both errors are computed on the same resamples.
    """
    rows = stack_columns(e, reference, d)
    log_e, log_reference, log_d = _logs(rows)
    return _interval(
        lambda i: _error((log_d - log_reference)[i]) - _error((log_d - log_e)[i]),
        len(log_d),
        rows.shape[1] - len(log_d),
        seed,
        resamples,
    )


def _logs(rows: Floats) -> Floats:
    """Returns the logarithms of the columns (m, n), for samples with only positive and finite values."""
    return np.log(rows[:, (np.isfinite(rows) & (rows > 0)).all(axis=0)])


def _error(log_ratios: Floats) -> Floats:
    """Returns the error (...) of resamples (..., n) of log ratios, each rescaled by its own median."""
    error: Floats = np.expm1(stats.median_abs_deviation(log_ratios, axis=-1))
    return error


def _interval(statistic: Statistic, n: int, left_out: int, seed: int, resamples: int) -> Interval:
    if n == 0:
        return Interval(None, None, None, 0, left_out, EMPTY)
    return bootstrap_interval(statistic, n, known=n, left_out=left_out, seed=seed, resamples=resamples)
