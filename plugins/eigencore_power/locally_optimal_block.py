"""Locally optimal block iteration: the eigenpairs at one end of a spectrum, the largest or the smallest.

Rayleigh-Ritz over X, the residuals of X and the previous X determines the best momentum for each vector and
step: A. V. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001), algorithm
5.1, without a preconditioner. This differs from the paper in:

1. The span is kept orthonormal together with its products, and rotated in coordinates, so that no vector is
   multiplied twice. If snapshots are requested after convergence, the products are computed once again, since
   rounding errors have accumulated in them.
2. A converged pair is not multiplied until all others have converged, or until its residual is above the
   threshold again.
3. The block has one vector more than there are wanted pairs, the guard vector, so that a repeat of the last
   eigenvalue, or a value near it, is detected. The guard is multiplied while it could still outgrow the last
   wanted pair; the result is settled once it cannot.

    n, k, b    rows of A; wanted pairs; vectors of a block, k + 1 where n allows
    block      (b to 2 b, n), orthonormal: X, which are b Ritz vectors, and what the previous X add to them

Memory: five blocks besides a product; ten for a short time between two products.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request, precision_floor
from eigencore_power.blocks import (
    Block,
    fill_with_random,
    locally_optimal_update,
    multiply,
    orthonormalise,
    start_block,
)
from eigencore_power.converged import state_after
from eigencore_power.validation import check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

# The guard may still grow by this multiple of its residual. With a factor of 1, 39 of 1,500 near ties were
# decided wrongly; with 2, 6; with 3, none.
SAFETY = 3.0
# Steps that the guard, a random vector, must make before it counts as safe if a start block was given. All
# given vectors may be eigenvectors, and at first the guard's component along the eigenvector of a larger
# eigenvalue is only about 1 / sqrt(n).
GUARD_STEPS = 10
END_NAMES = {"LA": "upper", "SA": "lower"}


@dataclass(frozen=True)
class LocallyOptimalBlockState:
    """The span with its products, in units of `scale`.

    Attributes:
        block: the span: b Ritz vectors X, then the parts of the previous ones outside their span.
        scale: the power of two by which products are divided.
        leading: the request for the b Ritz vectors: k + 1 pairs of the requested end.
        norm: the largest norm of a unit vector's product so far, in units of the scale.
        guard_steps: steps that the guard must still make.
        step: steps so far.
        updates: updates since the products of the span were computed.
    """

    block: Block
    scale: float
    leading: Request
    norm: float
    guard_steps: int
    step: int = 0
    updates: int = 1


@dataclass(frozen=True)
class BlockEstimates:
    """The b Ritz pairs and how far they have converged.

    Attributes:
        values: the Ritz values (b,).
        residuals: ||A v - theta v|| of each pair.
        ratios: the residuals, each divided by its threshold.
        norm: the best known lower bound of ||A||.
        guard_safe: whether the guard has converged, or cannot outgrow the last wanted pair.
    """

    values: Floats
    residuals: Floats
    ratios: Floats
    norm: float
    guard_safe: bool

    def converged(self, k: int) -> bool:
        return self.guard_safe and bool(np.all(self.ratios[:k] <= 1))


def locally_optimal_block(
    operator: LinearOperator, request: Request, *, state: LocallyOptimalBlockState | None = None
) -> Generator[Snapshot, None, None]:
    """`accel_power` for LA and SA: see `eigencore.interfaces.Solver`. One Snapshot for every block product.

    The first k columns of a start block are used; random vectors complete the block.

    Raises:
        UsageError: the state comes from another solver or operator.
    """
    leading = Request(min(request.k + 1, operator.shape[0]), request.which)
    if state is not None:
        check_state(operator, state, LocallyOptimalBlockState)
    if state is not None and state.leading == leading:
        state = advance(operator, request, state, estimate_pairs(operator, request, state))
    else:
        state = begin(operator, request, leading, state)
    while True:
        estimates = estimate_pairs(operator, request, state)
        yield snapshot(request, state, estimates)
        if state.block.width == operator.shape[0]:
            return
        state = advance(operator, request, state, estimates)


def begin(
    operator: LinearOperator, request: Request, leading: Request, state: LocallyOptimalBlockState | None
) -> LocallyOptimalBlockState:
    """Returns the first state, from the start block, or from a state for another k or another end."""
    given = request.start if state is None else state.block.X[: state.leading.k, :].T
    if given is not None and given.ndim == 2:
        given = given[:, : request.k]
    rng = np.random.default_rng(request.seed)
    block, scale = multiply(operator, start_block(operator, given, leading.k, rng))
    return LocallyOptimalBlockState(
        locally_optimal_update(operator, (block,), leading),
        scale,
        leading,
        longest_product(operator, block),
        guard_steps=0 if given is None else GUARD_STEPS,
    )


def advance(
    operator: LinearOperator, request: Request, state: LocallyOptimalBlockState, estimates: BlockEstimates
) -> LocallyOptimalBlockState:
    """Makes one more block product; none if the span is the whole space."""
    span, scale = state.block, state.scale
    if span.width == operator.shape[0]:
        return state
    if estimates.converged(request.k) and state.updates:
        return replace(state, block=multiply(operator, span.X, scale)[0], updates=0)
    fresh, _ = multiply(operator, search_directions(operator, request, state, estimates), scale)
    return LocallyOptimalBlockState(
        locally_optimal_update(operator, (span, fresh), state.leading),
        scale,
        state.leading,
        max(state.norm, longest_product(operator, fresh)),
        state.guard_steps - 1,
        state.step + 1,
        state.updates + 1,
    )


def longest_product(operator: LinearOperator, block: Block) -> float:
    """Returns the largest norm of the products of a block."""
    return float(np.max(arrays.to_host(operator.xp.linalg.vector_norm(block.AX, axis=1))))


def estimate_pairs(
    operator: LinearOperator, request: Request, state: LocallyOptimalBlockState
) -> BlockEstimates:
    """Computes the Ritz values and residuals of the first b rows of the span."""
    k, b = request.k, state.leading.k
    X, AX = state.block.X[:b, :], state.block.AX[:b, :]
    values = arrays.to_host(operator.xp.sum(X * AX, axis=1))
    values = values[state.leading.order(values)]  # rounding may have swapped repeated values
    R = AX - arrays.from_host(values[:, None], operator) * X
    residuals = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
    norm = max(state.norm, float(np.max(np.abs(values))))
    thresholds = request.thresholds(values, precision_floor(arrays.eps(operator), norm))
    # A threshold of zero belongs to a zero operator, whose residuals are zero.
    ratios = residuals / np.where(thresholds > 0, thresholds, 1.0)
    guard_safe = b == k or ratios[k] <= 1
    if not guard_safe and state.guard_steps <= 0:
        guard_safe = SAFETY * residuals[k] <= abs(values[k - 1] - values[k])
    return BlockEstimates(values, residuals, ratios, norm, bool(guard_safe))


def search_directions(
    operator: LinearOperator, request: Request, state: LocallyOptimalBlockState, estimates: BlockEstimates
) -> Array:
    """Returns the residuals to multiply, orthonormal and orthogonal to the span.

    If all residuals are rounding error, it returns one random direction.
    """
    span, room = state.block, operator.shape[0] - state.block.width
    W = span.X[:0, :]
    if indices := pairs_to_improve(request.k, estimates, arrays.eps(operator)):
        # Residuals have unit length before they are combined: otherwise a small one would count as dependent
        # on the large ones.
        R = [span.AX[i, :] - float(estimates.values[i]) * span.X[i, :] for i in indices]
        W = operator.xp.stack([r / float(estimates.residuals[i]) for i, r in zip(indices, R, strict=True)])
        for _ in range(2):
            W, _ = orthonormalise(operator, W - (W @ span.X.T) @ span.X)
    if W.shape[0] == 0:
        rng = np.random.default_rng([request.seed, state.step])
        return fill_with_random(operator, span.X, span.width + 1, rng)[span.width :, :]
    return W[: min(W.shape[0], room), :]


def pairs_to_improve(k: int, estimates: BlockEstimates, eps: float) -> list[int]:
    """Returns the indices of the unconverged Ritz pairs, or of all pairs if all have converged.

    Pairs whose residual is rounding error are left out.
    """
    chosen = estimates.ratios > 1
    chosen[k:] = not estimates.guard_safe
    if not np.any(chosen):
        chosen[:] = True
    return [int(i) for i in np.flatnonzero(chosen & (estimates.residuals > eps * estimates.norm))]


def snapshot(request: Request, state: LocallyOptimalBlockState, estimates: BlockEstimates) -> Snapshot:
    """Returns the wanted pairs as a Snapshot, in the operator's own units."""
    X, k, scale = state.block.X, request.k, state.scale
    done = bool(np.all(estimates.ratios[:k] <= 1))
    return Snapshot(
        values=estimates.values[:k] * scale,
        residuals=estimates.residuals[:k] * scale,
        vectors=lambda: X[:k, :].T,
        norm=estimates.norm * scale,
        notes=(
            f"momentum auto: locally optimal at the {END_NAMES[request.which]} end, over each vector, its "
            "residual and the previous vector",
            f"memory: this solver holds {5 * state.leading.k} vectors; `lanczos` needs up to 6 times fewer "
            "products",
        ),
        state=lambda vectors: state_after(state, vectors, done),
    )
