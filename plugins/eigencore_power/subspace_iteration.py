"""Subspace iteration with momentum: a step, Rayleigh-Ritz over two consecutive blocks, and the momentum.

`deflated_power` uses it with no momentum term, `accel_power` with and without minibatches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request, precision_floor
from eigencore_power.blocks import (
    Block,
    RitzDecomposition,
    combine,
    fill_with_random,
    multiply,
    orthonormalise,
    part_outside,
    rayleigh_ritz,
)
from eigencore_power.converged import state_after

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

# Magnitudes within this relative distance count as tied; the damped range ends this far below tied ones.
TIE_TOLERANCE = 0.001


@dataclass(frozen=True)
class Iterate:
    """A block with its products, in units of `scale`, and the previous block.

    Attributes:
        block: the current block X.
        scale: the power of two by which products are divided.
        before: the previous block (b, n), orthonormal; None at the start.
        T: (b, b); T @ before is the previous block as it enters the recurrence, normalised like X.
    """

    block: Block
    scale: float
    before: Array | None
    T: Floats


def first_iterate(operator: LinearOperator, X: Array) -> Iterate:
    """Returns the iterate of orthonormal X, with zero as the previous block."""
    block, scale = multiply(operator, X)
    return Iterate(block, scale, None, np.zeros((block.width, block.width)))


def advance(operator: LinearOperator, at: Iterate, beta: float, rng: np.random.Generator) -> Iterate:
    """Makes one step: W = A X - beta X_before, then X = T W orthonormal; T normalises both blocks.

    Args:
        operator: A.
        at: the current iterate.
        beta: the momentum, in units of scale^2.
        rng: draws random vectors, with no momentum term, in place of those that W has lost in rank.
    """
    X, T = _step(operator, at, beta)
    b = at.block.width
    T = np.pad(T, ((0, b - len(T)), (0, 0)))
    block, scale = multiply(operator, fill_with_random(operator, X, b, rng), at.scale)
    return Iterate(block, scale, at.block.X, T)


def _step(operator: LinearOperator, at: Iterate, beta: float) -> tuple[Array, Floats]:
    W = at.block.AX
    if beta and at.before is not None:
        W = W - arrays.from_host(beta * at.T, operator) @ at.before
    return orthonormalise(operator, W)


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
    floor = precision_floor(arrays.eps(operator), abs(float(ritz.values[0])))
    thresholds = request.thresholds(ritz.values[: len(ritz.residuals)], floor)
    # A threshold of zero belongs to a zero operator, whose residuals are zero.
    return ritz.residuals / np.where(thresholds > 0, thresholds, 1.0)


def next_pair_excluded(
    operator: LinearOperator, request: Request, ritz: RitzDecomposition, count: int
) -> bool:
    """Whether the pair after the first `count` has converged or cannot outgrow them.

    It cannot if its |theta| + ||r|| is at most the smallest of their |theta|, up to the tolerance. Without
    this test, 9.8 was returned as the largest of 10 and 9.8 in one of seven runs at tol 1e-2.
    """
    if len(ritz.residuals) <= count:
        return True
    last, following = np.abs(ritz.values[count - 1 : count + 1])
    bound = following + ritz.residuals[count]
    return bool(residual_ratios(operator, request, ritz)[count] <= 1 or bound <= last * (1 + request.tol))


# -- the momentum ------------------------------------------------------------------------------------------


def damping_lower_bound(operator: LinearOperator, ritz: RitzDecomposition, k: int, b: int) -> float:
    """Returns a lower bound of the largest |eigenvalue| to damp for the k-th pair; 0.0 if none is known.

    It is at most a singular value of A on the span, hence at most the |eigenvalue| of the same rank
    (interlacing). The rank is half way from the width of the block to that of the span, because Rayleigh-Ritz
    alone separates the k-th pair from some pairs that the block does not contain.

    It is also at most the factor by which A stretches the k-th residual within the span. Repeats of the k-th
    eigenvalue have no part in this residual, and cause no error. While the momentum is too small, the
    eigenvalues that it does not damp decay slowest, and so come to dominate this residual.
    """
    if len(ritz.values) <= b:
        return 0.0
    values, rotation = np.linalg.eigh(ritz.projected[:b, :b])
    kth = Request(k=k).order(values)[k - 1]
    residual = ritz.projected[b:, :b] @ rotation[:, kth]
    size = float(np.linalg.norm(residual))
    if size <= 10 * arrays.eps(operator) * abs(float(ritz.values[0])):
        return 0.0  # the direction of rounding error is meaningless
    image = arrays.from_host(residual / size, operator) @ ritz.blocks[-1].AX
    return min(float(ritz.singular_values[middle_index(ritz, b)]), arrays.norm(image))


def middle_index(ritz: RitzDecomposition, b: int) -> int:
    """Returns the index, from zero, half way from the width of the block to that of the span."""
    return (b + len(ritz.values)) // 2


def edge_below_ties(ritz: RitzDecomposition, k: int, b: int, bound: float) -> float:
    """Returns the end of the damped range: `bound`, or a value just below the k-th |eigenvalue|.

    The latter applies if the eigenvalues that are tied with the k-th in magnitude have both signs and are too
    many for the block. The span of two blocks resolves such a tie, but only if the damped range ends below
    the tied magnitudes.
    """
    m = middle_index(ritz, b)
    signed, wanted = ritz.values[: m + 1], abs(float(ritz.values[k - 1]))
    tied = np.abs(np.abs(signed) - wanted) <= TIE_TOLERANCE * wanted
    if len(signed) > m and tied[m] and np.ptp(np.sign(signed[tied])) > 0:
        return min(bound, (1 - TIE_TOLERANCE) * wanted)
    return bound
