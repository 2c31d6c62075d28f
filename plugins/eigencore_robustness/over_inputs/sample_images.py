"""The samples with the smallest and the largest perturbations as images, with their input eigenvectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.figures import Figure
from eigencore.problems.sharing import ImageAxes

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Floats
    from eigencore_robustness.over_inputs.alignments import Perturbations
    from eigencore_robustness.over_inputs.sample_columns import SampleMeasurements

EACH = 3  # samples with the smallest, and with the largest perturbations
SMALLEST_SIDE = 4  # pixels of an image; what has fewer is a table or a vector
CHANNELS = (1, 3)


@dataclass(frozen=True)
class SampleImages:
    """A few samples and what fools them, in increasing order of the distance.

    Attributes:
        axes: how an input is an image.
        rows: the samples (p,), by index.
        inputs, moved: the inputs and the perturbed ones (p, d).
        eigenvectors: the first eigenvectors (p, d) of the Hessian of the loss over the input, of norm 1, at
            most 90 degrees from the perturbation; NaN where they are not determined.
        labels, reached: the labels, and the classes of the perturbed inputs (p,).
        distance: the norms of the perturbations (p,).
        norm: the norm of `distance`.
        fooled: the number of samples that they were chosen from.
        limits: the lowest and the highest value of an input.
    """

    axes: ImageAxes
    rows: npt.NDArray[np.intp]
    inputs: Floats
    moved: Floats
    eigenvectors: Floats
    labels: npt.NDArray[np.int64]
    reached: npt.NDArray[np.int64]
    distance: Floats
    norm: str
    fooled: int
    limits: tuple[float, float]

    def figure(self) -> Figure:
        """A column of images for each sample."""
        # With its own norm, the smallest perturbation would be invisible beside the largest one.
        delta = self.moved - self.inputs
        delta = delta / np.linalg.norm(delta, axis=1, keepdims=True)
        stacks = {
            "input": (self.inputs, self.limits),
            "perturbation": (delta, _symmetrical(delta)),
            "perturbed": (self.moved, self.limits),
            "eigenvector": (self.eigenvectors, _symmetrical(self.eigenvectors)),
        }
        shown = {name: stack for name, stack in stacks.items() if stack[1][0] < stack[1][1]}
        # Inputs are grey; a symmetrical range would be shown in colours about zero.
        symmetrical = ("input", "perturbed") if self.limits[0] == -self.limits[1] else ()
        few = len(self.rows) == self.fooled
        chosen = (
            f"The {self.fooled} samples that were fooled, in the order of their smallest perturbations"
            if few
            else f"The {EACH} samples with the smallest perturbations and the {EACH} with the largest, of "
            f"{self.fooled} that were fooled"
        )
        missing = int(np.isnan(self.eigenvectors).any(axis=1).sum())
        undetermined = f" {missing} of the eigenvectors {'is' if missing == 1 else 'are'} not determined."
        return Figure(
            "images",
            "Samples and their smallest perturbations",
            "",
            "",
            {name: _images(rows, self.axes) for name, (rows, _) in shown.items()},
            labels=tuple(
                f"sample {row}\n{label} → {reached}\n{self.norm} {distance:.3g}"
                for row, label, reached, distance in zip(
                    self.rows, self.labels, self.reached, self.distance, strict=True
                )
            ),
            ranges={name: limits for name, (_, limits) in shown.items() if name not in symmetrical},
            caption=f"{chosen}, with the perturbation scaled to norm 1, the perturbed input, and the top "
            "eigenvector of the Hessian of the loss over the input. Below: the label, the class of the "
            f"perturbed input, and the norm of the perturbation.{undetermined if missing else ''}",
        )


def samples_to_show(distance: Floats, axes: ImageAxes) -> npt.NDArray[np.intp]:
    """Which of the samples (n,) are shown, in increasing order of the distance; none if they are no images.

    Args:
        distance: their distances, infinite where no perturbation is known. Of equal ones, the first counts as
            the smallest.
        axes: how an input would be an image.
    """
    order = np.argsort(distance, kind="stable")
    order = order[_moved(distance)[order]]
    if not _is_image(axes):
        return order[:0]
    return order if len(order) <= 2 * EACH else np.concatenate([order[:EACH], order[-EACH:]])


def sample_images(
    classifier: Classifier,
    x: Array,
    y: Array,
    perturbations: Perturbations,
    shown: npt.NDArray[np.intp],
    measured: SampleMeasurements,
    *,
    rows: npt.NDArray[np.intp],
    distance: Floats,
    norm: str,
) -> SampleImages:
    """The samples that `samples_to_show` chose.

    Args:
        x, y: samples (n, d) and labels (n,).
        perturbations: those of the samples.
        shown: the chosen samples.
        measured: what was measured of the samples, with the eigenvectors of the chosen ones.
        rows: the index (n,) of each sample among all.
        distance: the distances (n,) in the norm.
    """
    inputs, moved = (arrays.to_host(arrays.rows(part, shown)) for part in (x, perturbations.moved))
    vectors = np.stack([measured.eigenvectors[int(i)] for i in shown])
    along = np.sum(vectors * (moved - inputs), axis=1, keepdims=True)
    vectors = np.where(along < 0, -vectors, vectors)
    determined = np.isfinite(measured.columns["share_v1"][shown])  # if it is not, any direction may be found
    bounds = classifier.bounds
    low, high = (inputs, inputs) if bounds is None else (arrays.to_host(end) for end in bounds)
    labels, reached = (arrays.to_host(arrays.rows(part, shown)) for part in (y, perturbations.reached))
    return SampleImages(
        ImageAxes.of(classifier),
        rows[shown],
        inputs,
        moved,
        np.where(determined[:, None], vectors, np.nan),
        labels.astype(np.int64),
        reached.astype(np.int64),
        distance[shown],
        norm,
        int(_moved(distance).sum()),
        (float(np.min(low)), float(np.max(high))),
    )


def _moved(distance: Floats) -> npt.NDArray[np.bool_]:
    """Which samples have a perturbation."""
    return np.isfinite(distance) & (distance > 0)


def _is_image(axes: ImageAxes) -> bool:
    """Whether an input is an image that can be drawn, grey or in colours."""
    channels, *sides = axes.sizes
    return channels in CHANNELS and min(sides) >= SMALLEST_SIDE


def _images(rows: Floats, axes: ImageAxes) -> npt.NDArray[np.float32]:
    """Rows (p, d) as images (p, height, width), or (p, height, width, 3) in colour."""
    last = np.moveaxis(axes.images(rows.astype(np.float32)), 1, -1)
    return np.ascontiguousarray(last[..., 0] if last.shape[-1] == 1 else last)


def _symmetrical(rows: Floats) -> tuple[float, float]:
    largest = float(np.max(np.abs(rows[np.isfinite(rows)]), initial=0.0))
    return -largest, largest
