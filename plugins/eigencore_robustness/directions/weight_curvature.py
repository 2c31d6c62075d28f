"""Curvature over the weights: the loss along eigenvectors, and each sample's share of the first eigenvalue.

The eigenpairs are those of the Hessian over the weights, computed before the analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencore.interfaces import Bound, Parameter, Params
    from eigencore.results import EigenResult
    from eigencore.space import Array, Floats

# The increase of the loss along the first eigenvector in the quadratic model, which determines the step.
MODEL_INCREASE = 0.1


@dataclass(frozen=True)
class LossIncrease:
    """The mean of the loss at weights + step v and weights - step v, minus the loss at the weights.

    Attributes:
        eigenvalue: the eigenvalue of v.
        model: eigenvalue * step^2 / 2, the increase in the quadratic model.
        along: the increase along v, a unit vector.
        random: the increase along a random direction with the norm of v in every layer.
    """

    eigenvalue: float
    model: float
    along: float
    random: float


def loss_increases(
    bound: Bound, eigen: EigenResult, params: Params, seed: int
) -> tuple[float, tuple[LossIncrease, ...]]:
    """Returns the step, and the increase of the loss along each eigenvector in the order of the eigenvalues.

    Both directions move each layer by the same distance, so that they do not differ by the scale of a layer
    (Li et al. 2018, arXiv:1712.09913, section 4).
    """
    at_weights = bound.loss()
    step = float(np.sqrt(2 * MODEL_INCREASE / np.max(np.abs(eigen.values))))
    layout, rng = bound.layout(params), arrays.generator(seed, "random directions")

    def increase(direction: Array) -> float:
        both = bound.loss(step * direction, params) + bound.loss(-step * direction, params)
        return both / 2 - at_weights

    increases = []
    for i, value in enumerate(eigen.values):
        v = unit(eigen.vectors[:, i])
        random = random_like(v, layout, rng)
        increases.append(
            LossIncrease(float(value), float(value) * step**2 / 2, increase(v), increase(random))
        )
    return step, tuple(increases)


def unit(v: Array) -> Array:
    """Returns v (n,) with norm 1."""
    return v / arrays.namespace(v).linalg.vector_norm(v)


def random_like(v: Array, layout: Sequence[Parameter], rng: np.random.Generator) -> Array:
    """Returns a random direction with the norm of v in every parameter."""
    host, drawn = arrays.to_host(v), rng.standard_normal(v.shape[0])
    for parameter in layout:
        part = drawn[parameter.where]
        drawn[parameter.where] = part * (np.linalg.norm(host[parameter.where]) / np.linalg.norm(part))
    return arrays.namespace(v).asarray(drawn, dtype=v.dtype, device=arrays.device_of(v))


def sample_curvature(
    bound: Bound, eigen: EigenResult, x: Array, y: Array, params: Params, batch: int, dtype: str | None
) -> Floats:
    """Returns v_1' H_s v_1 (N,), for the Hessian H_s of each sample's cross-entropy over the weights.

    Their mean is the first eigenvalue if the operator is that of the mean cross-entropy over these samples.

    Args:
        dtype: the precision to compute in; None: that of the operator.
    """
    v = eigen.vectors[:, 0]
    return np.concatenate(
        [
            arrays.to_host(bound.sample_curvature(CrossEntropy(), v, rows, labels, params, dtype))
            for _, rows, labels in batches(x, y, batch)
        ]
    )
