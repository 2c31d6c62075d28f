"""A two-layer classifier, z = W2 f(W1 x + b1) + b2, and its analytic derivatives.

    x  (b, d)  inputs, one sample per row
    a  (b, h)  W1 x + b1, where f, f' and f'' are evaluated
    z  (b, c)  logits
    g  (b, c)  the objective's gradient with respect to the logits
    B  (b, h)  W2' g, the gradient propagated back to the hidden layer

The products are Pearlmutter's: R{q} is the derivative of q along a direction, and R of a gradient is the
Hessian times that direction (Pearlmutter 1994, "Fast exact multiplication by the Hessian").
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
    """The network's weights. The same class also holds a direction in weight space, or a gradient.

    Attributes:
        W1, b1: weights and biases of the hidden layer, (h, d) and (h,).
        W2, b2: weights and biases of the output layer, (c, h) and (c,).
        activation: f, "softplus" or "relu".

    Example:
        import numpy as np

        from eigencore_numpy.network import TwoLayer

        network = TwoLayer(np.ones((4, 5)), np.zeros(4), np.ones((3, 4)), np.zeros(3))
        print(network.logits(np.ones((2, 5))).shape)
    """

    W1: Numbers
    b1: Numbers
    W2: Numbers
    b2: Numbers
    activation: str = "softplus"

    @property
    def inputs(self) -> int:
        """The number of inputs, d."""
        return int(self.W1.shape[1])

    @property
    def classes(self) -> int:
        """The number of classes, c."""
        return int(self.W2.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the weights."""
        return self.W1.dtype

    def named(self) -> dict[str, Numbers]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def map(self, change: Callable[[str, Numbers], Numbers]) -> TwoLayer:
        """A network whose parameters are change(name, parameter)."""
        changed = {name: change(name, weights) for name, weights in self.named().items()}
        return TwoLayer(**changed, activation=self.activation)

    def astype(self, dtype: npt.DTypeLike) -> TwoLayer:
        """A copy with all weights in the data type."""
        return self.map(lambda name, weights: np.array(weights, dtype=dtype))

    def logits(self, x: Numbers) -> Numbers:
        """The logits (b, c) for inputs (b, d)."""
        f, _, _ = ACTIVATIONS[self.activation]
        return np.asarray(f(x @ self.W1.T + self.b1) @ self.W2.T + self.b2)


class Pass:
    """A forward and backward pass of samples through a network, with the terms that all products share.

    Args:
        x, y: inputs (b, d) and labels (b,).
        sample_weights: the weight of each sample's objective (b,); None gives every sample weight 1.
    """

    def __init__(
        self,
        network: TwoLayer,
        objective: Objective,
        x: Numbers,
        y: Numbers,
        sample_weights: Numbers | None = None,
    ):
        self._net, self._objective, self._x, self._y = network, objective, x, y
        ones = np.ones((len(x), 1), network.dtype)
        self._weights = ones if sample_weights is None else sample_weights[:, None]
        f, df, ddf = ACTIVATIONS[network.activation]
        a = x @ network.W1.T + network.b1
        self._f, self._df, self._ddf = f(a), df(a), ddf(a)
        self._z = self._f @ network.W2.T + network.b2
        self._g = self._weights * objective.grad(self._z, y)
        self._B = self._g @ network.W2

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._x)

    def values(self) -> Numbers:
        """Each sample's weighted objective (b,)."""
        return np.asarray(self._weights[:, 0] * self._objective.value(self._z, self._y))

    def input_gradient(self) -> Numbers:
        """The gradient of each sample's objective with respect to its input (b, d)."""
        return np.asarray((self._B * self._df) @ self._net.W1)

    def weight_gradient(self) -> TwoLayer:
        """The gradient of the sum over the samples with respect to the weights."""
        delta = self._B * self._df
        return self._as_network(delta.T @ self._x, delta.sum(0), self._g.T @ self._f, self._g.sum(0))

    def input_product(self, v: Numbers) -> Numbers:
        """Each sample's Hessian over its input, times its row of v (b, d)."""
        Ra = v @ self._net.W1.T
        RB = self._logit_product((self._df * Ra) @ self._net.W2.T) @ self._net.W2
        return np.asarray((RB * self._df + self._B * self._ddf * Ra) @ self._net.W1)

    def weight_product(self, v: TwoLayer) -> TwoLayer:
        """The Hessian of the sum over the samples with respect to the weights, times v."""
        Ra, Rf, Rz = self._derivatives_along(v)
        Rg = self._logit_product(Rz)
        RB = Rg @ self._net.W2 + self._g @ v.W2
        delta = RB * self._df + self._B * self._ddf * Ra
        return self._as_network(delta.T @ self._x, delta.sum(0), Rg.T @ self._f + self._g.T @ Rf, Rg.sum(0))

    def gauss_newton_product(self, v: TwoLayer) -> TwoLayer:
        """The Gauss-Newton matrix of the sum over the samples, times v."""
        _, _, Rz = self._derivatives_along(v)
        Rg = self._logit_product(Rz)
        delta = (Rg @ self._net.W2) * self._df
        return self._as_network(delta.T @ self._x, delta.sum(0), Rg.T @ self._f, Rg.sum(0))

    def weight_curvature(self, v: TwoLayer) -> Numbers:
        """v' H_s v (b,) for each sample s: its second derivative along v, by forward-over-forward."""
        Ra, Rf, Rz = self._derivatives_along(v)
        RRz = (self._ddf * Ra**2) @ self._net.W2.T + 2 * Rf @ v.W2.T
        return np.asarray(np.sum(Rz * self._logit_product(Rz) + self._g * RRz, axis=1))

    def gauss_newton_curvature(self, v: TwoLayer) -> Numbers:
        """v' G_s v (b,) for the Gauss-Newton matrix G_s of each sample s."""
        _, _, Rz = self._derivatives_along(v)
        return np.asarray(np.sum(Rz * self._logit_product(Rz), axis=1))

    def logit_hessian_traces(self) -> Numbers:
        """The trace (b,) of the Hessian of each sample's weighted objective over its logits."""
        units = np.eye(self._net.classes, dtype=self._net.dtype)
        return sum(
            (self._logit_product(np.broadcast_to(unit, self._z.shape)) @ unit for unit in units),
            np.zeros(len(self._x), self._net.dtype),
        )

    def _derivatives_along(self, v: TwoLayer) -> tuple[Numbers, Numbers, Numbers]:
        """R{a}, R{f} and R{z} along a direction in weight space."""
        Ra = self._x @ v.W1.T + v.b1
        Rf = self._df * Ra
        return Ra, Rf, Rf @ self._net.W2.T + self._f @ v.W2.T + v.b2

    def _logit_product(self, Rz: Numbers) -> Numbers:
        """R{g}: the objective's Hessian in logit space times R{z}."""
        return np.asarray(self._weights * self._objective.hvp(self._z, self._y, Rz))

    def _as_network(self, W1: Numbers, b1: Numbers, W2: Numbers, b2: Numbers) -> TwoLayer:
        return replace(self._net, W1=W1, b1=b1, W2=W2, b2=b2)


def _softplus(a: Numbers) -> Numbers:
    return np.asarray(np.logaddexp(0, a, dtype=a.dtype))


def _softplus_second_derivative(a: Numbers) -> Numbers:
    return np.asarray(expit(a) * expit(-a))


def _step(a: Numbers) -> Numbers:
    return (a > 0).astype(a.dtype)


# f, f' and f''.
ACTIVATIONS: dict[str, tuple[Callable[[Numbers], Numbers], ...]] = {
    "softplus": (_softplus, expit, _softplus_second_derivative),
    "relu": (lambda a: np.maximum(a, 0), _step, np.zeros_like),
}
