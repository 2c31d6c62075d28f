"""Balls around samples in the Linf and L2 norms: projection, steepest steps and random points.

Every sample is a row of an array (b, d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.problems.sharing import clip_to_bounds

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

Norm: TypeAlias = Literal["Linf", "L2"]


@dataclass(frozen=True)
class NormBall:
    """A ball of radius eps around each sample, intersected with the input bounds if they are known."""

    eps: float
    norm: Norm
    bounds: tuple[Array, Array] | None

    def project(self, x: Array, centre: Array) -> Array:
        """Returns x (b, d) projected into the balls around the rows of `centre`, then clipped to the bounds.

        The rows of `centre` lie within the bounds, so clipping does not move a point out of its ball. For L2
        the result is not necessarily the nearest point of the intersection.
        """
        return projected(x, centre, self.eps, self.norm, self.bounds)

    def steepest_step(self, gradient: Array) -> Array:
        """Returns the step of length eps along which a loss with this gradient (b, d) increases fastest."""
        return self.eps * steepest(gradient, self.norm)

    def random_perturbations(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        """Returns perturbations (b, d) drawn uniformly from the ball, on the host."""
        return self.eps * random_perturbations(rng, shape, self.norm)


def random_perturbations(rng: np.random.Generator, shape: tuple[int, int], norm: Norm) -> Floats:
    """Returns rows (b, d) drawn uniformly from the ball of radius 1, on the host."""
    if norm == "Linf":
        return np.asarray(rng.uniform(-1.0, 1.0, shape))
    # The first d coordinates of a point drawn uniformly from the sphere in d + 2 dimensions.
    rows, d = shape
    normal = rng.standard_normal((rows, d + 2))
    return np.asarray(normal[:, :d] / np.linalg.norm(normal, axis=1, keepdims=True))


def projected(
    x: Array, centre: Array, radius: Array | float, norm: Norm, bounds: tuple[Array, Array] | None
) -> Array:
    """Returns x (b, d) projected into balls of one radius or of (b, 1) radii, then clipped to the bounds."""
    xp = arrays.namespace(x)
    if norm == "Linf":
        return clip_to_bounds(xp.minimum(xp.maximum(x, centre - radius), centre + radius), bounds)
    change = x - centre
    length = lengths(change, "L2")
    inside = length <= radius
    factor = xp.where(inside, xp.ones_like(length), radius / xp.where(inside, xp.ones_like(length), length))
    return clip_to_bounds(centre + change * factor, bounds)


def steepest(gradient: Array, norm: Norm) -> Array:
    """Returns the direction of length 1 along which a function of this gradient (b, d) rises fastest."""
    return arrays.namespace(gradient).sign(gradient) if norm == "Linf" else unit_rows(gradient)


def dual_lengths(gradient: Array, norm: Norm) -> Array:
    """Returns the slope of a function with this gradient (b, d) along its steepest direction (b, 1)."""
    xp = arrays.namespace(gradient)
    return xp.linalg.vector_norm(gradient, axis=1, keepdims=True, ord=1 if norm == "Linf" else 2)


def lengths(x: Array, norm: Norm) -> Array:
    """Returns the norm of each row (b, 1)."""
    order = math.inf if norm == "Linf" else 2
    return arrays.namespace(x).linalg.vector_norm(x, axis=1, keepdims=True, ord=order)


def unit_rows(x: Array) -> Array:
    """Returns x (b, d) with each row scaled to Euclidean norm 1; a row of zeros is left unchanged."""
    xp = arrays.namespace(x)
    # The squares of a small gradient underflow, so its largest entry is first scaled to 1.
    x = _divided(x, xp.max(xp.abs(x), axis=1, keepdims=True))
    return _divided(x, lengths(x, "L2"))


def _divided(x: Array, size: Array) -> Array:
    """Returns x / size, and x itself where the size is zero."""
    xp = arrays.namespace(x)
    return x / xp.where(size > 0, size, xp.ones_like(size))
