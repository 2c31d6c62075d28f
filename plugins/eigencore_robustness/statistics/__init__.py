"""The statistics of the robustness analysis: NumPy arrays in, frozen records out, nothing rounded.

    intervals    an estimate with its interval, or the reason why there is none; the bootstrap; proportions
    ranks        Spearman's correlation, its partial form, variance inflation
    calibration  how far an estimator is off after one calibration factor
    prediction   cross-validated R2 of the log distance
    adding       whether a column adds to others, repeats them, or neither can be said
    power        the smallest correlation that so many samples could show

A distance d is (n,): infinite where the attack did not break the sample, so that all that is known is that
its distance is larger than what was reached (it is *censored*). Ranks tie these samples at the top;
what needs the logarithm of d leaves them out and counts them. NaN means no value: left out, counted.

Fewer than `MINIMUM` broken samples: estimates come without intervals, and nothing is claimed.
"""

from __future__ import annotations

from eigencore_robustness.statistics.adding import Added, Standing, added
from eigencore_robustness.statistics.calibration import Calibration, calibration, calibration_gain
from eigencore_robustness.statistics.intervals import MINIMUM, Interval, proportion
from eigencore_robustness.statistics.power import smallest_detectable
from eigencore_robustness.statistics.prediction import R2Gain, r2_gain
from eigencore_robustness.statistics.ranks import (
    partial_spearman,
    spearman,
    spearman_gain,
    variance_inflation,
)

__all__ = [
    "MINIMUM",
    "Added",
    "Calibration",
    "Interval",
    "R2Gain",
    "Standing",
    "added",
    "calibration",
    "calibration_gain",
    "partial_spearman",
    "proportion",
    "r2_gain",
    "smallest_detectable",
    "spearman",
    "spearman_gain",
    "variance_inflation",
]
