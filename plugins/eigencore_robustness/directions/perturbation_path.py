"""Eigenvalues over the input along the segment from a sample to its smallest perturbation.

They show whether the curvature at the sample, from which radii are predicted, is that which the attack meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy, Margin
from eigencore_robustness.over_inputs.input_eigenpairs import TOL, largest_eigenpairs
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # 0 is the sample, 1 the perturbed input
MOST = 50  # samples
QUANTITIES = ("loss", "margin", "lambda_max", "nu")


@dataclass(frozen=True)
class PerturbationPath:
    """What is found at the points of the segments of s samples.

    Attributes:
        values: by QUANTITIES, arrays (points, s): the cross-entropy; the logit margin to the class of the
            perturbed input; the largest eigenvalue of the Hessian of the cross-entropy, and of minus that of
            the margin. An eigenvalue that did not converge is NaN.
    """

    values: dict[str, Floats]

    @property
    def samples(self) -> int:
        """The number of samples."""
        return int(self.values["loss"].shape[1])

    @property
    def unconverged(self) -> int:
        """The number of eigenvalues that did not converge, and are left out."""
        return sum(int(np.isnan(self.values[name]).sum()) for name in ("lambda_max", "nu"))

    def quartiles(self, name: str) -> Floats:
        """Returns the lower quartile, the median and the upper quartile (3, points) over the samples."""
        found = np.full((3, len(POINTS)), np.nan)
        for i, values in enumerate(self.values[name]):
            if not np.isnan(values).all():
                found[:, i] = np.nanquantile(values, [0.25, 0.5, 0.75])
        return found

    def change(self, name: str) -> float | None:
        """Returns the median over the samples of the quantity at the end over that at the sample.

        Samples whose quantity is not positive at the start are left out; None if none is left.
        """
        start, end = self.values[name][0], self.values[name][-1]
        usable = (start > 0) & np.isfinite(end)
        return float(np.median(end[usable] / start[usable])) if usable.any() else None


def perturbation_path(
    classifier: Classifier, x: Array, y: Array, moved: Array, reached: Array, batch: int, seed: int
) -> PerturbationPath:
    """Returns loss, margin and eigenvalues between the first MOST samples that were moved and their ends.

    Args:
        x, y: samples (n, d) and labels (n,).
        moved: misclassified inputs (n, d); the sample itself where none was found.
        reached: the classes (n,) of `moved`.
    """
    xp = classifier.xp
    length = arrays.to_host(xp.linalg.vector_norm(moved - x, axis=1))
    chosen = np.flatnonzero(length > 0)[:MOST]
    x, y, moved, reached = (arrays.rows(part, chosen) for part in (x, y, moved, reached))
    s, points = len(chosen), len(POINTS)
    # All points of all samples are rows of the same batches.
    along = xp.concat([x + t * (moved - x) for t in POINTS], axis=0)
    labels, towards = (xp.concat([part] * points) for part in (y, reached))
    found: dict[str, list[Floats]] = {name: [] for name in QUANTITIES}
    for at, rows, own in batches(along, labels, batch):
        margin = Margin(towards[at : at + batch])
        logits = classifier.logits(rows)
        found["loss"].append(arrays.to_host(CrossEntropy().value(logits, own)))
        found["margin"].append(arrays.to_host(margin.value(logits, own)))
        found["lambda_max"].append(_largest(classifier, CrossEntropy(), rows, own, seed + at))
        found["nu"].append(_largest(classifier, margin, rows, own, seed + at, sign=-1))
    return PerturbationPath({name: np.concatenate(parts).reshape(points, s) for name, parts in found.items()})


def _largest(
    classifier: Classifier, objective: Objective, x: Array, y: Array, seed: int, sign: int = 1
) -> Floats:
    """Returns the largest eigenvalue (b,) of the Hessian times the sign, NaN where it did not converge."""
    product = classifier.input_products(objective, x, y)
    pairs = largest_eigenpairs(lambda v: sign * product(v), x.shape, classifier, seed)
    value, residual = pairs.values[:, 0], pairs.residuals[:, 0]
    return np.where(residual <= np.maximum(2 * TOL * np.abs(value), pairs.zero), value, np.nan)
