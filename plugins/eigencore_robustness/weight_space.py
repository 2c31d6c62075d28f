"""What eigenvalues over the weights say: the loss along their vectors, and each sample's part in the first.

The eigenvalues are those of the Hessian over the weights that were computed before the analysis began.
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

    from eigencore.interfaces import Bound, Parameter
    from eigencore.results import EigenResult
    from eigencore.space import Array, Floats

RISE = 0.1  # what the quadratic model of the loss is to rise by along the first vector


@dataclass(frozen=True)
class Along:
    """The loss at weights +- step v, mean of both signs, less that at the weights.

    Attributes:
        eigenvalue: of v.
        model: eigenvalue * step^2 / 2, what the quadratic model says.
        rise: along v, a unit vector.
        random: along a random direction that has the norm of v in every layer.
    """

    eigenvalue: float
    model: float
    rise: float
    random: float


def loss_along(
    bound: Bound, eigen: EigenResult, params: str | None, seed: int
) -> tuple[float, tuple[Along, ...]]:
    """The step, and how the loss rises along each vector, in the eigenvalues' order.

    Both directions move each layer equally far, so that a layer's scale can't tell them apart (Li et al.
    2018, arXiv:1712.09913, section 4).
    """
    at_weights = bound.loss()
    step = float(np.sqrt(2 * RISE / np.max(np.abs(eigen.values))))
    layout, rng = bound.layout(params), np.random.default_rng(seed)
    xp = arrays.namespace(eigen.vectors)

    def rise(direction: Array) -> float:
        both = bound.loss(step * direction, params) + bound.loss(-step * direction, params)
        return both / 2 - at_weights

    found = []
    for i, value in enumerate(eigen.values):
        v = eigen.vectors[:, i] / xp.linalg.vector_norm(eigen.vectors[:, i])
        random = _like(v, layout, rng)
        found.append(Along(float(value), float(value) * step**2 / 2, rise(v), rise(random)))
    return step, tuple(found)


def _like(v: Array, layout: Sequence[Parameter], rng: np.random.Generator) -> Array:
    """A random direction with the norm of v in every parameter."""
    host, drawn = arrays.to_host(v), rng.standard_normal(v.shape[0])
    for parameter in layout:
        part = drawn[parameter.where]
        drawn[parameter.where] = part * (np.linalg.norm(host[parameter.where]) / np.linalg.norm(part))
    return arrays.namespace(v).asarray(drawn, dtype=v.dtype, device=arrays.device_of(v))


def sample_parts(
    bound: Bound, eigen: EigenResult, x: Array, y: Array, params: str | None, batch: int
) -> Floats:
    """v_1' H_s v_1 (N,), for the Hessian H_s of each sample's cross-entropy over the weights.

    Over the data that the operator is of, and for a mean cross-entropy, its mean is the first eigenvalue.
    """
    v = eigen.vectors[:, 0]
    return np.concatenate(
        [
            arrays.to_host(bound.sample_curvature(CrossEntropy(), v, rows, labels, params))
            for _, rows, labels in batches(x, y, batch)
        ]
    )
