"""The locally optimal step at both ends of a spectrum: the eigenpair largest in magnitude.

Rayleigh-Ritz over x, the x before and the residual of x finds the momentum that is best for each step:
A. V. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001), algorithm 4.1,
without a preconditioner. At one end alone it takes -9.8 for the largest of 10 and -9.8 in half of all runs,
so both ends are followed, in one common span. This differs from the paper in:

1. The span is kept orthonormal with its products, and turned in coordinates: no vector is multiplied twice.
2. Products go to the end that leads, but one of TURN, and all once the leader has passed, to the other,
   until it can't be the larger.
3. It is settled only when the residual is SHARP of what passes, since between 10 and 9.98 one that
   passes belongs to either.

    kept       (2 to 4, n), orthonormal: the Ritz vectors x of the upper and of the lower end, and what
               those before them add

Memory: 9 vectors beside a product; 22 for a moment between two.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore_power.blocks import Block, complete, multiply, start_block, turn
from eigencore_power.iteration import refuse_foreign

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

BOTH = Request(2, "BE")
TURN = 8  # a product in so many goes to the end that doesn't lead
SAFETY = 5.0  # times its residual, the other end may still grow; once was wrong in up to 4 of 500 runs
SHARP = 0.1  # of what passes; at 1.0, 21 of 200 runs took 9.98 for the largest of 10 and 9.98 at tol 1e-3


@dataclass(frozen=True)
class EndsState:
    """The kept span with its products, in units of `scale`, and the products so far."""

    block: Block
    scale: float
    step: int = 1


@dataclass(frozen=True)
class Ends:
    """Ritz values, upper end first, their residuals over what passes and as they are; and who leads."""

    values: Floats
    residuals: Floats
    excesses: Floats
    rest: Array

    @property
    def lead(self) -> int:
        return int(np.argmax(np.abs(self.values)))

    @property
    def other(self) -> int:
        return len(self.values) - 1 - self.lead

    @property
    def safe(self) -> bool:
        """Whether the other end can't be the larger in magnitude, or has converged."""
        reach = abs(self.values[self.other]) + SAFETY * self.residuals[self.other]
        apart = reach <= abs(self.values[self.lead])
        return len(self.values) == 2 and bool(apart or self.excesses[self.other] <= SHARP)


def two_ended(
    operator: LinearOperator, request: Request, *, state: EndsState | None = None
) -> Generator[Snapshot, None, None]:
    """The solver for k = 1 and LM: see `eigencore.interfaces.Solver`. One Snapshot a product.

    Raises:
        UsageError: the state is from another solver or operator.
    """
    if state is not None:
        refuse_foreign(operator, state, EndsState)
        state = step(operator, request, state)
    else:
        rng = np.random.default_rng(request.seed)
        state = EndsState(*multiply(operator, start_block(operator, request.start, 1, rng)))
    while True:
        yield tell(request, state, both_ends(operator, request, state.block))
        if state.block.width == operator.shape[0]:
            return
        state = step(operator, request, state)


def step(operator: LinearOperator, request: Request, state: EndsState) -> EndsState:
    """One product more; none where the kept span is the whole space."""
    if state.block.width == operator.shape[0]:
        return state
    w = direction(operator, request, state, both_ends(operator, request, state.block))
    fresh, _ = multiply(operator, w, state.scale)
    return EndsState(turn(operator, (state.block, fresh), BOTH), state.scale, state.step + 1)


def both_ends(operator: LinearOperator, request: Request, kept: Block) -> Ends:
    """What the first two of the kept show; at the start there is but one."""
    ends = min(2, kept.width)
    X, AX = kept.X[:ends, :], kept.AX[:ends, :]
    values = arrays.to_host(operator.xp.sum(X * AX, axis=1))
    R = AX - arrays.from_host(values[:, None], operator) * X
    residuals = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
    rounding = 100 * arrays.eps(operator) * float(np.max(np.abs(values)))  # nothing sharper is waited for
    passing = request.thresholds(values, rounding / SHARP)
    return Ends(values, residuals, residuals / np.where(passing > 0, passing, 1.0), R)


def direction(operator: LinearOperator, request: Request, state: EndsState, ends: Ends) -> Array:
    """The residual whose turn it is, (1, n) and orthonormal to the kept; by chance where it is rounding."""
    passed = ends.excesses[ends.lead] <= SHARP
    who = ends.other if (passed and not ends.safe) or state.step % TURN == 0 else ends.lead
    rng = np.random.default_rng([request.seed, state.step])
    kept, w = state.block.X, ends.rest[who : who + 1, :]
    for _ in range(2):
        size = arrays.norm(w[0, :])
        if size <= arrays.eps(operator) * float(np.max(np.abs(ends.values))):
            return complete(operator, kept, kept.shape[0] + 1, rng)[-1:, :]
        w = w / size
        w = w - (w @ kept.T) @ kept
    return w / arrays.norm(w[0, :])


def tell(request: Request, state: EndsState, ends: Ends) -> Snapshot:
    """The leader, in the operator's own units."""
    lead, X = ends.lead, state.block.X
    return Snapshot(
        values=ends.values[lead : lead + 1] * state.scale,
        residuals=ends.residuals[lead : lead + 1] * state.scale,
        vectors=lambda: X[lead : lead + 1, :].T,
        norm=float(np.max(np.abs(ends.values))) * state.scale,
        settled=X.shape[0] == X.shape[1] or (ends.safe and bool(ends.excesses[lead] <= SHARP)),
        notes=rule_in_use(ends, state.scale),
        state=state,
    )


def rule_in_use(ends: Ends, scale: float) -> tuple[str, ...]:
    values = " and ".join(f"{value * scale:.4g}" for value in ends.values)
    return (
        f"momentum auto: locally optimal at both ends, {values}",
        "memory: 9 vectors are held here; `lanczos` needs up to 3 times fewer products",
    )
