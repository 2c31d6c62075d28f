"""Balls around samples in the Linf and L2 norms: projection, steepest steps and random points.

Every sample is a row of an array (b, d).
"""

from __future__ import annotations

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
        xp = arrays.namespace(x)
        if self.norm == "Linf":
            x = xp.minimum(xp.maximum(x, centre - self.eps), centre + self.eps)
        else:
            change = x - centre
            x = centre + change * (self.eps / xp.clip(l2_norms(change), self.eps, None))
        return clip_to_bounds(x, self.bounds)

    def steepest_step(self, gradient: Array) -> Array:
        """Returns the step of length eps along which a loss with this gradient (b, d) increases fastest."""
        xp = arrays.namespace(gradient)
        return self.eps * (xp.sign(gradient) if self.norm == "Linf" else unit_rows(gradient))

    def random_perturbations(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        """Returns perturbations (b, d) drawn uniformly from the ball, on the host."""
        if self.norm == "Linf":
            return np.asarray(rng.uniform(-self.eps, self.eps, shape))
        normal, (rows, d) = rng.standard_normal(shape), shape
        radius = self.eps * rng.uniform(size=(rows, 1)) ** (1 / d)
        return np.asarray(radius * normal / np.linalg.norm(normal, axis=1, keepdims=True))


def l2_norms(x: Array) -> Array:
    """Returns the Euclidean norm of each row (b, 1)."""
    return arrays.namespace(x).linalg.vector_norm(x, axis=1, keepdims=True)


def unit_rows(x: Array) -> Array:
    """Returns x (b, d) with each row scaled to Euclidean norm 1; a row of zeros is left unchanged."""
    xp = arrays.namespace(x)
    # The squares of a small gradient underflow, so its largest entry is first scaled to 1.
    x = _divided(x, xp.max(xp.abs(x), axis=1, keepdims=True))
    return _divided(x, l2_norms(x))


def _divided(x: Array, size: Array) -> Array:
    """Returns x / size, and x itself where the size is zero."""
    xp = arrays.namespace(x)
    return x / xp.where(size > 0, size, xp.ones_like(size))
