"""Locally optimal iteration at both ends of a spectrum: the eigenpair of largest magnitude.

Rayleigh-Ritz over x, the previous x and the residual of x determines the best momentum for each step:
A. V. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001), algorithm 4.1,
without a preconditioner. Iterating one end alone returns -9.8 as the largest of 10 and -9.8 in half of all
runs, so both ends are iterated, in one common span. This differs from the paper in:

1. The span is kept orthonormal together with its products, and rotated in coordinates: no vector is
   multiplied twice.
2. Products go to the leading end, except one in OTHER_END_PERIOD, which goes to the other end. Once the
   leading end has converged, all products go to the other end until it cannot be the larger one.
3. The result is settled only when the residual is at most SETTLED_FRACTION of its threshold: with eigenvalues
   of 10 and 9.98, a residual just below the threshold may belong to either.

    block      (2 to 4, n), orthonormal: the Ritz vectors x of the upper and of the lower end, and what the
               previous ones add to their span

Memory: 9 vectors besides a product; 22 for a short time between two products.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore_power.blocks import Block, fill_with_random, locally_optimal_update, multiply, start_block
from eigencore_power.converged import state_after
from eigencore_power.validation import check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

BOTH_ENDS = Request(2, "BE")
OTHER_END_PERIOD = 8  # one product in this many goes to the end that does not lead
# The other end may still grow by this multiple of its residual. With a factor of 1, up to 4 of 500 runs were
# wrong.
SAFETY = 5.0
# The result is settled at this fraction of the threshold. With 1.0, 21 of 200 runs returned 9.98 as the
# largest of 10 and 9.98 at tol 1e-3.
SETTLED_FRACTION = 0.1


@dataclass(frozen=True)
class LocallyOptimalPairState:
    """The span with its products, in units of `scale`, and the number of products so far."""

    block: Block
    scale: float
    step: int = 1


@dataclass(frozen=True)
class EndEstimates:
    """The Ritz pairs of both ends, the upper end first; in the first step there is only one pair.

    Attributes:
        values: the Ritz values (1 or 2,).
        residuals: ||A x - theta x|| of each.
        ratios: the residuals, each divided by its threshold.
        residual_vectors: A x - theta x, one per row.
    """

    values: Floats
    residuals: Floats
    ratios: Floats
    residual_vectors: Array

    @property
    def leading(self) -> int:
        """The index of the end that is larger in magnitude."""
        return int(np.argmax(np.abs(self.values)))

    @property
    def other(self) -> int:
        return len(self.values) - 1 - self.leading

    @property
    def other_excluded(self) -> bool:
        """Whether the other end cannot be the larger in magnitude, or has converged."""
        bound = abs(self.values[self.other]) + SAFETY * self.residuals[self.other]
        smaller = bound <= abs(self.values[self.leading])
        return len(self.values) == 2 and bool(smaller or self.ratios[self.other] <= SETTLED_FRACTION)


def locally_optimal_pair(
    operator: LinearOperator, request: Request, *, state: LocallyOptimalPairState | None = None
) -> Generator[Snapshot, None, None]:
    """`accel_power` for k = 1 and LM: see `eigencore.interfaces.Solver`. One Snapshot a product.

    Raises:
        UsageError: the state comes from another solver or operator.
    """
    if state is not None:
        check_state(operator, state, LocallyOptimalPairState)
        state = advance(operator, request, state)
    else:
        rng = np.random.default_rng(request.seed)
        state = LocallyOptimalPairState(*multiply(operator, start_block(operator, request.start, 1, rng)))
    while True:
        yield snapshot(state, estimate_ends(operator, request, state.block))
        if state.block.width == operator.shape[0]:
            return
        state = advance(operator, request, state)


def advance(
    operator: LinearOperator, request: Request, state: LocallyOptimalPairState
) -> LocallyOptimalPairState:
    """Makes one more product; none if the span is the whole space."""
    if state.block.width == operator.shape[0]:
        return state
    w = search_direction(operator, request, state, estimate_ends(operator, request, state.block))
    fresh, _ = multiply(operator, w, state.scale)
    span = locally_optimal_update(operator, (state.block, fresh), BOTH_ENDS)
    return LocallyOptimalPairState(span, state.scale, state.step + 1)


def estimate_ends(operator: LinearOperator, request: Request, span: Block) -> EndEstimates:
    """Computes the Ritz values and residuals of the first two vectors of the span."""
    ends = min(2, span.width)
    X, AX = span.X[:ends, :], span.AX[:ends, :]
    values = arrays.to_host(operator.xp.sum(X * AX, axis=1))
    R = AX - arrays.from_host(values[:, None], operator) * X
    residuals = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
    rounding = 100 * arrays.eps(operator) * float(np.max(np.abs(values)))  # smaller residuals are not needed
    thresholds = request.thresholds(values, rounding / SETTLED_FRACTION)
    return EndEstimates(values, residuals, residuals / np.where(thresholds > 0, thresholds, 1.0), R)


def search_direction(
    operator: LinearOperator, request: Request, state: LocallyOptimalPairState, ends: EndEstimates
) -> Array:
    """Returns the residual of the end whose turn it is, (1, n), of unit length and orthogonal to the span.

    If that residual is rounding error, it returns a random direction.
    """
    converged = ends.ratios[ends.leading] <= SETTLED_FRACTION
    to_other = (converged and not ends.other_excluded) or state.step % OTHER_END_PERIOD == 0
    end = ends.other if to_other else ends.leading
    rng = np.random.default_rng([request.seed, state.step])
    span, w = state.block.X, ends.residual_vectors[end : end + 1, :]
    for _ in range(2):
        size = arrays.norm(w[0, :])
        if size <= arrays.eps(operator) * float(np.max(np.abs(ends.values))):
            return fill_with_random(operator, span, span.shape[0] + 1, rng)[-1:, :]
        w = w / size
        w = w - (w @ span.T) @ span
    return w / arrays.norm(w[0, :])


def snapshot(state: LocallyOptimalPairState, ends: EndEstimates) -> Snapshot:
    """Returns the leading pair as a Snapshot, in the operator's own units."""
    leading, X = ends.leading, state.block.X
    done = bool(ends.ratios[leading] <= 1)  # now: the state must not keep the residual vectors of `ends`
    return Snapshot(
        values=ends.values[leading : leading + 1] * state.scale,
        residuals=ends.residuals[leading : leading + 1] * state.scale,
        vectors=lambda: X[leading : leading + 1, :].T,
        norm=float(np.max(np.abs(ends.values))) * state.scale,
        notes=momentum_notes(ends, state.scale),
        state=lambda vectors: state_after(state, vectors, done),
    )


def momentum_notes(ends: EndEstimates, scale: float) -> tuple[str, ...]:
    """Returns the notes of a Snapshot: the momentum in use, and the memory with its cost in products."""
    values = " and ".join(f"{value * scale:.4g}" for value in ends.values)
    return (
        f"momentum auto: locally optimal at both ends, with Ritz values {values}",
        "memory: this solver holds 9 vectors; `lanczos` needs up to 3 times fewer products",
    )
