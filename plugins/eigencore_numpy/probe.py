"""Checks of an objective: is `grad` the derivative of `value`, and `hvp` that of `grad`?"""

from __future__ import annotations

import numpy as np

from eigencore.errors import ProblemError
from eigencore.interfaces import Objective
from eigencore.problems.sharing import DIFFERENCES, DerivativeGaps, derivative_gaps
from eigencore_numpy.data import Samples
from eigencore_numpy.layout import select
from eigencore_numpy.network import Numbers, Pass, TwoLayer

_SAMPLES = 32
_SHIFT = 1e-3  # relative to the norm of the weights


def probe(network: TwoLayer, objective: Objective, samples: Samples) -> None:
    """Compares the gradient and the Hessian product with central differences, in float64 on few samples.

    If they differ, they are compared once more near these weights: at the weights themselves, a hidden unit
    may be exactly at the kink of a ReLU.

    Raises:
        ProblemError: a derivative is wrong.
    """
    network, samples = network.astype(np.float64), samples.astype(np.float64)
    x, y = samples.x[:_SAMPLES], samples.y[:_SAMPLES]
    tolerance = DIFFERENCES["float64"].tolerance
    gaps = _gaps(network, objective, x, y)
    if gaps.exceed(tolerance):
        shift = _SHIFT * _norm(network) * _direction(network, 1)
        gaps = _gaps(_moved(network, shift), objective, x, y)
    if not gaps.exceed(tolerance):
        return
    name = type(objective).__name__
    wrong, right = ("grad", "value") if gaps.gradient > tolerance else ("hvp", "grad")
    raise ProblemError(
        f"the Hessian of the loss would be wrong: {gaps.description(tolerance)}",
        hint=f"Correct the method {wrong} of {name}: it is not the derivative of {right}.",
    )


def _gaps(network: TwoLayer, objective: Objective, x: Numbers, y: Numbers) -> DerivativeGaps:
    layout = select(network)
    v = _direction(network, 0)

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


def _direction(network: TwoLayer, seed: int) -> Numbers:
    """A random direction (n,) of norm 1."""
    v = np.random.default_rng(seed).standard_normal(select(network).n)
    return np.asarray(v / np.linalg.norm(v))
