"""How far an estimator of the distance is off once one factor, the same for every sample, is granted to it.

Spearman's correlation sits at its ceiling for good estimators and is blind to scale; this is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore_robustness.statistics.intervals import EMPTY, RESAMPLES, Interval, as_columns, bootstrapped

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats
    from eigencore_robustness.statistics.intervals import Statistic


@dataclass(frozen=True)
class Calibration:
    """An estimator e of the distance d, over the samples where both are positive and finite.

    Attributes:
        ratio: the median of e / d, as it is: 1.4 overstates the distance by 40 %.
        error: the typical error after calibration, a share: exp(median |log(d / e) - c|) - 1, where c is the
            median of log(d / e). .06 is 6 %.
        censored: samples left out since the attack did not break them: their d is infinite.
        unusable: other samples left out: e or d has no value there that is positive and finite.
    """

    ratio: Interval
    error: Interval
    censored: int
    unusable: int


def calibration(e: npt.ArrayLike, d: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Calibration:
    """The median ratio of an estimator (n,) to the distance (n,), and its typical error once calibrated."""
    rows = as_columns(e, d)
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
    """How much smaller the error of e (n,) is than that of a reference (n,), paired: above 0 is better."""
    rows = as_columns(e, reference, d)
    log_e, log_reference, log_d = _logs(rows)
    return _interval(
        lambda i: _error((log_d - log_reference)[i]) - _error((log_d - log_e)[i]),
        len(log_d),
        rows.shape[1] - len(log_d),
        seed,
        resamples,
    )


def _logs(rows: Floats) -> Floats:
    """The logarithms of the columns (m, n) where all of them are positive and finite."""
    return np.log(rows[:, (np.isfinite(rows) & (rows > 0)).all(axis=0)])


def _error(log_ratios: Floats) -> Floats:
    """The typical error (...) of resamples (..., n) of log ratios, each calibrated by its own median."""
    off = np.abs(log_ratios - np.median(log_ratios, axis=-1, keepdims=True))
    error: Floats = np.expm1(np.median(off, axis=-1))
    return error


def _interval(statistic: Statistic, n: int, left_out: int, seed: int, resamples: int) -> Interval:
    if n == 0:
        return Interval(None, None, None, 0, left_out, EMPTY)
    return bootstrapped(statistic, n, known=n, left_out=left_out, seed=seed, resamples=resamples)
