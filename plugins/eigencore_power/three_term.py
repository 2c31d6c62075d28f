"""The locally optimal step for a block: the eigenpairs at one end of a spectrum, the largest or the smallest.

Rayleigh-Ritz over X, the residuals of X and the X before finds the momentum that is best for each vector and
step: A. V. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001), algorithm
5.1, without a preconditioner. This differs from the paper in:

1. The span is kept orthonormal with its products, and turned in coordinates, so that no vector is multiplied
   twice; but when more is asked for than the tolerance, what rounding has cost the products is made good.
2. A pair that passes waits until all others do, or until it no longer passes.
3. The block has a vector more than pairs are wanted, the guard, so that a copy or a near tie of the last is
   seen. It is multiplied as long as it could outgrow the last, and only then is the answer settled.

    n, k, b    rows of A; wanted pairs; vectors of a block, k + 1 where n allows
    kept       (b to 2 b, n), orthonormal: X, which are b Ritz vectors, and what the X before add

Memory: five blocks beside a product; ten for a moment between two.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.request import Request, precision_floor
from eigencore_power.blocks import Block, complete, multiply, orthonormalise, start_block, turn
from eigencore_power.iteration import refuse_foreign

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

# Times its residual, the guard may still grow: once was wrong in 39 of 1,500 near ties, twice in 6, three
# times in none.
SAFETY = 3.0
# Steps that the guard, a random vector, must go before it is safe where the others were given: those may all
# be eigenvectors, and of a larger one it has but 1 / sqrt(n) at first.
LOOK = 10
END = {"LA": "upper", "SA": "lower"}


@dataclass(frozen=True)
class ThreeTermState:
    """The kept span with its products, in units of `scale`.

    Attributes:
        lead: what the first rows of the kept are: b Ritz vectors of that end.
        norm: the longest product of a unit vector seen, in units of the scale.
        step: steps so far.
        turns: since the products of the kept were made.
        owed: steps that the guard must still go.
    """

    block: Block
    scale: float
    lead: Request
    norm: float
    owed: int
    step: int = 0
    turns: int = 1


@dataclass(frozen=True)
class View:
    """The b Ritz pairs.

    Attributes:
        excesses: the residuals, each over the one that passes.
        norm: the best that is known of ||A||, from below.
        safe: the guard passes, or can't outgrow the last of the wanted.
    """

    values: Floats
    residuals: Floats
    excesses: Floats
    norm: float
    safe: bool

    def complete(self, k: int) -> bool:
        return self.safe and bool(np.all(self.excesses[:k] <= 1))


def three_term(
    operator: LinearOperator, request: Request, *, state: ThreeTermState | None = None
) -> Generator[Snapshot, None, None]:
    """The solver for LA and SA: see `eigencore.interfaces.Solver`. A Snapshot for every block product.

    The first k columns of a start block are used; random ones fill it up.

    Raises:
        UsageError: the state is from another solver or operator.
    """
    lead = Request(min(request.k + 1, operator.shape[0]), request.which)
    if state is not None:
        refuse_foreign(operator, state, ThreeTermState)
    if state is not None and state.lead == lead:
        state = step(operator, request, state, look(operator, request, state))
    else:
        state = begin(operator, request, lead, state)
    while True:
        view = look(operator, request, state)
        yield tell(request, state, view)
        if state.block.width == operator.shape[0]:
            return
        state = step(operator, request, state, view)


def begin(
    operator: LinearOperator, request: Request, lead: Request, state: ThreeTermState | None
) -> ThreeTermState:
    """From the start vectors, or from those of a state for another number of pairs or another end."""
    given = request.start if state is None else state.block.X[: state.lead.k, :].T
    if given is not None and given.ndim == 2:
        given = given[:, : request.k]
    rng = np.random.default_rng(request.seed)
    block, scale = multiply(operator, start_block(operator, given, lead.k, rng))
    owed = 0 if given is None else LOOK
    return ThreeTermState(turn(operator, (block,), lead), scale, lead, longest(operator, block), owed)


def step(operator: LinearOperator, request: Request, state: ThreeTermState, view: View) -> ThreeTermState:
    """One block product more; none where the kept span is the whole space."""
    kept, scale = state.block, state.scale
    if kept.width == operator.shape[0]:
        return state
    if view.complete(request.k) and state.turns:
        return replace(state, block=multiply(operator, kept.X, scale)[0], turns=0)
    fresh, _ = multiply(operator, directions(operator, request, state, view), scale)
    return ThreeTermState(
        turn(operator, (kept, fresh), state.lead),
        scale,
        state.lead,
        max(state.norm, longest(operator, fresh)),
        state.owed - 1,
        state.step + 1,
        state.turns + 1,
    )


def longest(operator: LinearOperator, block: Block) -> float:
    """The longest product of a block."""
    return float(np.max(arrays.to_host(operator.xp.linalg.vector_norm(block.AX, axis=1))))


def look(operator: LinearOperator, request: Request, state: ThreeTermState) -> View:
    """What the leading rows of the kept show."""
    k, b = request.k, state.lead.k
    X, AX = state.block.X[:b, :], state.block.AX[:b, :]
    values = arrays.to_host(operator.xp.sum(X * AX, axis=1))
    values = values[state.lead.order(values)]  # rounding may have swapped copies
    R = AX - arrays.from_host(values[:, None], operator) * X
    residuals = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
    norm = max(state.norm, float(np.max(np.abs(values))))
    passing = request.thresholds(values, precision_floor(arrays.eps(operator), norm))
    # A zero threshold is that of a zero operator, whose residuals are zero.
    excesses = residuals / np.where(passing > 0, passing, 1.0)
    safe = b == k or excesses[k] <= 1
    if not safe and state.owed <= 0:
        safe = SAFETY * residuals[k] <= abs(values[k - 1] - values[k])
    return View(values, residuals, excesses, norm, bool(safe))


def directions(operator: LinearOperator, request: Request, state: ThreeTermState, view: View) -> Array:
    """The residuals still to be multiplied, orthonormal and to the kept; chance where all are rounding."""
    kept, room = state.block, operator.shape[0] - state.block.width
    W = kept.X[:0, :]
    if chosen := open_ones(request.k, view, arrays.eps(operator)):
        # Of unit length before they are put together, so that no small one counts as dependent on the large.
        R = [kept.AX[i, :] - float(view.values[i]) * kept.X[i, :] for i in chosen]
        W = operator.xp.stack([r / float(view.residuals[i]) for i, r in zip(chosen, R, strict=True)])
        for _ in range(2):
            W, _ = orthonormalise(operator, W - (W @ kept.X.T) @ kept.X)
    if W.shape[0] == 0:
        rng = np.random.default_rng([request.seed, state.step])
        return complete(operator, kept.X, kept.width + 1, rng)[kept.width :, :]
    return W[: min(W.shape[0], room), :]


def open_ones(k: int, view: View, eps: float) -> list[int]:
    """Indices of the Ritz pairs to go on with: those that don't pass, or else all; none that are rounding."""
    chosen = view.excesses > 1
    chosen[k:] = not view.safe
    if not np.any(chosen):
        chosen[:] = True
    return [int(i) for i in np.flatnonzero(chosen & (view.residuals > eps * view.norm))]


def tell(request: Request, state: ThreeTermState, view: View) -> Snapshot:
    """The wanted pairs, in the operator's own units."""
    X, k, scale = state.block.X, request.k, state.scale
    return Snapshot(
        values=view.values[:k] * scale,
        residuals=view.residuals[:k] * scale,
        vectors=lambda: X[:k, :].T,
        norm=view.norm * scale,
        settled=view.safe or X.shape[0] == X.shape[1],
        notes=(
            f"momentum auto: locally optimal at the {END[request.which]} end, over each vector, its residual "
            "and the one before",
            f"memory: {5 * state.lead.k} vectors are held here; `lanczos` needs up to 6 times fewer products",
        ),
        state=state,
    )
