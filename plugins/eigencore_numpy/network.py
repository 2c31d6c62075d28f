"""A classifier of two layers, z = W2 f(W1 x + b1) + b2, and its derivatives, written by hand.

    x  (b, d)  inputs, a sample a row
    a  (b, h)  W1 x + b1; f, f', f'' are taken at it
    z  (b, c)  logits
    g  (b, c)  the objective's gradient over the logits; B = W2' g is what goes back to the hidden layer

Products are Pearlmutter's: R{q} is the derivative of q along a direction, and R of a gradient is the Hessian
times that direction (Pearlmutter 1994, "Fast exact multiplication by the Hessian").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from eigencore.interfaces import Objective

Numbers: TypeAlias = npt.NDArray[Any]
PARAMETERS = ("W1", "b1", "W2", "b2")


@dataclass(frozen=True)
class TwoLayer:
    """The network's weights; also a direction in them, or a gradient over them.

    Attributes:
        W1, b1: of the hidden layer, (h, d) and (h,).
        W2, b2: of the logits, (c, h) and (c,).
        activation: f, "softplus" or "relu".
    """

    W1: Numbers
    b1: Numbers
    W2: Numbers
    b2: Numbers
    activation: str = "softplus"

    @property
    def inputs(self) -> int:
        return int(self.W1.shape[1])

    @property
    def classes(self) -> int:
        return int(self.W2.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.W1.dtype

    def each(self, change: Callable[[str, Numbers], Numbers]) -> TwoLayer:
        """With each parameter, by its name, changed."""
        changed = {name: change(name, getattr(self, name)) for name in PARAMETERS}
        return TwoLayer(**changed, activation=self.activation)

    def astype(self, dtype: npt.DTypeLike) -> TwoLayer:
        """A copy."""
        return self.each(lambda name, weights: np.array(weights, dtype=dtype))

    def logits(self, x: Numbers) -> Numbers:
        f, _, _ = ACTIVATIONS[self.activation]
        return np.asarray(f(x @ self.W1.T + self.b1) @ self.W2.T + self.b2)


class Pass:
    """Samples gone through a network, forward and back, with what all their products share.

    Args:
        x, y: inputs (b, d) and labels (b,).
        share: what each sample's objective counts, (b,).
    """

    def __init__(
        self, network: TwoLayer, objective: Objective, x: Numbers, y: Numbers, share: Numbers | None = None
    ):
        self._net, self._objective, self._x, self._y = network, objective, x, y
        self._share = np.ones((len(x), 1), network.dtype) if share is None else share[:, None]
        f, slope, bend = ACTIVATIONS[network.activation]
        a = x @ network.W1.T + network.b1
        self._f, self._slope, self._bend = f(a), slope(a), bend(a)
        self._z = self._f @ network.W2.T + network.b2
        self._g = self._share * objective.grad(self._z, y)
        self._B = self._g @ network.W2

    def values(self) -> Numbers:
        """The objective of each sample (b,)."""
        return np.asarray(self._share[:, 0] * self._objective.value(self._z, self._y))

    def input_gradient(self) -> Numbers:
        """(b, d)"""
        return np.asarray((self._B * self._slope) @ self._net.W1)

    def weight_gradient(self) -> TwoLayer:
        """Of the sum over the samples."""
        back = self._B * self._slope
        return self._over_weights(back.T @ self._x, back.sum(0), self._g.T @ self._f, self._g.sum(0))

    def input_product(self, v: Numbers) -> Numbers:
        """Each sample's Hessian over its input, times its row of v (b, d)."""
        Ra = v @ self._net.W1.T
        RB = self._through_objective((self._slope * Ra) @ self._net.W2.T) @ self._net.W2
        return np.asarray((RB * self._slope + self._B * self._bend * Ra) @ self._net.W1)

    def weight_product(self, v: TwoLayer) -> TwoLayer:
        """The Hessian over the weights of the sum over the samples, times v."""
        Ra, Rf, Rz = self._along(v)
        Rg = self._through_objective(Rz)
        RB = Rg @ self._net.W2 + self._g @ v.W2
        back = RB * self._slope + self._B * self._bend * Ra
        return self._over_weights(back.T @ self._x, back.sum(0), Rg.T @ self._f + self._g.T @ Rf, Rg.sum(0))

    def weight_curvature(self, v: TwoLayer) -> Numbers:
        """v' H_s v (b,), of each sample: the second derivative along v, forward over forward."""
        Ra, Rf, Rz = self._along(v)
        RRz = (self._bend * Ra**2) @ self._net.W2.T + 2 * Rf @ v.W2.T
        return np.asarray(np.sum(Rz * self._through_objective(Rz) + self._g * RRz, axis=1))

    def _along(self, v: TwoLayer) -> tuple[Numbers, Numbers, Numbers]:
        """R{a}, R{f} and R{z} along a direction in the weights."""
        Ra = self._x @ v.W1.T + v.b1
        Rf = self._slope * Ra
        return Ra, Rf, Rf @ self._net.W2.T + self._f @ v.W2.T + v.b2

    def _through_objective(self, Rz: Numbers) -> Numbers:
        """R{g}"""
        return np.asarray(self._share * self._objective.hvp(self._z, self._y, Rz))

    def _over_weights(self, W1: Numbers, b1: Numbers, W2: Numbers, b2: Numbers) -> TwoLayer:
        return replace(self._net, W1=W1, b1=b1, W2=W2, b2=b2)


def _softplus(a: Numbers) -> Numbers:
    return np.asarray(np.logaddexp(0, a, dtype=a.dtype))


def _softplus_bend(a: Numbers) -> Numbers:
    return np.asarray(expit(a) * expit(-a))


def _step(a: Numbers) -> Numbers:
    return (a > 0).astype(a.dtype)


# f, f' and f''.
ACTIVATIONS: dict[str, tuple[Callable[[Numbers], Numbers], ...]] = {
    "softplus": (_softplus, expit, _softplus_bend),
    "relu": (lambda a: np.maximum(a, 0), _step, np.zeros_like),
}
