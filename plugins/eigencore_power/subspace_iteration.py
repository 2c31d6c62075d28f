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
    combine,
    fill_with_random,
    inverse_factor,
    multiply,
    outside,
    qr,
    require_finite,
    start_block,
)
from eigencore_power.converged import state_after, threshold_ratios
from eigencore_power.rayleigh_ritz import RitzDecomposition, rayleigh_ritz, ritz_block

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
        kept: (r, b), orthonormal rows; kept @ X is what the last step has not lost in rank. None: all of X.
    """

    block: Block
    scale: float
    before: Array | None
    T: Floats
    step: int = 0
    kept: Floats | None = None


def start(operator: LinearOperator, request: Request, given: Array | None) -> Iterate:
    """Returns the iterate of k vectors, with zero as the previous block: b = k products.

    The first columns of `given` are used; random vectors complete the block.
    """
    X = start_block(operator, given, request.k, arrays.generator(request.seed, "power start"))
    return at_rest(*multiply(operator, X))


def at_rest(block: Block, scale: float, step: int = 0) -> Iterate:
    """Returns the iterate of a block with its products, with zero as the previous block."""
    return Iterate(block, scale, None, np.zeros((block.width, block.width)), step)


@dataclass(frozen=True)
class PowerStep:
    """A new block with its products, before the rank of the step is known.

    Attributes:
        block: the new block X.
        last: the iterate that the step began from.
        factor: R (r, r) on the device, with W = R' X for the first r rows of X.
    """

    block: Block
    last: Iterate
    factor: Array

    def iterate(self, operator: LinearOperator, factor: Floats) -> Iterate:
        """Returns the new iterate.

        Rows of X that W does not determine, because it has lost in rank, are arbitrary. They are replaced by
        random vectors in the next step, so that the decision takes no transfer of its own.

        Args:
            operator: defines the precision.
            factor: R on the host.
        """
        last, b, r = self.last, self.block.width, len(factor)
        U, T = inverse_factor(factor, 10 * arrays.eps(operator))
        T = np.pad(U.T @ T @ (np.eye(b) if last.kept is None else last.kept), ((0, b - r), (0, 0)))
        if len(U) == r:
            return Iterate(self.block, last.scale, last.block.X, T, last.step + 1)
        kept = np.block([[U, np.zeros((len(U), b - r))], [np.zeros((b - r, r)), np.eye(b - r)]])
        return Iterate(self.block, last.scale, last.block.X, T, last.step + 1, kept)


def advance(operator: LinearOperator, at: Iterate, beta: float, seed: int) -> PowerStep:
    """Makes one step: W = A X - beta X_before, then X = T W orthonormal; T normalises both blocks.

    Args:
        operator: A.
        at: the current iterate.
        beta: the momentum, in units of scale^2.
        seed: that of the random vectors, with no momentum term, in place of those that W has lost in rank.
    """
    X, factor = _next_block(operator, at, beta)
    rng = arrays.generator(seed, "power step", at.step + 1)
    X = fill_with_random(operator, X, at.block.width, rng)
    return PowerStep(multiply(operator, X, at.scale)[0], at, factor)


def _next_block(operator: LinearOperator, at: Iterate, beta: float) -> tuple[Array, Array]:
    W, T = at.block.AX, at.T
    if at.kept is not None:
        W, T = arrays.from_host(at.kept, operator) @ W, at.kept @ T
    if beta and at.before is not None:
        W = W - arrays.from_host(beta * T, operator) @ at.before
    return qr(operator, W) if W.shape[0] else (W, W[:, :0])


def checked(operator: LinearOperator, step: PowerStep) -> Iterate:
    """Returns the iterate of a step whose Ritz pairs are not needed.

    Raises:
        NotFiniteError: a product is not finite.
    """
    factor, size = arrays.to_host_at_once(step.factor, arrays.quick_norm(step.block.AX))
    require_finite(arrays.safe_norm(float(size), step.block.AX))
    return step.iterate(operator, factor)


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
    joint, _ = rayleigh_ritz(operator, (known, fresh))
    largest = ritz_block(operator, joint, slice(b))
    return at_rest(largest, at.scale, at.step + 1), ritz_block(operator, joint, slice(b, None))


# -- Ritz pairs --------------------------------------------------------------------------------------------


def ritz_pairs(
    operator: LinearOperator, at: PowerStep | Iterate, previous: Block | None
) -> tuple[Iterate, RitzDecomposition]:
    """Applies Rayleigh-Ritz to a block and the previous one, whose products are both known.

    The span of x and A x contains both eigenvectors of a tie of l and -l, between which x itself alternates.

    Returns:
        The iterate, and the Ritz pairs.

    Raises:
        NotFiniteError: a product is not finite.
    """
    also = (at.factor,) if isinstance(at, PowerStep) else ()
    ritz, factors = rayleigh_ritz(operator, (at.block,), previous, also)
    return at.iterate(operator, *factors) if isinstance(at, PowerStep) else at, ritz


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
    bases, rotation = ritz.bases, ritz.rotation[:count, :]
    return Snapshot(
        values=ritz.values[:count] * scale,
        residuals=ritz.residuals[:count] * scale,
        vectors=lambda: combine(operator, bases, rotation).T,
        norm=abs(float(ritz.values[0])) * scale,
        notes=notes,
        state=lambda vectors: state_after(state, vectors, done),
    )


def residual_ratios(operator: LinearOperator, request: Request, ritz: RitzDecomposition) -> Floats:
    """Returns the residuals, each divided by its threshold; a pair has converged at 1 or less."""
    return threshold_ratios(operator, request, ritz.values, ritz.residuals, abs(float(ritz.values[0])))
