"""What the noise of minibatches does to momentum: measured, and the most momentum that it lets pay.

Beside the wanted, whose growth a step is g = mu(l_k), the part of an eigenvalue l goes by the recurrence of
the method itself, q_{i+1} = (l q_i - beta q_{i-1} / g) / g, and so does noise that comes in: i steps later
it is q_i / g times as large, q_0 = 1, q_1 = l / g. At l = 2 sqrt(beta), q_i = (i + 1) (sqrt(beta) / g)^i: it
grows before it falls. De Sa et al. (arXiv:1707.02670) bound the noise by a multiple of l_1^2 - 4 beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Floats
    from eigencore_power.blocks import Block

PARTS = np.linspace(1.0, 0.0, 41)


@dataclass(frozen=True)
class Bearing:
    """Momentum under noise.

    Attributes:
        edge: |eigenvalues| up to it are damped.
        factor: of the squared error over an epoch, as the model has it; from 1 on nothing is gained.
    """

    edge: float
    factor: float


def bearable(edge: float, wanted: float, noise: float, steps: int) -> Bearing:
    """The edge, or as much less as makes the error fall fastest over an epoch of so many steps.

    Args:
        edge: of the best momentum without noise: the largest unwanted |eigenvalue|.
        wanted: the least wanted |eigenvalue|.
        noise: the variance that a minibatch step adds, over the square of the error there is.
        steps: of an epoch; the first is free of noise.
    """
    factors = error_factors(edge, wanted, noise, steps, PARTS * edge)
    best = int(np.argmin(factors))
    return Bearing(float(PARTS[best]) * edge, float(factors[best]))


def error_factors(unwanted: float, wanted: float, noise: float, steps: int, edges: Floats) -> Floats:
    """By how much an epoch multiplies the squared error, for the momentum that damps up to each edge."""
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
    """How much a step multiplies the part of an |eigenvalue|, with time."""
    apart = np.sqrt(np.maximum(size**2 - 4 * beta, 0))
    return np.where(apart > 0, (size + apart) / 2, np.sqrt(beta))


def measure(sample: LinearOperator, scale: float, block: Block, around: Block | None) -> float | None:
    """||(A_S - A) D||^2 / ||D||^2 outside the block's span, in units of the scale^2; one product a vector.

    D is the block, or where variance is reduced what of it lies outside the span of `around`; A D is known.
    None where D is little more than rounding.
    """
    xp = sample.xp
    D, AD = block.X, block.AX
    if around is not None:
        C = D @ around.X.T
        D, AD = D - C @ around.X, AD - C @ around.AX
    size = float(xp.linalg.vector_norm(D))
    E = sample.matmat(D.T).T / scale - AD
    E = E - (E @ block.X.T) @ block.X
    if size <= 1e4 * arrays.eps(sample):
        return None
    return (float(xp.linalg.vector_norm(E)) / size) ** 2
