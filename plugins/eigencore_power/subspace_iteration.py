"""Subspace iteration with momentum: a step, Rayleigh-Ritz over two consecutive blocks, and missed directions.

`deflated_power` uses it with no momentum term, `accel_power` with and without minibatches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore_power.blocks import (
    Block,
    RitzDecomposition,
    combine,
    fill_with_random,
    multiply,
    orthonormalise,
    outside,
    part_outside,
    rayleigh_ritz,
    ritz_block,
    start_block,
)
from eigencore_power.converged import state_after, threshold_ratios

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class Iterate:
    """A block with its products, in units of `scale`, and the previous block.

    Attributes:
        block: the current block X.
        scale: the power of two by which products are divided.
        before: the previous block (b, n), orthonormal; None at the start.
        T: (b, b); T @ before is the previous block as it enters the recurrence, normalised like X.
        step: the number of steps so far.
    """

    block: Block
    scale: float
    before: Array | None
    T: Floats
    step: int = 0


def start(operator: LinearOperator, request: Request, given: Array | None) -> Iterate:
    """Returns the iterate of k vectors, with zero as the previous block: b = k products.

    The first columns of `given` are used; random vectors complete the block.
    """
    X = start_block(operator, given, request.k, arrays.generator(request.seed, "power start"))
    return at_rest(*multiply(operator, X))


def at_rest(block: Block, scale: float, step: int = 0) -> Iterate:
    """Returns the iterate of a block with its products, with zero as the previous block."""
    return Iterate(block, scale, None, np.zeros((block.width, block.width)), step)


def advance(operator: LinearOperator, at: Iterate, beta: float, seed: int) -> Iterate:
    """Makes one step: W = A X - beta X_before, then X = T W orthonormal; T normalises both blocks.

    Args:
        operator: A.
        at: the current iterate.
        beta: the momentum, in units of scale^2.
        seed: that of the random vectors, with no momentum term, in place of those that W has lost in rank.
    """
    X, T = _step(operator, at, beta)
    b, step = at.block.width, at.step + 1
    T = np.pad(T, ((0, b - len(T)), (0, 0)))
    X = fill_with_random(operator, X, b, arrays.generator(seed, "power step", step))
    return Iterate(multiply(operator, X, at.scale)[0], at.scale, at.block.X, T, step)


def _step(operator: LinearOperator, at: Iterate, beta: float) -> tuple[Array, Floats]:
    W = at.block.AX
    if beta and at.before is not None:
        W = W - arrays.from_host(beta * at.T, operator) @ at.before
    return orthonormalise(operator, W)


def with_missed(
    operator: LinearOperator, ritz: RitzDecomposition, missed: Array, at: Iterate
) -> tuple[Iterate, Block]:
    """Applies Rayleigh-Ritz to the Ritz vectors and missed directions (n, c), at c products.

    The Rayleigh quotients of missed directions are beyond those of the weakest Ritz vectors, so that these
    leave the block.

    Returns:
        The iterate of the largest pairs, with no momentum term, and the rest, in place of the previous block.
    """
    b = at.block.width
    known = ritz_block(operator, ritz, slice(b))
    fresh, _ = multiply(operator, outside(operator, known.X, missed.T), at.scale)
    joint = rayleigh_ritz(operator, (known, fresh), 0)
    largest = ritz_block(operator, joint, slice(b))
    return at_rest(largest, at.scale, at.step + 1), ritz_block(operator, joint, slice(b, None))


# -- Ritz pairs --------------------------------------------------------------------------------------------


def ritz_pairs(
    operator: LinearOperator, block: Block, previous: Block | None, count: int
) -> RitzDecomposition:
    """Applies Rayleigh-Ritz to a block and the previous one, whose products are both known.

    The span of x and A x contains both eigenvectors of a tie of l and -l, between which x itself alternates.
    """
    if previous is None:
        return rayleigh_ritz(operator, (block,), count)
    return rayleigh_ritz(operator, (block, part_outside(operator, (block,), previous)), count)


def snapshot(
    operator: LinearOperator,
    request: Request,
    ritz: RitzDecomposition,
    scale: float,
    *,
    count: int,
    notes: tuple[str, ...],
    state: object,
) -> Snapshot:
    """Returns the first `count` pairs as a Snapshot, in the operator's own units, with the given state."""
    done = count == request.k and bool(np.all(residual_ratios(operator, request, ritz)[:count] <= 1))
    bases, rotation = [block.X for block in ritz.blocks], ritz.rotation[:count, :]
    return Snapshot(
        values=ritz.values[:count] * scale,
        residuals=ritz.residuals[:count] * scale,
        vectors=lambda: combine(operator, bases, rotation).T,
        norm=abs(float(ritz.values[0])) * scale,
        notes=notes,
        state=lambda vectors: state_after(state, vectors, done),
    )


def residual_ratios(operator: LinearOperator, request: Request, ritz: RitzDecomposition) -> Floats:
    """Returns the known residuals, each divided by its threshold; a pair has converged at 1 or less."""
    known = ritz.values[: len(ritz.residuals)]
    return threshold_ratios(operator, request, known, ritz.residuals, abs(float(ritz.values[0])))
