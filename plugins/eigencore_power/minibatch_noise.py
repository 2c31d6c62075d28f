"""The effect of minibatch noise on momentum: its measurement, and the best momentum for a given noise.

Let g = mu(l_k), with mu as in `accelerated.py`, be the growth of the wanted component in a step. Relative to
it, the component along an eigenvalue l follows the recurrence of the method,
q_{i+1} = (l q_i - beta q_{i-1} / g) / g. Noise that enters along l follows it too: i steps later it is
q_i / g times as large, with q_0 = 1 and q_1 = l / g. At l = 2 sqrt(beta), q_i = (i + 1) (sqrt(beta) / g)^i,
which grows before it falls. De Sa et al. (arXiv:1707.02670) bound the noise by a multiple of l_1^2 - 4 beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore_power.blocks import require_finite

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Floats
    from eigencore_power.blocks import Block

# The candidates for the end of the damped range, relative to the best end without noise.
EDGE_FRACTIONS = np.linspace(1.0, 0.0, 41)


@dataclass(frozen=True)
class NoisyMomentum:
    """The best momentum under noise.

    Attributes:
        edge: |eigenvalues| up to this value are damped.
        error_factor: the factor by which an epoch multiplies the squared error, according to the model of
            this module; from 1 on, nothing is gained.
    """

    edge: float
    error_factor: float


def best_momentum(edge: float, wanted: float, noise: float, steps: int) -> NoisyMomentum:
    """Returns the edge, at most the given one, for which an epoch reduces the error most.

    Args:
        edge: the edge of the best momentum without noise, which is the largest unwanted |eigenvalue|.
        wanted: the smallest wanted |eigenvalue|.
        noise: the variance that a minibatch step adds, divided by the square of the present error.
        steps: the number of steps of an epoch; the first one is free of noise.
    """
    factors = error_factors(edge, wanted, noise, steps, EDGE_FRACTIONS * edge)
    best = int(np.argmin(factors))
    return NoisyMomentum(float(EDGE_FRACTIONS[best]) * edge, float(factors[best]))


def error_factors(unwanted: float, wanted: float, noise: float, steps: int, edges: Floats) -> Floats:
    """Returns the factors by which an epoch multiplies the squared error, for damping up to each edge."""
    if max(unwanted, wanted) == 0:
        return np.zeros_like(edges)
    beta = edges**2 / 4
    growth = _mu(max(unwanted, wanted), beta)
    decay = (_mu(unwanted, beta) / growth) ** (2 * steps)
    added, before, now = np.zeros_like(beta), np.zeros_like(beta), np.ones_like(beta)
    for _ in range(steps - 1):
        added += (now / growth) ** 2
        before, now = now, (unwanted * now - beta / growth * before) / growth
    return decay + noise * added


def _mu(size: float, beta: Floats) -> Floats:
    """Returns the factor per step of the component along an |eigenvalue|, after many steps."""
    root = np.sqrt(np.maximum(size**2 - 4 * beta, 0))
    return np.where(root > 0, (size + root) / 2, np.sqrt(beta))


def measure_noise(
    sample: LinearOperator, scale: float, block: Block, known_span: Block | None
) -> float | None:
    """Measures the noise of one minibatch, at the cost of one product a vector.

    Args:
        sample: the minibatch operator A_S.
        scale: the scale of the products of the blocks.
        block: vectors D whose full products A D are known.
        known_span: with variance reduction, D is reduced to its part outside the span of this block.

    Returns:
        ||(A_S - A) D||^2 / ||D||^2 outside the span of the block, in units of scale^2; None if D is little
        more than rounding error.

    Raises:
        NotFiniteError: a product is not finite.
    """
    xp = sample.xp
    D, AD = block.X, block.AX
    if known_span is not None:
        C = D @ known_span.X.T
        D, AD = D - C @ known_span.X, AD - C @ known_span.AX
    E = sample.matmat(D.T).T / scale - AD
    with np.errstate(over="ignore", invalid="ignore"):
        E = E - (E @ block.X.T) @ block.X
        size, quick = map(float, arrays.to_host_at_once(xp.linalg.vector_norm(D), arrays.quick_norm(E)))
    noise = arrays.safe_norm(quick, E)
    require_finite(noise)
    return (noise / size) ** 2 if size > 1e4 * arrays.eps(sample) else None
