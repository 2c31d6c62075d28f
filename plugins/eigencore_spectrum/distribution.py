"""The distribution function of the eigenvalues, with a band that holds all of it at a stated confidence.

Three errors are covered. (1) Random vectors: the mass up to x of the spectral measure of a vector that is
uniform on the unit sphere of R^d, with k of d eigenvalues up to x, has the distribution Beta(k/2, (d - k)/2).
As functions of x, b of them deviate in the mean from k/d as a Brownian bridge with variance 2 / (b (d + 2))
does, so that the largest deviation has Kolmogorov's distribution; for small d it is smaller. (2) Quadrature:
`Quadrature.bounds`, which hold for every vector. (3) Known eigenpairs that are not exact, and rounding: these
move eigenvalues, so that the band is taken at points beside x.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats
    from eigencore_spectrum.complement import Complement
    from eigencore_spectrum.quadrature import Quadrature


class Band(NamedTuple):
    """The share of eigenvalues up to each of g points: estimates (g,), and the ends (g,) of the band."""

    estimate: Floats
    low: Floats
    high: Floats


class Distribution:
    """What is known of the share of eigenvalues up to each of some points.

    Args:
        known: the known eigenpairs, and the complement that the quadratures belong to.
        x: the points (g,).
        floor: the rounding errors of products, which move eigenvalues by as much.
        confidence: the probability at which the band holds the distribution function at all points.
    """

    def __init__(self, known: Complement, x: Floats, floor: float, confidence: float):
        self.known, self.x, self.floor, self.confidence = known, x, floor, confidence
        self._moved = self._how_far_moved()
        self._least, self._most, self._vectors = np.zeros(len(x)), np.zeros(len(x)), 0

    def add(self, rule: Quadrature) -> None:
        """Takes the quadrature of a further random vector, uniform on the sphere, into account."""
        self._least = self._least + rule.bounds(self.x - self._moved)[0]
        self._most = self._most + rule.bounds(self.x + self._moved)[1]
        self._vectors += 1

    @property
    def sampling_error(self) -> float:
        """The half width of the band that random vectors alone cause, for the complement."""
        from scipy.special import kolmogi

        if not self._vectors:
            return 0.0
        variance = 2 / (self._vectors * (self.known.dimension + 2))
        return float(kolmogi(1 - self.confidence)) * math.sqrt(variance)

    def band(self) -> Band:
        """The band; the estimate is the middle of the bounds of the quadratures."""
        known, d, x = self.known, self.known.dimension, self.x
        values, residuals = known.values, np.maximum(known.residuals, self.floor)
        n = d + len(values)
        estimate = np.searchsorted(values, x, side="right") / n
        low = np.searchsorted(np.sort(values + residuals), x, side="right") / n
        high = np.searchsorted(np.sort(values - residuals), x, side="right") / n
        if self._vectors:
            error, least, most = self.sampling_error, self._least / self._vectors, self._most / self._vectors
            estimate = estimate + d / n * (least + most) / 2
            low = low + d / n * np.clip(least - error, 0.0, 1.0)
            high = high + d / n * np.clip(most + error, 0.0, 1.0)
        return Band(estimate, low, high)

    def _how_far_moved(self) -> Floats:
        """How far an eigenvalue of the complement near each point can be from one of the operator.

        Residuals R couple the complement to the known pairs: by 2 |R|^2 / (g + sqrt(g^2 + 4 |R|^2)) at most,
        where g is the distance to the nearest known eigenvalue (Li and Li 2005).
        """
        values, R = self.known.values, float(np.sqrt(np.sum(self.known.residuals**2)))
        if not R:
            return np.full_like(self.x, self.floor)
        nearest = np.min(np.abs(self.x[:, None] - values[None, :]), axis=1)
        gap = np.maximum(nearest - R, 0.0)
        moved: Floats = self.floor + 2 * R**2 / (gap + np.sqrt(gap**2 + 4 * R**2))
        return moved
