"""Softmax regression: logits z = W x + b, linear in the weights and in the input.

A step (W', b') in the weights therefore changes the logits by exactly W' x + b', and all curvature comes from
the loss. Its derivatives with respect to the logits are given by an `eigencore.interfaces.Objective`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from eigencore.interfaces import Parameter, Params
from eigencore.problems.sharing import FlatLayout, flat_layout

Numbers: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class SoftmaxRegression:
    """Weights W (c, d) and biases b (c,). The same class also holds a step in these, or a gradient."""

    W: Numbers
    b: Numbers

    def logits(self, x: Numbers) -> Numbers:
        """The logits (N, c) for inputs (N, d)."""
        return np.asarray(x @ self.W.T + self.b)

    def plus(self, step: SoftmaxRegression) -> SoftmaxRegression:
        """The model after a step in the weights."""
        return SoftmaxRegression(self.W + step.W, self.b + step.b)

    def astype(self, dtype: npt.DTypeLike) -> SoftmaxRegression:
        """A copy in another data type."""
        return SoftmaxRegression(np.array(self.W, dtype=dtype), np.array(self.b, dtype=dtype))


@dataclass(frozen=True)
class SoftmaxLayout:
    """The selected parameters of a model, one after the other in a flat vector of n numbers."""

    model: SoftmaxRegression
    flat: FlatLayout

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return self.flat.n

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The name, position and norm of each selected parameter."""
        return self.flat.parameters(vars(self.model))

    def unflatten(self, v: Numbers) -> SoftmaxRegression:
        """A flat vector (n,) as a step, which is zero in the parameters that are not selected."""
        zeros = {name: np.zeros_like(array) for name, array in vars(self.model).items()}
        return SoftmaxRegression(**zeros | self.flat.unflatten(v))

    def flatten(self, gradient: SoftmaxRegression) -> Numbers:
        """The selected parameters of a gradient as a flat vector (n,)."""
        return np.asarray(self.flat.flatten(vars(gradient)))


def layout(model: SoftmaxRegression, params: Params = None) -> SoftmaxLayout:
    """The parameters whose names match the patterns `params`; None selects both.

    Raises:
        UnknownNameError: no parameter matches a pattern.
    """
    return SoftmaxLayout(model, flat_layout(vars(model), params))
