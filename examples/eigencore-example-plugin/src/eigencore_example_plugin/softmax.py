"""Softmax regression: logits z = W x + b, linear in the weights and in the input.

So a step in the weights, W' x + b', is the change of the logits itself, and all curvature is the loss's own:
its derivatives with respect to the logits, which an `eigencore.interfaces.Objective` gives, are all it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from eigencore.errors import UnknownNameError
from eigencore.interfaces import Parameter

Numbers: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class SoftmaxRegression:
    """W (c, d) and b (c,): the weights, or a step in them."""

    W: Numbers
    b: Numbers

    def logits(self, x: Numbers) -> Numbers:
        """(N, c), for inputs (N, d)."""
        return np.asarray(x @ self.W.T + self.b)

    def plus(self, step: SoftmaxRegression) -> SoftmaxRegression:
        return SoftmaxRegression(self.W + step.W, self.b + step.b)

    def astype(self, dtype: npt.DTypeLike) -> SoftmaxRegression:
        """A copy."""
        return SoftmaxRegression(np.array(self.W, dtype=dtype), np.array(self.b, dtype=dtype))


@dataclass(frozen=True)
class Layout:
    """The chosen parameters of a model, one after the other in a flat vector."""

    model: SoftmaxRegression
    parameters: tuple[Parameter, ...]

    @property
    def n(self) -> int:
        return int(self.parameters[-1].where.stop)

    def step(self, v: Numbers) -> SoftmaxRegression:
        """A flat vector (n,) as a step, which is zero in the parameters that are not chosen."""
        parts = {"W": np.zeros_like(self.model.W), "b": np.zeros_like(self.model.b)}
        for name, where, _ in self.parameters:
            parts[name] = v[where].reshape(parts[name].shape)
        return SoftmaxRegression(**parts)

    def flat(self, gradient: SoftmaxRegression) -> Numbers:
        """The chosen part of a gradient, (n,)."""
        return np.concatenate([getattr(gradient, one.name).reshape(-1) for one in self.parameters])


def layout(model: SoftmaxRegression, params: str | None = None) -> Layout:
    """The parameters whose names match the glob `params`; None: both.

    Raises:
        UnknownNameError: neither does.
    """
    parameters: list[Parameter] = []
    for name in ("W", "b"):
        weights = getattr(model, name)
        if params is None or fnmatchcase(name, params):
            start = parameters[-1].where.stop if parameters else 0
            where = slice(start, start + weights.size)
            parameters.append(Parameter(name, where, float(np.linalg.norm(weights))))
    if not parameters:
        raise UnknownNameError("parameter", str(params), ("W", "b"))
    return Layout(model, tuple(parameters))
