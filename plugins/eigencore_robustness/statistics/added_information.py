"""Tests of whether a column adds information beyond its controls on the distance, or is redundant given them.

Claims are made for a family of columns at once, so that testing many columns does not in itself lead to a
claim. Holm's method is ours because SciPy controls only the false discovery rate of a family, and because
statsmodels, whose results are the same, would add 150 MB of dependencies with pandas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from eigencore_robustness.statistics.cross_validation import R2Gain, r2_gain
from eigencore_robustness.statistics.intervals import CONFIDENCE, RESAMPLES, TOO_FEW, Interval
from eigencore_robustness.statistics.rank_correlation import partial_p, partial_spearman, variance_inflation

if TYPE_CHECKING:
    import numpy.typing as npt

# The customary bound (Kutner et al., Applied Linear Statistical Models): the controls explain nine tenths of
# the column's rank variance, and its standard error is more than three times that of an unrelated column.
LARGE_VIF = 10.0


class Finding(StrEnum):
    """The conclusion about a column given its controls.

    ADDS: the family-wise p-value is below .05, the interval of the partial correlation excludes 0, and the
        column is not collinear with the controls (VIF below 10).
    REDUNDANT: the column is collinear with the controls (VIF of 10 or more) and adds nothing beyond them: the
        interval of its partial correlation contains 0, or its gain in cross-validated R2 is small
        (`R2Gain.is_small`).
    COLLINEAR: the column adds information, but is so collinear with the controls (VIF of 10 or more) that its
        contribution cannot be separated from theirs.
    INCONCLUSIVE: none of the above applies.
    """

    ADDS = "adds information"
    REDUNDANT = "redundant"
    COLLINEAR = "collinear"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class AddedInformation:
    """The relation of a column x to the distance given controls.

    Attributes:
        partial: its partial Spearman correlation with the distance; the interval is not adjusted.
        vif: the variance inflation factor of its ranks, infinite if the controls determine them.
        p: the two-sided p-value of the partial correlation, adjusted for all columns of the family (Holm
            1979); None if there is no inference.
        r2: the cross-validated R2 of log d without and with x.
    """

    partial: Interval
    vif: float | None
    p: float | None
    r2: R2Gain
    finding: Finding


def added_information(
    columns: Mapping[str, npt.ArrayLike],
    d: npt.ArrayLike,
    controls: Mapping[str, npt.ArrayLike],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, AddedInformation]:
    """Returns by name what each column (n,) adds to the controls (n,); the columns are one family of tests.

    A column that is itself among the controls is tested given the other controls.
    """
    partials, ps = {}, {}
    for name, x in columns.items():
        others = _others(controls, name)
        partials[name] = partial_spearman(x, d, others, seed=seed, resamples=resamples)
        ps[name] = None if partials[name].low is None else partial_p(x, d, others)
    ps = holm(ps)
    results = {}
    for name, x in columns.items():
        others = _others(controls, name)
        vif, r2 = variance_inflation(x, others), r2_gain(x, d, others)
        finding = classify(partials[name], vif, ps[name], r2)
        results[name] = AddedInformation(partials[name], vif, ps[name], r2, finding)
    return results


def _others(controls: Mapping[str, npt.ArrayLike], name: str) -> list[npt.ArrayLike]:
    return [control for key, control in controls.items() if key != name]


def classify(partial: Interval, vif: float | None, p: float | None, r2: R2Gain) -> Finding:
    """Returns the finding for a column with this partial correlation, VIF, adjusted p-value and R2 gain.

    A column that the controls determine has an infinite VIF and no partial correlation: it is redundant for
    any number of samples.
    """
    if vif is not None and math.isinf(vif):
        return Finding.REDUNDANT
    if vif is None or partial.estimate is None or partial.reason == TOO_FEW:
        return Finding.INCONCLUSIVE
    if vif >= LARGE_VIF:
        adds = partial.excludes_zero and not r2.is_small
        return Finding.COLLINEAR if adds else Finding.REDUNDANT
    significant = partial.excludes_zero and p is not None and p < 1 - CONFIDENCE
    return Finding.ADDS if significant else Finding.INCONCLUSIVE


def holm(ps: Mapping[str, float | None]) -> dict[str, float | None]:
    """Returns the p-values of a family of tests, adjusted for their number by Holm's method.

    A family without effects has an adjusted p-value below alpha with probability alpha at most. Holm 1979, "A
    simple sequentially rejective multiple test procedure": no assumption about the dependence between the
    tests. None stays None and does not belong to the family.
    """
    tested = sorted((p, name) for name, p in ps.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(ps)
    largest = 0.0
    for rank, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[name] = largest
    return adjusted
