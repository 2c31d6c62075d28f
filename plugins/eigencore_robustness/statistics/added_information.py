"""Tests of whether a column adds information beyond its controls on the distance, or is redundant given them.

Claims are made for a family of columns at once, so that testing many columns does not in itself lead to a
claim. Holm's method is ours because SciPy controls only the false discovery rate of a family, and because
statsmodels, whose results are the same, would add 150 MB of dependencies with pandas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eigencore_robustness.statistics.flexible_controls import (
    ALONE,
    control_basis,
    left_out_errors,
    left_out_r2,
    logarithmic,
    residuals,
)
from eigencore_robustness.statistics.intervals import (
    CONFIDENCE,
    CONSTANT,
    EMPTY,
    NOT_FOOLED,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    stack_columns,
)
from eigencore_robustness.statistics.rank_correlation import NEGLIGIBLE, is_constant, variance_inflation

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats
    from eigencore_robustness.statistics.intervals import Indices

# With fewer samples, five samples per coefficient do not allow three controls five knots each.
ENOUGH = 100

# A column matters if it explains this share of the variance that the controls leave open, which lowers the
# root mean square error of the prediction by 1.5 % of itself. A share of 5 % is then found at 360 samples in
# 86 % of studies.
SMALL_SHARE = 0.03

# Attacks themselves determine log d no better than this (root mean square): 100 steps of DDN are .3 % above
# the best of three attacks on average. What is smaller is not worth a claim.
ERROR_OF_ATTACKS = 0.005

NEARLY_ONE = 1 - 1e-12  # keeps Fisher's z finite

FEWER = f"fewer than {ENOUGH} samples with a known distance: the controls cannot be fitted flexibly"
DETERMINED = "the controls determine the column"


class Finding(StrEnum):
    """The conclusion about a column given its controls, by the same rule for every column.

    ADDS: the column explains a share of the variance that the controls leave open that matters
        (`SMALL_SHARE` or more), the interval of the partial correlation excludes 0, and its family-wise
        p-value is below .05.
    REDUNDANT: whatever the column says of the distance, the controls say as well: the whole interval of the
        share is below `SMALL_SHARE`, the controls determine the column, or they leave nothing open.
    INCONCLUSIVE: neither has been shown.
    """

    ADDS = "adds information"
    REDUNDANT = "redundant"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class AddedInformation:
    """The relation of a column x to the distance d given controls, all on logarithmic scales.

    Attributes:
        partial: the correlation of x with d after flexible functions of the controls are taken from both;
            the interval is not adjusted for the family.
        p: its two-sided p-value, adjusted for all columns of the family (Holm 1979); None if there is no
            inference.
        left_open: the root mean square error of log d as predicted by the controls.
        r2_of_controls: the share of the variance of log d that the controls predict, by leave-one-out.
        r2_gain: the increase of this share if x joins the controls.
        vif: the variance inflation factor of the ranks of x, as a description; infinite if the controls
            determine them.
        finding: the conclusion.
    """

    partial: Interval
    p: float | None
    left_open: float | None
    r2_of_controls: float | None
    r2_gain: float | None
    vif: float | None
    finding: Finding = Finding.INCONCLUSIVE

    @property
    def share(self) -> Interval:
        """The share of the variance left open by the controls that x explains: partial squared."""
        partial = self.partial
        if partial.estimate is None or partial.low is None or partial.high is None:
            square = None if partial.estimate is None else partial.estimate**2
            return replace(partial, estimate=square)
        ends = sorted((partial.low**2, partial.high**2))
        return replace(
            partial, estimate=partial.estimate**2, low=ends[0] if partial.excludes_zero else 0.0, high=ends[1]
        )


def added_information(
    columns: Mapping[str, npt.ArrayLike],
    d: npt.ArrayLike,
    controls: Mapping[str, npt.ArrayLike],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, AddedInformation]:
    """Returns by name what each column (n,) adds to the controls (n,), as one family of tests."""
    given = list(controls.values())
    found = {name: _given_controls(x, d, given, seed, resamples) for name, x in columns.items()}
    ps = holm({name: one.p for name, one in found.items()})
    adjusted = {name: replace(one, p=ps[name]) for name, one in found.items()}
    return {name: replace(one, finding=classify(one)) for name, one in adjusted.items()}


def _given_controls(
    x: npt.ArrayLike, d: npt.ArrayLike, controls: Sequence[npt.ArrayLike], seed: int, resamples: int
) -> AddedInformation:
    """Returns the relation of x to d given the controls, before the adjustment for the family.

    Samples with a value that is not finite, or without a positive distance, are left out.
    """
    rows = stack_columns(x, d, *controls)
    kept = rows[:, np.isfinite(rows).all(axis=0) & (rows[1] > 0)]
    n, left_out = kept.shape[1], rows.shape[1] - kept.shape[1]
    vif = variance_inflation(x, controls)
    known = ~np.isnan(rows[0])
    if not known.any():
        reason = EMPTY
    elif is_constant(rows[0, known]):
        reason = CONSTANT
    elif n == 0 or np.ptp(kept[1]) == 0:
        reason = NOT_FOOLED
    else:
        reason = FEWER if n < ENOUGH else ""
    if reason:
        return AddedInformation(Interval(None, None, None, n, left_out, reason), None, None, None, None, vif)
    log_x, log_d = logarithmic(kept[0]), np.log(kept[1])
    basis = control_basis(list(kept[2:]) or [np.ones(n)])
    of_x, of_d = residuals(basis, log_x), residuals(basis, log_d)
    left_open = float(np.sqrt(np.mean(left_out_errors(basis, log_d) ** 2)))
    r2 = left_out_r2(basis, log_d)
    size = float(np.linalg.norm(of_x))
    if size**2 <= NEGLIGIBLE * np.sum((log_x - log_x.mean()) ** 2):
        determined = Interval(None, None, None, n, left_out, DETERMINED)
        return AddedInformation(determined, None, left_open, r2, 0.0, vif)
    return AddedInformation(
        partial=_partial(of_x, of_d, basis.shape[1], left_out, seed, resamples),
        p=_p(of_x * of_d, basis),
        left_open=left_open,
        r2_of_controls=r2,
        r2_gain=left_out_r2(np.column_stack([basis, of_x / size]), log_d) - r2,
        vif=vif,
    )


def _partial(
    of_x: Floats, of_d: Floats, coefficients: int, left_out: int, seed: int, resamples: int
) -> Interval:
    """Returns the correlation of two residuals (n,) with its BCa interval.

    Samples are resampled with their residuals, as if the fit were known. Its coefficients are allowed for by
    the factor sqrt(n / (n - coefficients)) on the interval of Fisher's z, as in the textbook variance.
    """
    n = len(of_x)
    products = np.stack([of_x * of_d, of_x**2, of_d**2])

    def fisher_z(indices: Indices) -> Floats:
        across, xx, dd = (row[indices].sum(axis=-1) for row in products)
        z: Floats = np.arctanh(np.clip(across / np.sqrt(xx * dd), -NEARLY_ONE, NEARLY_ONE))
        return z

    of_z = bootstrap_interval(fisher_z, n, known=n, left_out=left_out, seed=seed, resamples=resamples)
    estimate, low, high = of_z.estimate, of_z.low, of_z.high
    if estimate is None or low is None or high is None:
        return replace(of_z, estimate=None if estimate is None else math.tanh(estimate))
    wider = math.sqrt(n / (n - coefficients))
    return replace(
        of_z,
        estimate=math.tanh(estimate),
        low=math.tanh(estimate - wider * (estimate - low)),
        high=math.tanh(estimate + wider * (high - estimate)),
    )


def _p(products: Floats, basis: Floats) -> float:
    """Returns the two-sided p-value for a zero mean of the products (n,) of two residuals.

    The standard error is HC3 (MacKinnon and White 1985): the textbook one is too small if the spread of x and
    that of d vary together, as both do with the loss.
    """
    remaining = np.maximum(1 - np.sum(basis**2, axis=1), ALONE)
    error = float(np.linalg.norm(products / remaining))
    free = len(basis) - basis.shape[1] - 1
    return float(2 * stats.t.sf(abs(float(products.sum())) / error, free)) if error else 1.0


def classify(one: AddedInformation) -> Finding:
    """Returns the finding for a column whose p-value is adjusted."""
    if one.partial.reason == DETERMINED:
        return Finding.REDUNDANT
    share = one.share
    if share.estimate is None or share.high is None or one.p is None or one.left_open is None:
        return Finding.INCONCLUSIVE
    if share.high < SMALL_SHARE or one.left_open <= ERROR_OF_ATTACKS:
        return Finding.REDUNDANT
    significant = one.partial.excludes_zero and one.p < 1 - CONFIDENCE
    return Finding.ADDS if significant and share.estimate >= SMALL_SHARE else Finding.INCONCLUSIVE


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
