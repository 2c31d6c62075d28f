"""Checks of an objective: is `grad` the derivative of `value`, and `hvp` that of `grad`?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Objective
from eigencore.problems.sharing import (
    DIFFERENCES,
    DerivativeGaps,
    check_derivatives,
    derivative_gaps,
    random_direction,
)
from eigencore_numpy.data import Samples
from eigencore_numpy.layout import select
from eigencore_numpy.network import Numbers, Pass, TwoLayer

if TYPE_CHECKING:
    from eigencore.space import Floats

_SAMPLES = 32


def probe(network: TwoLayer, objective: Objective, samples: Samples) -> None:
    """Compares the gradient and the Hessian product with central differences, in float64 on few samples.

    Raises:
        ProblemError: a derivative is wrong.
    """
    network, samples = network.astype(np.float64), samples.astype(np.float64)
    x, y = samples.x[:_SAMPLES], samples.y[:_SAMPLES]

    def gaps(shift: Floats | None) -> DerivativeGaps:
        return _gaps(network if shift is None else _moved(network, shift), objective, x, y)

    tolerance = DIFFERENCES["float64"].tolerance

    def hint(found: DerivativeGaps) -> str:
        wrong, right = ("grad", "value") if found.gradient > tolerance else ("hvp", "grad")
        name = type(objective).__name__
        return f"Correct the method {wrong} of {name}: it is not the derivative of {right}."

    check_derivatives(gaps, select(network).n, _norm(network), tolerance, hint)


def _gaps(network: TwoLayer, objective: Objective, x: Numbers, y: Numbers) -> DerivativeGaps:
    layout = select(network)
    v = random_direction(layout.n, seed=0)

    def at(t: float) -> tuple[float, Numbers]:
        there = Pass(_moved(network, t * v), objective, x, y)
        return float(np.sum(there.values())), layout.flatten(there.weight_gradient())

    product = layout.flatten(Pass(network, objective, x, y).weight_product(layout.unflatten(v)))
    return derivative_gaps(at, v, product, DIFFERENCES["float64"], _norm(network))


def _moved(network: TwoLayer, direction: Numbers) -> TwoLayer:
    step = select(network).unflatten(direction)
    return network.map(lambda name, weights: weights + getattr(step, name))


def _norm(network: TwoLayer) -> float:
    return float(np.linalg.norm(select(network).flatten(network)))
