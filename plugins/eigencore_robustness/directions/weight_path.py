"""Loss and accuracy of the samples along directions of the weights: eigenvectors, the gradient, chance.

A direction of large curvature changes the loss most for a small step. Whether it also changes predictions is
another question, which the accuracy along it answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy
from eigencore_robustness.directions.weight_curvature import random_like, unit
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, Classifier, Params
    from eigencore.results import EigenResult
    from eigencore.space import Array, Floats

MULTIPLES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # of the step of `weight_curvature.loss_increases`
MOST = 3  # eigenvectors


@dataclass(frozen=True)
class WeightCurve:
    """The samples at weights + multiple * step * direction, for a direction of norm 1.

    Attributes:
        name: "v_1" and so on for eigenvectors, "random" or "gradient".
        loss: the mean cross-entropy of the samples, at each of MULTIPLES.
        accuracy: the share of samples classified correctly.
    """

    name: str
    loss: Floats
    accuracy: Floats


def weight_curves(
    bound: Bound,
    eigen: EigenResult,
    x: Array,
    y: Array,
    params: Params,
    step: float,
    batch: int,
    seed: int,
) -> tuple[WeightCurve, ...]:
    """Returns the curves along the first converged eigenvectors, a random direction and the gradient.

    The random direction has the norm of the first eigenvector in every parameter (Li et al. 2018,
    arXiv:1712.09913, section 4); the gradient is that of the loss over all data, left out if it is zero. It
    takes a forward pass of the samples for each direction and multiple.

    Args:
        x, y: samples (N, d) and labels (N,), in the precision of the operator.
        step: the step of `weight_curvature.loss_increases`.
    """
    xp = arrays.namespace(eigen.vectors)
    usable = np.flatnonzero(eigen.converged)[:MOST]
    directions = {f"v_{i + 1}": unit(eigen.vectors[:, int(i)]) for i in usable}
    rng = arrays.generator(seed, "random directions of the weights")
    directions["random"] = random_like(next(iter(directions.values())), bound.layout(params), rng)
    gradient = bound.gradient(params)
    if float(xp.linalg.vector_norm(gradient)) > 0:
        directions["gradient"] = unit(gradient)
    here = _at(bound.classifier(), x, y, batch)
    curves = []
    for name, v in directions.items():
        points = [
            _at(bound.classifier(direction=m * step * v, params=params), x, y, batch) if m else here
            for m in MULTIPLES
        ]
        loss, accuracy = np.array(points).T
        curves.append(WeightCurve(name, loss, accuracy))
    return tuple(curves)


def _at(classifier: Classifier, x: Array, y: Array, batch: int) -> tuple[float, float]:
    """Returns the mean cross-entropy and the accuracy."""
    losses, right = [], []
    for _, rows, labels in batches(x, y, batch):
        logits = classifier.logits(rows)
        losses.append(arrays.to_host(CrossEntropy().value(logits, labels)))
        right.append(arrays.to_host(classifier.xp.argmax(logits, axis=1)) == arrays.to_host(labels))
    return float(np.mean(np.concatenate(losses))), float(np.mean(np.concatenate(right)))
