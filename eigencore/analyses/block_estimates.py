"""The traces and Frobenius norms of several matrices, estimated with random vectors z of independent signs.

The means of z'B z and of |B z|^2 are the trace of B and the square of its Frobenius norm (M. F. Hutchinson, A
stochastic estimator of the trace of the influence matrix, Commun. Stat. Simul. Comput. 19 (1990) 433-450).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.results import EigenResult
    from eigencore.space import Array, Floats, Space

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with the half width of its confidence interval at 95 %; 0.0 if it is exact."""

    value: float
    half_width: float


def trace_and_norm(
    products: Callable[[Mapping[int, Array]], Mapping[int, Array]],
    sizes: Sequence[int],
    space: Space,
    found: Sequence[EigenResult],
    probes: int,
    seed: int,
) -> list[tuple[Estimate, Estimate]]:
    """The trace and the Frobenius norm of each block, from one call of `products`.

    The known eigenpairs V, theta are left out of the estimate: B is V theta V' plus a matrix on the
    complement, on which the random vectors are projected.
    """
    Zs = {}
    for i, (n, eigen) in enumerate(zip(sizes, found, strict=True)):
        signs = arrays.generator(seed, "layer probes", i).choice([-1.0, 1.0], (n, probes))
        exact = n <= probes
        Z = arrays.from_host(np.eye(n) if exact else signs, space)
        Zs[i] = Z if exact else _outside(eigen.vectors, Z)
    estimates, sum_ = [], space.xp.sum
    for i, BZ in products(Zs).items():
        exact, eigen = sizes[i] <= probes, found[i]
        rest = BZ if exact else _outside(eigen.vectors, BZ)
        samples = np.stack(
            arrays.to_host_at_once(sum_(Zs[i] * BZ, axis=0), sum_(rest * rest, axis=0)), axis=1
        )
        estimates.append(_exact(samples) if exact else _estimated(samples, eigen))
    return estimates


def _outside(V: Array, X: Array) -> Array:
    return X - V @ (V.T @ X)


def _exact(samples: Floats) -> tuple[Estimate, Estimate]:
    trace, square = samples.sum(axis=0)
    return Estimate(float(trace), 0.0), Estimate(math.sqrt(square), 0.0)


def _estimated(samples: Floats, eigen: EigenResult) -> tuple[Estimate, Estimate]:
    """The estimates from z'B z and |B z|^2 of random vectors (m, 2) in the complement of the eigenvectors."""
    from scipy.stats import t

    count = len(samples)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) if count > 1 else math.inf
    errors = samples.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.ones(2)
    known = np.sum(eigen.values), np.sum(eigen.values**2) + 2 * np.sum(eigen.residuals**2)
    trace, square = samples.mean(axis=0) + known
    norm = math.sqrt(square)
    # The half width of the square root, to first order.
    of_norm = quantile * errors[1] / (2 * norm) if norm else 0.0
    return Estimate(float(trace), quantile * float(errors[0])), Estimate(norm, float(of_norm))
