"""Whether a column says more of the distance than its controls do, repeats them, or neither can be said.

A claim is made for a family of columns at once, so that looking at many does not make one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from eigencore_robustness.statistics.intervals import CONFIDENCE, RESAMPLES, TOO_FEW, Interval
from eigencore_robustness.statistics.prediction import R2Gain, r2_gain
from eigencore_robustness.statistics.ranks import partial_p, partial_spearman, variance_inflation

if TYPE_CHECKING:
    import numpy.typing as npt

# The customary bound (Kutner et al., Applied Linear Statistical Models): the controls hold nine tenths of the
# column's rank variance, and its standard error is more than three times that of an unrelated column.
LARGE_VIF = 10.0


class Standing(StrEnum):
    """What can be said of a column beside its controls.

    ADDS: it says more: family-wise p below .05, its own interval leaves 0 out, and it is not a mixture of the
        controls (VIF below 10).
    REDUNDANT: it repeats them (VIF of 10 or more) and brings nothing of its own: the interval of its partial
        correlation holds 0, or its gain in cross-validated R2 is small (`R2Gain.is_small`).
    COLLINEAR: it brings something, and is so much of a mixture of them (VIF of 10 or more) that what that is
        can't be told.
    OPEN: none of these can be said.
    """

    ADDS = "adds"
    REDUNDANT = "redundant"
    COLLINEAR = "collinear"
    OPEN = "open"


@dataclass(frozen=True)
class Added:
    """A column x given controls.

    Attributes:
        partial: its partial Spearman correlation with the distance; the interval is not adjusted.
        vif: variance inflation factor of its ranks, infinite where the controls determine them.
        p: two-sided p of the partial correlation, adjusted for all columns of the family (Holm 1979); None
            where there is no inference.
        r2: cross-validated R2 of log d without and with it.
    """

    partial: Interval
    vif: float | None
    p: float | None
    r2: R2Gain
    standing: Standing


def added(
    columns: Mapping[str, npt.ArrayLike],
    d: npt.ArrayLike,
    controls: Mapping[str, npt.ArrayLike],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Added]:
    """What each column (n,) adds to the controls (n,), as one family: all the columns that were looked at.

    A column that is itself among the controls is set against the others.
    """
    partials, ps = {}, {}
    for name, x in columns.items():
        others = _others(controls, name)
        partials[name] = partial_spearman(x, d, others, seed=seed, resamples=resamples)
        ps[name] = None if partials[name].low is None else partial_p(x, d, others)
    ps = holm(ps)
    found = {}
    for name, x in columns.items():
        others = _others(controls, name)
        vif, r2 = variance_inflation(x, others), r2_gain(x, d, others)
        word = standing(partials[name], vif, ps[name], r2)
        found[name] = Added(partials[name], vif, ps[name], r2, word)
    return found


def _others(controls: Mapping[str, npt.ArrayLike], name: str) -> list[npt.ArrayLike]:
    return [control for key, control in controls.items() if key != name]


def standing(partial: Interval, vif: float | None, p: float | None, r2: R2Gain) -> Standing:
    """The word for a column, from its partial correlation, VIF, adjusted p and R2 gain.

    A column that the controls determine outright has VIF infinite and no partial correlation: redundant,
    whatever the number of samples.
    """
    if vif is not None and math.isinf(vif):
        return Standing.REDUNDANT
    if vif is None or partial.estimate is None or partial.reason == TOO_FEW:
        return Standing.OPEN
    if vif >= LARGE_VIF:
        brings = partial.leaves_out_zero and not r2.is_small
        return Standing.COLLINEAR if brings else Standing.REDUNDANT
    claimed = partial.leaves_out_zero and p is not None and p < 1 - CONFIDENCE
    return Standing.ADDS if claimed else Standing.OPEN


def holm(ps: Mapping[str, float | None]) -> dict[str, float | None]:
    """The p-values adjusted so that a family without effects has one below alpha with probability alpha.

    Holm 1979, "A simple sequentially rejective multiple test procedure": no assumption on how the tests
    depend on each other. None stays None and is not of the family.
    """
    tested = sorted((p, name) for name, p in ps.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(ps)
    largest = 0.0
    for rank, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[name] = largest
    return adjusted
