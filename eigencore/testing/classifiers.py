"""A small classifier whose gradients are written by hand, on any array library, to test attacks on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from eigencore import arrays
from eigencore.errors import CapabilityError
from eigencore.interfaces import Objective
from eigencore.space import Array
from eigencore.testing.libraries import Library

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats


@dataclass(frozen=True)
class Dense:
    """logits = W x + b; with a layer (U, u) inside, W softplus(U x + u) + b. All given on the host.

    Attributes:
        W, b: (c, h) and (c,); without a layer inside, h is d.
        inputs: its samples (N, d), each labelled as it is classified.
        inside: U (h, d) and u (h,).
    """

    library: Library
    W: Floats
    b: Floats
    inputs: Floats
    bounds: tuple[float, float] | None = None
    inside: tuple[Floats, Floats] | None = None

    @property
    def xp(self) -> Any:
        return self.library.xp

    @property
    def dtype(self) -> Any:
        return self.library.dtype

    @property
    def device(self) -> Any:
        return arrays.device_of(self.library.array(self.b))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.inputs.shape[1],)

    @property
    def classes(self) -> int:
        return len(self.b)

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        x = self.library.array(self.inputs[:most])
        return x, self.xp.argmax(self.logits(x), axis=1)

    def logits(self, x: Array, /) -> Array:
        return self._outer(x if self.inside is None else _softplus(self._inner(x)))

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        logits = self.logits(x)
        gradient = objective.grad(logits, y) @ self.library.array(self.W)
        if self.inside is not None:
            slope = 1 / (1 + self.xp.exp(-self._inner(x)))
            gradient = (gradient * slope) @ self.library.array(self.inside[0])
        return objective.value(logits, y), gradient

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> NoReturn:
        raise CapabilityError("this classifier offers no products over its inputs")

    def _inner(self, x: Array) -> Array:
        assert self.inside is not None
        U, u = self.inside
        return x @ self.library.array(U.T) + self.library.array(u)

    def _outer(self, x: Array) -> Array:
        return x @ self.library.array(self.W.T) + self.library.array(self.b)


def distances(linear: Dense, y: npt.NDArray[np.int64], norm: str) -> Floats:
    """From each sample of a classifier with no layer inside to its nearest boundary (N,), bounds aside."""
    rows, logits = np.arange(len(y)), linear.inputs @ linear.W.T + linear.b
    between = linear.W[y][:, None, :] - linear.W
    dual = np.linalg.norm(between, ord=1 if norm == "Linf" else 2, axis=2)
    dual[rows, y] = 1.0
    there = (logits[rows, y][:, None] - logits) / dual
    there[rows, y] = np.inf
    return np.asarray(there.min(axis=1))


def _softplus(z: Array) -> Array:
    xp = arrays.namespace(z)
    return xp.clip(z, 0, None) + xp.log1p(xp.exp(-xp.abs(z)))
