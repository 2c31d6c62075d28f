"""Subspace iteration with momentum: one block product a step, and what two blocks in a row show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import Snapshot
from eigencore.request import Request, precision_floor
from eigencore_power.blocks import (
    Block,
    Ritz,
    beyond,
    combine,
    complete,
    multiply,
    orthonormalise,
    rayleigh_ritz,
)

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class Iterate:
    """A block with its products, in units of `scale`, and the block before it.

    Attributes:
        before: (b, n) orthonormal, or None at the start.
        T: (b, b); T @ before is that block as it enters the recurrence, normalised like this one.
    """

    block: Block
    scale: float
    before: Array | None
    T: Floats


def begin(operator: LinearOperator, X: Array) -> Iterate:
    """From orthonormal X, whose predecessor is zero."""
    block, scale = multiply(operator, X)
    return Iterate(block, scale, None, np.zeros((block.width, block.width)))


def advance(operator: LinearOperator, at: Iterate, beta: float, rng: np.random.Generator) -> Iterate:
    """W = A X - beta X_before, then X = T W orthonormal; both blocks are normalised by the same T.

    beta is in units of scale^2. Where W has lost rank, random vectors without a past take its place.
    """
    X, T = _step(operator, at, beta)
    b = at.block.width
    T = np.pad(T, ((0, b - len(T)), (0, 0)))
    block, scale = multiply(operator, complete(operator, X, b, rng), at.scale)
    return Iterate(block, scale, at.block.X, T)


def _step(operator: LinearOperator, at: Iterate, beta: float) -> tuple[Array, Floats]:
    W = at.block.AX
    if beta and at.before is not None:
        W = W - arrays.from_host(beta * at.T, operator) @ at.before
    return orthonormalise(operator, W)


def ritz_pairs(operator: LinearOperator, block: Block, previous: Block | None, count: int) -> Ritz:
    """Rayleigh-Ritz over a block and the one before it, whose products are both known.

    The span of x and A x holds both eigenvectors of a tie, l and -l, between which x itself never settles.
    """
    if previous is None:
        return rayleigh_ritz(operator, (block,), count)
    return rayleigh_ritz(operator, (block, beyond(operator, (block,), previous)), count)


def refuse_other_ends(request: Request, solver: str, ends: tuple[str, ...]) -> None:
    """Raises UsageError where none of the ends is asked for."""
    if request.which not in ends:
        raise UsageError(
            f"{solver} finds {', '.join(ends)} only; which is {request.which}",
            hint="Use the solver lanczos, or arpack.",
        )


def refuse_foreign(operator: LinearOperator, state: Any, kind: type[Any]) -> None:
    """Raises UsageError where a state is not of that kind, or of vectors of another length or data type."""
    if not isinstance(state, kind):
        raise UsageError(f"the state is a {type(state).__name__}; expected a {kind.__name__}")
    X: Array = state.block.X
    if X.shape[1] != operator.shape[0] or X.dtype != operator.dtype:
        raise UsageError("this state comes from an operator of another size or data type")


# -- what is told ------------------------------------------------------------------------------------------


def snapshot(
    operator: LinearOperator,
    request: Request,
    ritz: Ritz,
    scale: float,
    *,
    count: int,
    notes: tuple[str, ...],
    state: object,
) -> Snapshot:
    """The first `count` pairs, in the operator's own units."""
    bases, rotation = [block.X for block in ritz.blocks], ritz.rotation[:count, :]
    return Snapshot(
        values=ritz.values[:count] * scale,
        residuals=ritz.residuals[:count] * scale,
        vectors=lambda: combine(operator, bases, rotation).T,
        norm=abs(float(ritz.values[0])) * scale,
        settled=nothing_larger(operator, request, ritz, count),
        notes=notes,
        state=state,
    )


def excesses(operator: LinearOperator, request: Request, ritz: Ritz) -> Floats:
    """The known residuals, each over the one that passes: a pair has converged at 1."""
    floor = precision_floor(arrays.eps(operator), abs(float(ritz.values[0])))
    thresholds = request.thresholds(ritz.values[: len(ritz.residuals)], floor)
    # A zero threshold is that of a zero operator, whose residuals are zero.
    return ritz.residuals / np.where(thresholds > 0, thresholds, 1.0)


def nothing_larger(operator: LinearOperator, request: Request, ritz: Ritz, count: int) -> bool:
    """Whether the pair after the first `count` can't outgrow them: |theta| + ||r|| is not above theirs.

    Without this, 9.8 was taken for the largest of 10 and 9.8 in one of seven runs at tol 1e-2.
    """
    if len(ritz.residuals) <= count:
        return True
    last, following = np.abs(ritz.values[count - 1 : count + 1])
    bound = following + ritz.residuals[count]
    return bool(excesses(operator, request, ritz)[count] <= 1 or bound <= last * (1 + request.tol))
