"""What a column adds to the prediction of the log distance, on samples that the fit did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore_robustness.statistics.intervals import as_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

# Gains that are not worth a column: of the variance of log d, and of the part that the controls leave. The
# second counts where the controls explain nearly all: from .990 to .996 is .006, and most of what was left.
SMALL_GAIN = 0.01
SMALL_SHARE = 0.1


@dataclass(frozen=True)
class R2Gain:
    """Cross-validated R2 of log d by the controls, and by the controls with one more column.

    Both are None where they can't be had; `reason` says why.
    """

    controls: float | None
    together: float | None
    n: int
    left_out: int
    reason: str = ""

    @property
    def gain(self) -> float | None:
        return None if self.controls is None or self.together is None else self.together - self.controls

    @property
    def is_small(self) -> bool:
        """Whether the gain is less than .01, and than a tenth of what the controls leave unexplained."""
        if self.controls is None or self.gain is None:
            return False
        return self.gain < min(SMALL_GAIN, SMALL_SHARE * (1 - self.controls))


def r2_gain(x: npt.ArrayLike, d: npt.ArrayLike, controls: Sequence[npt.ArrayLike]) -> R2Gain:
    """How much better linear least squares predicts log d (n,) once x (n,) joins the controls.

    Each sample is predicted from all others (leave-one-out), which least squares has in closed form: no
    split of the samples to draw. Columns enter by their logarithm; see `_logarithmic`. Left out are samples
    with a value that is not finite, or a distance that is not positive.
    """
    rows = as_columns(x, d, *controls)
    kept = rows[:, np.isfinite(rows).all(axis=0) & (rows[1] > 0)]
    n, left_out = kept.shape[1], rows.shape[1] - kept.shape[1]
    if n <= len(rows):
        return R2Gain(None, None, n, left_out, "fewer samples than coefficients to fit")
    log_d = np.log(kept[1])
    if np.ptp(log_d) == 0:
        return R2Gain(None, None, n, left_out, "all distances are equal")
    columns = [_logarithmic(column) for column in (kept[0], *kept[2:])]
    return R2Gain(_left_one_out(columns[1:], log_d), _left_one_out(columns, log_d), n, left_out)


def _left_one_out(columns: Sequence[Floats], y: Floats) -> float:
    """1 - PRESS / that of the mean: without its sample, a fit would leave residual / (1 - leverage)."""
    design = np.stack([np.ones_like(y), *columns], axis=1)
    lengths = np.linalg.norm(design, axis=0)
    design /= np.where(lengths > 0, lengths, 1.0)
    u, scale, _ = np.linalg.svd(design, full_matrices=False)
    basis = u[:, scale > 1e-10 * scale[0]]  # columns that repeat others add nothing
    leverage = np.sum(basis**2, axis=1)
    # A sample that alone determines a coefficient has leverage 1, and no fit without it: the mean stands in.
    alone = leverage > 1 - 1e-10
    n = len(y)
    of_mean = (y - y.mean()) * n / (n - 1)
    of_fit = (y - basis @ (basis.T @ y)) / np.where(alone, 1.0, 1 - leverage)
    return 1 - float(np.sum(np.where(alone, of_mean, of_fit) ** 2) / np.sum(of_mean**2))


def _logarithmic(x: Floats) -> Floats:
    """log x where all are positive; else arcsinh(x / s), which is that for large values of either sign.

    s is the median magnitude of those that are not zero.
    """
    if (x > 0).all():
        return np.log(x)
    sizes = np.abs(x[x != 0])
    return np.arcsinh(x / np.median(sizes)) if len(sizes) else x
