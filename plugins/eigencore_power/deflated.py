"""Power iteration with deflation: the eigenpairs largest in magnitude of a symmetric operator, plainly.

In a block (the default) all k come at once: subspace iteration, k products a step. One after the other, each
is iterated in the orthogonal complement of those found. B. N. Parlett, The Symmetric Eigenvalue Problem
(SIAM, 1998), chapters 4, 5 and 14. This differs from the textbook in:

1. Ritz pairs are read off the last two vectors of an iteration together, whose products are known: between l
   and -l a single one would alternate for ever.
2. It stops on residuals of A itself, not of a projected A: Rayleigh-Ritz over those found and the one sought
   also mends the couplings between them that projecting leaves, and costs no product.
3. The next one sought starts from chance, although the last two vectors have shown the most of one already:
   beside that a copy of one found is too faint to be noticed before the other passes.

Memory: five blocks of k vectors; one after the other up to four, and a few vectors.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore.options import option
from eigencore_power.blocks import (
    Block,
    Ritz,
    beyond,
    complete,
    multiply,
    orthonormalise,
    rayleigh_ritz,
    ritz_block,
    start_block,
)
from eigencore_power.iteration import (
    Iterate,
    advance,
    begin,
    excesses,
    nothing_larger,
    refuse_foreign,
    refuse_other_ends,
    ritz_pairs,
    snapshot,
)

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array

SLOW = 500  # further products from which on it is said that another solver needs far fewer
STEPS = 20  # over which a rate is measured


@dataclass(frozen=True)
class DeflatedPowerOptions:
    block: bool = option(
        True,
        help="all k at once; otherwise one after the other, in the complement of those found",
        when="turn it off to have the first pairs early, where the wanted lie far apart",
    )


@dataclass(frozen=True)
class Deflation:
    """Those found, orthonormal, and the latest vector of the one sought; products in units of `scale`."""

    found: Block
    block: Block
    scale: float


def deflated_power(
    operator: LinearOperator,
    request: Request,
    options: DeflatedPowerOptions,
    *,
    state: Iterate | Deflation | None = None,
) -> Generator[Snapshot, None, None]:
    """The solver: see `eigencore.interfaces.Solver`. One Snapshot for every k products, or for every one.

    The first k columns of a start block are used, each for one pair where they come one after the other.

    Raises:
        UsageError: another end than LM is asked for, or the state is from another solver, operator or
            setting of `block`.
    """
    refuse_other_ends(request, "deflated_power", ("LM",))
    if state is not None:
        refuse_foreign(operator, state, Iterate if options.block else Deflation)
    return (_at_once if options.block else _one_by_one)(operator, request, state)


def _at_once(operator: LinearOperator, request: Request, state: Any) -> Generator[Snapshot, None, None]:
    rng, k = np.random.default_rng(request.seed), request.k
    if state is not None and state.block.width == k:
        previous, at = state.block, advance(operator, state, 0.0, rng)
    else:
        given = request.start if state is None else state.block.X.T
        previous, at = None, begin(operator, start_block(operator, given, k, rng))
    excess: list[float] = []
    while True:
        ritz = ritz_pairs(operator, at.block, previous, k + 1)
        excess.append(float(np.max(excesses(operator, request, ritz)[:k])))
        yield snapshot(operator, request, ritz, at.scale, count=k, notes=slowness(excess, k), state=at)
        previous = at.block
        del ritz  # two blocks that need not be held beside the next product
        at = advance(operator, at, 0.0, rng)


def _one_by_one(operator: LinearOperator, request: Request, state: Any) -> Generator[Snapshot, None, None]:
    k, previous = request.k, None if state is None else state.block
    rng = _chance(request, 0 if state is None else state.found.width)
    if state is None:
        nothing = arrays.zeros((0, operator.shape[0]), operator)
        found = Block(nothing, nothing)
        latest, scale = multiply(operator, start_block(operator, request.start, 1, rng))
    else:
        found, scale = state.found, state.scale
        latest, _ = multiply(operator, outside(operator, found, state.block.AX, rng), scale)
    excess: list[float] = []
    while True:
        sought = (latest,) if previous is None else (latest, beyond(operator, (found, latest), previous))
        m = found.width + 1
        ritz = rayleigh_ritz(operator, (found, *sought), m + 1)
        open_by = excesses(operator, request, ritz)[:m]
        excess.append(float(np.max(open_by)))
        left = Deflation(found, latest, scale)
        yield snapshot(operator, request, ritz, scale, count=min(m, k), notes=slowness(excess, 1), state=left)

        done = excess[-1] <= 1 and nothing_larger(operator, request, ritz, m)
        if not done and not stalled(operator, ritz, m, excess):
            previous, x = latest, outside(operator, found, latest.AX, rng)
        elif m < k:
            excess = []
            found, previous, rng = ritz_block(operator, ritz, slice(m)), None, _chance(request, m)
            x = next_start(operator, request, found, rng)
        else:  # all are found and more is asked for: on with the worst
            excess = []
            worst = int(np.argmax(open_by))
            found = ritz_block(operator, ritz, [i for i in range(m) if i != worst])
            previous = ritz_block(operator, ritz, [worst])
            x = outside(operator, found, previous.AX, rng)
        latest, _ = multiply(operator, x, scale)


def _chance(request: Request, found: int) -> np.random.Generator:
    """Random numbers of their own for each one sought, so that going on from a state changes none."""
    return np.random.default_rng([request.seed, found])


def next_start(operator: LinearOperator, request: Request, found: Block, rng: np.random.Generator) -> Array:
    """The start block's next column, or chance."""
    m, start = found.width, request.start
    column = start[:, m : m + 1] if start is not None and start.ndim == 2 and start.shape[1] > m else None
    return outside(operator, found, start_block(operator, column, 1, rng), rng)


def outside(operator: LinearOperator, found: Block, x: Array, rng: np.random.Generator) -> Array:
    """x (1, n) in the complement of those found, of unit length; a random one where nothing is left."""
    for _ in range(2):
        x = x - (x @ found.X.T) @ found.X
    x, _ = orthonormalise(operator, x, least=0.0)
    return x if x.shape[0] else complete(operator, found.X, found.width + 1, rng)[found.width :, :]


def stalled(operator: LinearOperator, ritz: Ritz, m: int, excess: list[float]) -> bool:
    """Whether the worst of m residuals has not halved for long: 20 products near their rounding, else 500.

    The next one is sought then, so that one that can't be had does not keep all others out.
    """
    rounding = 100 * arrays.eps(operator) * abs(float(ritz.values[0]))
    patience = STEPS if float(np.max(ritz.residuals[:m])) <= rounding else SLOW
    return len(excess) > patience and 2 * min(excess[-patience:]) > min(excess[:-patience])


def slowness(excess: list[float], cost: int) -> tuple[str, ...]:
    """What to tell of the rate at which the worst residual, over the one that passes, has fallen of late."""
    if len(excess) <= STEPS or excess[-1] <= 1:
        return ()
    rate = (excess[-1] / excess[-1 - STEPS]) ** (1 / STEPS)
    ahead = cost * math.log(excess[-1]) / -math.log(rate) if rate < 1 else math.inf
    if ahead <= SLOW:
        return ()
    many = f"about {ahead:.0f} further products" if math.isfinite(ahead) else "no end to the products"
    return (f"slow: at the rate of the last {STEPS} steps {many}; `lanczos` needs far fewer",)
