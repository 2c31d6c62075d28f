"""The measurements of each sample: first-order margins and curvature, with L2 norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.news import counter
from eigencore.objectives import CrossEntropy, Margin
from eigencore_robustness.over_inputs.alignments import SPANS, share_columns, unit_rows
from eigencore_robustness.over_inputs.first_order import first_order
from eigencore_robustness.over_inputs.input_curvature import cautious_radius, is_flat, quadratic_radius
from eigencore_robustness.over_inputs.input_eigenpairs import largest_eigenpairs
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.news import Progress
    from eigencore.space import Array, Floats
    from eigencore_robustness.over_inputs.alignments import Perturbations
    from eigencore_robustness.over_inputs.input_eigenpairs import LargestEigenpairs

Columns: TypeAlias = "Mapping[str, Floats]"


@dataclass(frozen=True)
class SampleMeasurements:
    """What is measured of n samples.

    Attributes:
        columns: columns (n,) by name.
        flat: whether the margins are flat.
        eigenvectors: the first eigenvector (d,) of the Hessian of the loss over the input, of the samples of
            which it was to be kept.
    """

    columns: Columns
    flat: bool
    eigenvectors: Mapping[int, Floats]


def sample_columns(
    classifier: Classifier,
    x: Array,
    y: Array,
    batch: int,
    seed: int,
    progress: Progress,
    perturbations: Perturbations | None = None,
    kept: npt.NDArray[np.intp] | None = None,
) -> SampleMeasurements:
    """Returns columns (n,) for correctly classified samples (n, d), and the eigenvectors of those in `kept`.

    The columns are:

    - loss, gradient_norm: the cross-entropy, and the norm of its gradient with respect to the input
    - margin: the logit margin to the runner-up
    - r1, r1_in_box, r1_class: the first-order distance to the nearest boundary, the same within the input
      bounds, and the class behind that boundary
    - lambda_max: the largest eigenvalue of the Hessian of the cross-entropy over the input, with its residual
    - nu: the largest eigenvalue of minus the Hessian of the margin to r1_class, with its residual
    - r_cautious: the smallest radius at which a quadratic model of that margin is zero; not a certificate
    - r2: where a quadratic model of that margin is zero along its gradient; infinite if it never is
    - those of `alignments.share_columns`, if there are perturbations

    Flat margins, as in a ReLU network, have no curvature almost everywhere: r_cautious and r2 would equal r1
    and are NaN.
    """
    parts, eigenvectors = [], {}
    done = counter(progress, "curvature over the input", x.shape[0], "samples")
    for at, rows, labels in batches(x, y, batch):
        compared = {} if perturbations is None else perturbations.batch(at, batch)
        part, pairs = _batch_columns(classifier, rows, labels, seed + at, compared)
        parts.append(part)
        for i in () if kept is None else kept[(at <= kept) & (kept < at + rows.shape[0])]:
            eigenvectors[int(i)] = arrays.to_host(pairs.vectors[int(i) - at, 0, :])
        done(at + rows.shape[0])
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    margin, slope, along = (columns.pop(name) for name in ("_margin", "_slope", "_along"))
    flat = is_flat(columns["nu"], slope)
    columns["r_cautious"] = cautious_radius(margin, slope, columns["nu"])
    columns["r2"] = quadratic_radius(margin, slope, along)
    if flat:
        columns |= {name: np.full_like(margin, np.nan) for name in ("r_cautious", "r2")}
    return SampleMeasurements(columns, flat, eigenvectors)


def _batch_columns(
    classifier: Classifier, x: Array, y: Array, seed: int, compared: Mapping[str, Array]
) -> tuple[dict[str, Floats], LargestEigenpairs]:
    xp = classifier.xp
    loss, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    first = first_order(classifier, x, y)
    nearest_margin = Margin(first.nearest)
    margin, slope = classifier.value_and_grad(nearest_margin, x, y)
    of_loss = largest_eigenpairs(
        classifier.input_products(CrossEntropy(), x, y),
        x.shape,
        classifier,
        seed,
        k=max(SPANS) + 1 if compared else 1,
        spans=SPANS if compared else (),
    )
    product = classifier.input_products(nearest_margin, x, y)
    of_margin = largest_eigenpairs(lambda v: -product(v), x.shape, classifier, seed)
    length = xp.linalg.vector_norm(slope, axis=1)
    direction = unit_rows(slope)
    columns = {
        "loss": loss,
        "gradient_norm": xp.linalg.vector_norm(gradient, axis=1),
        "margin": Margin().value(classifier.logits(x), y),
        "r1": first.radius,
        "r1_in_box": first.radius_in_box,
        "r1_class": first.nearest,
        "_margin": margin,
        "_slope": length,
        "_along": xp.sum(direction * product(direction), axis=1),
    }
    found = {
        **{name: arrays.to_host(column) for name, column in columns.items()},
        "lambda_max": of_loss.values[:, 0],
        "lambda_max_residual": of_loss.residuals[:, 0],
        "nu": of_margin.values[:, 0],
        "nu_residual": of_margin.residuals[:, 0],
        **(share_columns(compared, of_loss, gradient, slope) if compared else {}),
    }
    return found, of_loss
