"""What is measured of each sample: first order and curvature, in float64, with norms and radii in L2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy, Margin
from eigencore_robustness.curvature import Largest, cautious_radius, is_flat, largest_eigenvalues
from eigencore_robustness.first_order import first_order

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

Columns: TypeAlias = "Mapping[str, Floats]"


def columns_of(
    classifier: Classifier, x: Array, y: Array, batch: int, seed: int, tell: Callable[[str], None]
) -> tuple[Columns, bool]:
    """Columns for correctly classified samples (n, d), and whether the margins are flat.

    loss, gradient_norm: cross-entropy, and the norm of its gradient over the input.
    margin: of the logits, to the runner-up.
    r1, r1_in_box, r1_class: first order, to the nearest boundary and inside the bounds; the class behind it.
    lambda_max: the largest eigenvalue of the Hessian of the cross-entropy over the input, with its residual.
    nu: that of minus the Hessian of the margin to r1_class, with its residual.
    r_cautious: where a quadratic model of that margin is zero at the earliest: no certificate.

    Flat margins, as those of a ReLU network, have no curvature almost everywhere: then r_cautious would be
    r1, and is NaN.
    """
    parts = []
    for at, rows, labels in batches(x, y, batch):
        parts.append(_columns(classifier, rows, labels, seed + at))
        tell(f"curvature over the input: {at + rows.shape[0]} of {x.shape[0]} samples")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    margin, slope = columns.pop("_margin"), columns.pop("_slope")
    flat = is_flat(columns["nu"], slope)
    cautious = cautious_radius(margin, slope, columns["nu"])
    columns["r_cautious"] = np.full_like(cautious, np.nan) if flat else cautious
    return columns, flat


def batches(x: Array, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Where each begins, and its samples."""
    for at in range(0, x.shape[0], size):
        yield at, x[at : at + size], y[at : at + size]


def _columns(classifier: Classifier, x: Array, y: Array, seed: int) -> dict[str, Floats]:
    xp = classifier.xp
    loss, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    first = first_order(classifier, x, y)
    nearest = Margin(first.nearest)
    to_nearest, slope = classifier.value_and_grad(nearest, x, y)
    curvature = _largest(classifier, CrossEntropy(), x, y, 1, seed)
    bend = _largest(classifier, nearest, x, y, -1, seed)
    found = {
        "loss": loss,
        "gradient_norm": xp.linalg.vector_norm(gradient, axis=1),
        "margin": Margin().value(classifier.logits(x), y),
        "r1": first.radius,
        "r1_in_box": first.radius_in_box,
        "r1_class": first.nearest,
        "_margin": to_nearest,
        "_slope": xp.linalg.vector_norm(slope, axis=1),
    }
    return {
        **{name: arrays.to_host(column) for name, column in found.items()},
        "lambda_max": curvature.values,
        "lambda_max_residual": curvature.residuals,
        "nu": bend.values,
        "nu_residual": bend.residuals,
    }


def _largest(
    classifier: Classifier, objective: Objective, x: Array, y: Array, sign: int, seed: int
) -> Largest:
    """Of sign times the Hessians of the objective over the inputs."""
    product = classifier.input_products(objective, x, y)
    return largest_eigenvalues(lambda v: sign * product(v), x.shape, classifier, seed)
