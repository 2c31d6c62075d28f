"""Spearman's rank correlation with a distance, its partial form, and variance inflation.

A resample is a count for each sample, so that columns are sorted once and ranked in every resample by a
cumulative sum of counts: equal to ranking each resample anew, and several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eigencore_robustness.statistics.intervals import (
    CONSTANT,
    EMPTY,
    RESAMPLES,
    UNBROKEN,
    Interval,
    as_columns,
    bootstrapped,
    jackknifed,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats
    from eigencore_robustness.statistics.intervals import Indices

# A share of a column's rank variance that counts as none: what is left of one that others determine.
NOTHING = 1e-9

REPEATED = "the others determine its ranks, or those of the distance"


def spearman(x: npt.ArrayLike, d: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Spearman's rank correlation of a column (n,) with the distance (n,), with its BCa interval."""
    return partial_spearman(x, d, (), seed=seed, resamples=resamples)


def partial_spearman(
    x: npt.ArrayLike,
    d: npt.ArrayLike,
    controls: Sequence[npt.ArrayLike],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    """The correlation of what is left of the ranks of x and of d (n,) after a linear fit on the controls'.

    Controls may repeat each other. Ranks are taken and fitted anew in every resample.
    """
    rows = as_columns(x, d, *controls)
    kept = rows[:, ~np.isnan(rows).any(axis=0)]
    return _bootstrapped(kept, rows.shape[1] - kept.shape[1], _partial, REPEATED, seed, resamples)


def partial_p(x: npt.ArrayLike, d: npt.ArrayLike, controls: Sequence[npt.ArrayLike]) -> float | None:
    """Two-sided p that the partial correlation is 0; None where leaving a sample out leaves none.

    Student's t of Fisher's z over its jackknife standard error (Efron and Tibshirani 1993, chapter 11). The
    textbook's error, 1 / sqrt(n - 3 - controls), is too small where the spread of x and of d vary together,
    as both do with the loss: noise would then be claimed twice as often as said.
    """
    rows = as_columns(x, d, *controls)
    kept = rows[:, ~np.isnan(rows).any(axis=0)]
    n = kept.shape[1]
    free = n - 2 - len(controls)
    if free <= 0:
        return None
    covariances = rank_covariances(kept)
    z = jackknifed(lambda indices: _fisher_z(covariances(indices)), n)
    error = math.sqrt((n - 1) / n * float(np.sum((z - z.mean()) ** 2)))
    if math.isnan(error):
        return None
    if error == 0:
        return 0.0
    return float(2 * stats.t.sf(abs(float(_fisher_z(covariances(np.arange(n))))) / error, free))


def spearman_gain(
    x: npt.ArrayLike,
    reference: npt.ArrayLike,
    d: npt.ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    """How much stronger x is correlated with d than a reference (n,) is: |rho| less |rho|, paired."""
    rows = as_columns(x, d, reference)
    kept = rows[:, ~np.isnan(rows).any(axis=0)]

    def gain(covariance: Floats) -> Floats:
        of_x, of_reference = covariance[..., :2, :2], covariance[..., 1:, 1:]
        return np.abs(_partial(of_x)) - np.abs(_partial(of_reference))

    return _bootstrapped(kept, rows.shape[1] - kept.shape[1], gain, CONSTANT, seed, resamples)


def variance_inflation(x: npt.ArrayLike, controls: Sequence[npt.ArrayLike]) -> float | None:
    """1 / (1 - R2) of the ranks of x (n,) fitted on the controls'; infinite where they determine it.

    None where x is constant or has no values.
    """
    rows = as_columns(x, *controls)
    kept = rows[:, ~np.isnan(rows).any(axis=0)]
    if kept.shape[1] == 0 or _is_constant(kept[0]):
        return None
    covariance = rank_covariances(kept)(np.arange(kept.shape[1]))
    left = float(_left(covariance, 1)[0, 0])
    return 1 / left if left > NOTHING else math.inf


def rank_covariances(columns: Floats) -> Callable[[Indices], Floats]:
    """For columns (m, n): the covariances (..., m, m) of their ranks in resamples (..., k), by index.

    Ties share their mean rank. Ranks are scaled to unit variance; a constant column's are zero.
    """
    n = columns.shape[1]
    order = np.argsort(columns, axis=1, kind="stable")
    ascending = np.take_along_axis(columns, order, axis=1)
    below = [np.searchsorted(s, x, side="left") for s, x in zip(ascending, columns, strict=True)]
    upto = [np.searchsorted(s, x, side="right") for s, x in zip(ascending, columns, strict=True)]

    def covariances(indices: Indices) -> Floats:
        counts = _counts(indices.reshape(-1, indices.shape[-1]), n)
        weights = np.sqrt(counts)
        passed = np.zeros((n + 1, counts.shape[1]))
        ranks = np.empty((len(columns), *counts.shape))
        for column, sort in enumerate(order):
            np.cumsum(counts[sort], axis=0, out=passed[1:])
            # Twice (the mean rank of a tie, (below + up to + 1) / 2, less that of all, (k + 1) / 2).
            np.add(passed[below[column]], passed[upto[column]], out=ranks[column])
            ranks[column] = (ranks[column] - indices.shape[-1]) * weights
        products = [[np.einsum("nb,nb->b", one, other) for other in ranks] for one in ranks]
        covariance = np.moveaxis(np.array(products), -1, 0)
        lengths = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        lengths = np.where(lengths > 0, lengths, 1.0)
        covariance /= lengths[:, :, None] * lengths[:, None, :]
        shaped: Floats = covariance.reshape(*indices.shape[:-1], len(columns), len(columns))
        return shaped

    return covariances


def _counts(indices: Indices, n: int) -> Floats:
    """How often each of n samples is in each of B resamples (B, k): (n, B)."""
    flat = indices + n * np.arange(len(indices))[:, None]
    counts = np.bincount(flat.ravel(), minlength=n * len(indices)).reshape(-1, n)
    return np.ascontiguousarray(counts.T, dtype=np.float64)


def _left(covariance: Floats, wanted: int) -> Floats:
    """What is left (..., wanted, wanted) of the covariance of the first columns after a fit on the rest."""
    inside, across = covariance[..., :wanted, :wanted], covariance[..., :wanted, wanted:]
    rest = covariance[..., wanted:, wanted:]
    if rest.shape[-1] == 0:
        return inside
    inverse = np.linalg.pinv(rest, rcond=NOTHING, hermitian=True)
    return inside - across @ inverse @ np.swapaxes(across, -1, -2)


def _partial(covariance: Floats) -> Floats:
    """The correlation (...) of the first two columns given the rest; NaN where one has nothing left."""
    left = _left(covariance, 2)
    variances = left[..., 0, 0], left[..., 1, 1]
    defined = (variances[0] > NOTHING) & (variances[1] > NOTHING)
    scale = np.sqrt(np.where(defined, variances[0] * variances[1], 1.0))
    return np.where(defined, np.clip(left[..., 0, 1] / scale, -1.0, 1.0), np.nan)


def _fisher_z(covariance: Floats) -> Floats:
    nearly_one = 1 - 1e-12
    return np.arctanh(np.clip(_partial(covariance), -nearly_one, nearly_one))


def _bootstrapped(
    kept: Floats,
    left_out: int,
    of_covariance: Callable[[Floats], Floats],
    undefined: str,
    seed: int,
    resamples: int,
) -> Interval:
    """The interval of a function of rank covariances; x is in the first row, the distance in the second.

    `undefined` says why the function may be NaN though neither of these is constant.
    """
    n = kept.shape[1]
    covariances = rank_covariances(kept) if n else None
    reason = EMPTY if n == 0 else CONSTANT if _is_constant(kept[0]) else ""
    reason = reason or (UNBROKEN if _is_constant(kept[1]) else "")
    if reason or covariances is None:
        return Interval(None, None, None, n, left_out, reason)
    if np.isnan(of_covariance(covariances(np.arange(n)))):
        return Interval(None, None, None, n, left_out, undefined)
    return bootstrapped(
        lambda indices: of_covariance(covariances(indices)),
        n,
        known=int(np.isfinite(kept[1]).sum()),
        left_out=left_out,
        seed=seed,
        resamples=resamples,
    )


def _is_constant(column: Floats) -> bool:
    return bool((column == column[0]).all())
