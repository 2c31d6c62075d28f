"""Estimates with intervals, from random vectors on a sphere.

Let z be uniform on the sphere of radius sqrt(d) in a space of dimension d. Then z'Bz has the mean tr B, and
with rho = z'Bz / d its variance is twice the mean of |Bz - rho z|^2. (Both are 2 d / (d + 2) times
|B|_F^2 - (tr B)^2 / d, for every symmetric B.) So each product yields an unbiased estimate of the variance,
even the first one. It varies less than a sample variance does: it is a sum of squares with weights
lambda_i^2, whose relative variance is at most 2, as that of a single square. Therefore, t quantiles with one
degree of freedom for each vector are wide enough, and nearly exact if one eigenvalue dominates. Where B is
close to rank one, estimate and interval grow together, which keeps the coverage of a skewed distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import stats
from scipy.optimize import brentq

if TYPE_CHECKING:
    from eigencore.space import Floats

ROUNDING = 4.0  # rounding units by which a computed z'Bz may be off, relative to |z| |Bz|


@dataclass(frozen=True)
class IntervalEstimate:
    """An estimate with the half width of its interval."""

    value: float
    half_width: float

    @property
    def low(self) -> float:
        return self.value - self.half_width

    @property
    def high(self) -> float:
        return self.value + self.half_width

    def shifted(self, exact: float) -> IntervalEstimate:
        """The estimate of the sum with a number that is known exactly."""
        return IntervalEstimate(self.value + exact, self.half_width)


def quantile(confidence: float, degrees: int) -> float:
    """The half width, in standard errors, of a two-sided interval with these degrees of freedom."""
    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def half_width(error: float, bias: float, confidence: float, degrees: int) -> float:
    """The half width of an interval for an estimate with a standard error and an unknown bias.

    The sum of the bound on the bias and the half width without it would be too wide: a bias of this size
    takes the estimate to one side, where only one tail counts. This is the quantile of |t + bias / error|
    (Armstrong and Kolesar 2018, with Student's t for the normal distribution), times the error.

    Args:
        error: the standard error.
        bias: a bound on the magnitude of the bias.
        degrees: the degrees of freedom of the error.

    Example:
        from eigencore_spectrum.intervals import half_width, quantile

        assert abs(half_width(1.0, 0.0, 0.95, 10) - quantile(0.95, 10)) < 1e-9
        assert half_width(1.0, 2.0, 0.95, 10) < 2.0 + quantile(0.95, 10)
    """
    if error <= 0 or bias <= 0:
        return bias + quantile(confidence, degrees) * error
    shift, t = bias / error, stats.t(degrees)

    def excess(width: float) -> float:  # beyond the bias
        return float(t.cdf(width) - t.cdf(-width - 2 * shift)) - confidence

    # Between the quantiles with one tail and with two; a little further, because of rounding.
    low, high = float(t.ppf(confidence)) - 1e-6, quantile(confidence, degrees) + 1e-6
    return bias + error * float(brentq(excess, low, high, xtol=1e-9))


def mean_on_sphere(
    values: Floats,
    residuals: Floats,
    dimension: int,
    confidence: float,
    *,
    orthogonal: bool = False,
    bias: float = 0.0,
) -> IntervalEstimate:
    """The trace of B from z'Bz (m,) and |Bz - rho z|^2 (m,) of m vectors on the sphere of radius sqrt(d).

    Args:
        dimension: d.
        orthogonal: whether the vectors are orthogonal to one another instead of independent. The variance
            of the mean is then smaller by (d - m) / (d - 1), and zero if m = d.
        bias: a bound on any other error of the mean.

    Example:
        import numpy as np
        from eigencore_spectrum.intervals import mean_on_sphere

        B, rng = np.diag(np.arange(1.0, 51.0)), np.random.default_rng(0)
        Z = rng.standard_normal((50, 8))
        Z *= np.sqrt(50) / np.linalg.norm(Z, axis=0)
        values = (Z * (B @ Z)).sum(axis=0)
        residuals = np.linalg.norm(B @ Z - values / 50 * Z, axis=0) ** 2
        found = mean_on_sphere(values, residuals, 50, 0.95)
        assert found.low < 1275 < found.high
    """
    count = len(values)
    left = (dimension - count) / max(dimension - 1, 1) if orthogonal else 1.0
    error = math.sqrt(2 * float(residuals.mean()) * left / count)
    return IntervalEstimate(float(values.mean()), half_width(error, bias, confidence, count))


def mean_of_tests(
    estimates: Floats, variance: float, covariance: float, confidence: float
) -> IntervalEstimate:
    """The mean of k unbiased estimates (k,) with this mean variance and mean covariance of two of them."""
    return IntervalEstimate(
        float(estimates.mean()),
        quantile(confidence, len(estimates))
        * math.sqrt(variance_of_mean(variance, covariance, len(estimates))),
    )


def variance_of_mean(variance: float, covariance: float, count: int) -> float:
    """The variance of a mean. A negative covariance is mostly an error of its estimate, and is left out."""
    return (variance + (count - 1) * max(covariance, 0.0)) / count


def rounding(eps: float, dimension: int, square: float) -> float:
    """What rounding may add to the half width of a trace of a matrix with this squared Frobenius norm."""
    return ROUNDING * eps * math.sqrt(dimension * max(square, 0.0))
