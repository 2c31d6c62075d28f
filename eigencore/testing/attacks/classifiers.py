"""Small classifiers on any array library, with gradients written by hand, on which attacks are tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.errors import CapabilityError
from eigencore.interfaces import Classifier, Objective
from eigencore.problems.sharing import bounds_of_rows
from eigencore.space import Array
from eigencore.testing.libraries import Library
from eigencore.testing.side_effects import InjectedInterrupt

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

SAMPLES, INPUTS = 12, 10
Limits: TypeAlias = "tuple[float | Floats, float | Floats] | None"


@dataclass(frozen=True)
class Dense:
    """A classifier with the logits W x + b, or W softplus(U x + u) + b with a hidden layer (U, u).

    Attributes:
        library: the array library that it computes in; the arrays below are on the host.
        W, b: (c, h) and (c,); without a hidden layer h is d.
        inputs: its samples (N, d); the label of each is the predicted class.
        limits: the bounds of the inputs, as in `Problem.bounds`, or None.
        inside: the hidden layer, U (h, d) and u (h,), or None.
    """

    library: Library
    W: Floats
    b: Floats
    inputs: Floats
    limits: Limits = None
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
    def channel_axis(self) -> None:
        return None

    @property
    def classes(self) -> int:
        return len(self.b)

    @property
    def bounds(self) -> tuple[Array, Array] | None:
        return bounds_of_rows(self.limits, self.shape, self)

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
        raise CapabilityError("this classifier offers no products over the inputs")

    def _inner(self, x: Array) -> Array:
        assert self.inside is not None
        U, u = self.inside
        return x @ self.library.array(U.T) + self.library.array(u)

    def _outer(self, x: Array) -> Array:
        return x @ self.library.array(self.W.T) + self.library.array(self.b)


def distances(linear: Dense, y: npt.NDArray[np.int64], norm: str) -> Floats:
    """The distance of each sample (N,) of a classifier without a hidden layer to the nearest class boundary.

    Bounds of the inputs are ignored.
    """
    rows, logits = np.arange(len(y)), linear.inputs @ linear.W.T + linear.b
    between = linear.W[y][:, None, :] - linear.W
    dual = np.linalg.norm(between, ord=1 if norm == "Linf" else 2, axis=2)
    dual[rows, y] = 1.0
    there = (logits[rows, y][:, None] - logits) / dual
    there[rows, y] = np.inf
    return np.asarray(there.min(axis=1))


def curved(library: Library, limits: Limits = (0.0, 1.0), unit: float = 1.0) -> Dense:
    """Three classes with curved boundaries, over inputs in any unit; some samples lie on the bounds."""
    rng = np.random.default_rng(0)
    low, high = limits or (-1.0, 1.0)
    span = high - low
    x = np.clip(rng.uniform(low - 0.2 * span, high + 0.2 * span, (SAMPLES, INPUTS)), low, high)
    U = 2 * rng.standard_normal((8, INPUTS)) / span
    return Dense(
        library,
        W=rng.standard_normal((3, 8)),
        b=np.zeros(3),
        inputs=unit * x,
        limits=None if limits is None else (unit * low, unit * high),
        inside=(U / unit, -U @ np.full(INPUTS, (low + high) / 2)),
    )


def flat(library: Library) -> Dense:
    """Two classes with a plane between them and no bounds: the nearest point of the plane is known."""
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((2, INPUTS)), rng.standard_normal(2)
    return Dense(library, W, b, inputs=rng.standard_normal((SAMPLES, INPUTS)) / 3)


def constant(library: Library) -> Dense:
    """Class 1 everywhere; all gradients are zero."""
    x = np.random.default_rng(2).uniform(size=(SAMPLES, INPUTS))
    return Dense(library, np.zeros((3, INPUTS)), np.array([0.0, 1.0, 0.5]), x, limits=(0.0, 1.0))


class FailingClassifier:
    """A classifier that raises an error in every pass after the first `last`."""

    def __init__(self, classifier: Classifier, last: int, error: type[BaseException] = InjectedInterrupt):
        self._classifier, self._left, self._error = classifier, last, error
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes, self.bounds = classifier.shape, classifier.classes, classifier.bounds
        self.channel_axis = classifier.channel_axis
        self.samples, self.input_products = classifier.samples, classifier.input_products

    def logits(self, x: Array, /) -> Array:
        self._pass()
        return self._classifier.logits(x)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        self._pass()
        return self._classifier.value_and_grad(objective, x, y)

    def _pass(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error()


def _softplus(z: Array) -> Array:
    xp = arrays.namespace(z)
    return xp.clip(z, 0, None) + xp.log1p(xp.exp(-xp.abs(z)))
