"""Balls around samples, a row each, in the norms Linf and L2: ways up, ways back, and points by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

Norm: TypeAlias = Literal["Linf", "L2"]


@dataclass(frozen=True)
class Ball:
    """Of radius eps around any row, cut off at the bounds that an input has."""

    eps: float
    norm: Norm
    bounds: tuple[float, float] | None

    def project(self, x: Array, centre: Array) -> Array:
        """x (b, d) back in the balls around the rows of `centre`, which lie in the bounds.

        Into the ball and then into the bounds: a point of the ball stays in it on its way to the bounds,
        since the centre is inside. For L2 that need not be the nearest point of both.
        """
        xp = arrays.namespace(x)
        if self.norm == "Linf":
            x = xp.minimum(xp.maximum(x, centre - self.eps), centre + self.eps)
        else:
            change = x - centre
            x = centre + change * (self.eps / xp.clip(lengths(change), self.eps, None))
        return x if self.bounds is None else xp.clip(x, *self.bounds)

    def step(self, gradient: Array) -> Array:
        """Of length eps, the direction in which a loss with this gradient (b, d) rises fastest."""
        xp = arrays.namespace(gradient)
        return self.eps * (xp.sign(gradient) if self.norm == "Linf" else directions(gradient))

    def chance(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        """Changes (b, d) drawn evenly from the ball, on the host."""
        if self.norm == "Linf":
            return np.asarray(rng.uniform(-self.eps, self.eps, shape))
        normal, (rows, d) = rng.standard_normal(shape), shape
        radius = self.eps * rng.uniform(size=(rows, 1)) ** (1 / d)
        return np.asarray(radius * normal / np.linalg.norm(normal, axis=1, keepdims=True))


def lengths(x: Array) -> Array:
    """The Euclidean norm of each row (b, 1)."""
    return arrays.namespace(x).linalg.vector_norm(x, axis=1, keepdims=True)


def directions(x: Array) -> Array:
    """Each row at length one; one of zeros as it is."""
    xp = arrays.namespace(x)
    # The squares of a small gradient vanish: first its largest number is made 1.
    x = _over(x, xp.max(xp.abs(x), axis=1, keepdims=True))
    return _over(x, lengths(x))


def _over(x: Array, size: Array) -> Array:
    xp = arrays.namespace(x)
    return x / xp.where(size > 0, size, xp.ones_like(size))
