"""Power iteration with deflation: the eigenpairs of largest magnitude of a symmetric operator.

By default, all k pairs are iterated as one block: subspace iteration, k products a step. Otherwise they are
found one at a time, each in the orthogonal complement of those found before. B. N. Parlett, The Symmetric
Eigenvalue Problem (SIAM, 1998), chapters 4, 5 and 14. This differs from the textbook in:

1. Ritz pairs are computed from the span of the last two iterates, whose products are known: between l and -l,
   a single iterate would alternate indefinitely.
2. It stops on residuals of A itself, not of a projected A. Rayleigh-Ritz over the found vectors and the
   current one also removes the couplings between them that projection leaves, and costs no product.
3. The search for the next pair starts from a random vector, although the last two iterates already have a
   large component along another eigenvector. If the search started from these, a further eigenvector of a
   found eigenvalue would have too small a component to be noticed before that other pair has converged.
4. If the core finds missed directions after all pairs, they take the place of the weakest pairs.

Memory: five blocks of k vectors; one pair at a time, up to four blocks and a few vectors.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore_power.blocks import Block, fill_with_random, multiply, qr, start_block
from eigencore_power.converged import ConvergedState, begin_from
from eigencore_power.options import DeflatedPowerOptions
from eigencore_power.rayleigh_ritz import RitzDecomposition, rayleigh_ritz, ritz_block
from eigencore_power.subspace_iteration import (
    Iterate,
    PowerStep,
    advance,
    residual_ratios,
    ritz_pairs,
    snapshot,
    start,
    with_missed,
)
from eigencore_power.validation import check_end, check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array

SLOW_PRODUCTS = 500  # if more products are needed, a note says that `lanczos` needs far fewer
RATE_STEPS = 20  # the steps over which a rate of convergence is measured


@dataclass(frozen=True)
class DeflationState:
    """The found vectors and the latest iterate of the next vector.

    Attributes:
        found: the found vectors, orthonormal, with their products in units of `scale`.
        block: the latest iterate, a block of one vector.
        scale: the power of two by which products are divided.
    """

    found: Block
    block: Block
    scale: float


def vectors_held(options: DeflatedPowerOptions, k: int, n: int) -> int:
    """Returns the most vectors in memory: ten blocks between two products; one pair at a time, four."""
    return 10 * k + 3 if options.block else 4 * k + 6


def deflated_power(
    operator: LinearOperator,
    request: Request,
    options: DeflatedPowerOptions,
    *,
    state: Iterate | DeflationState | ConvergedState | None = None,
) -> Generator[Snapshot, Array | None, None]:
    """Power iteration with deflation as a solver: see `eigencore.interfaces.Solver`.

    It yields one Snapshot for every k products, or for every product if pairs are found one at a time. The
    first k columns of a start block are used; if pairs are found one at a time, each starts from one column.

    Raises:
        UsageError: an end other than LM is requested, or the state comes from another setting of `block`.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag([9.0, -5.0, 3.0, 1.0]), 2, solver="deflated_power", block=False)
        print(result.values)
    """
    check_end(request, "deflated_power")
    request, state = begin_from(operator, request, state)
    if state is not None:
        check_state(state, Iterate if options.block else DeflationState)
    return (_all_together if options.block else _one_at_a_time)(operator, request, state)


def _all_together(
    operator: LinearOperator, request: Request, state: Any
) -> Generator[Snapshot, Array | None, None]:
    """Subspace iteration with a block of k vectors."""
    k, previous = request.k, None
    at: PowerStep | Iterate
    if state is not None and state.block.width == k:
        previous, at = state.block, advance(operator, state, 0.0, request.seed)
    else:
        at = start(operator, request, request.start if state is None else state.block.X.T)
    worst_ratios: list[float] = []
    while True:
        at, ritz = ritz_pairs(operator, at, previous)
        worst_ratios.append(float(np.max(residual_ratios(operator, request, ritz)[:k])))
        notes = slowness_notes(worst_ratios, k)
        missed = yield snapshot(operator, request, ritz, at.scale, count=k, notes=notes, state=at)
        if missed is None:
            previous = at.block
            del ritz  # frees two blocks before the next product
            at = advance(operator, at, 0.0, request.seed)
        else:
            worst_ratios = []
            at, previous = with_missed(operator, ritz, missed, at)


def _one_at_a_time(
    operator: LinearOperator, request: Request, state: Any
) -> Generator[Snapshot, Array | None, None]:
    """Power iteration for one pair after the other, in the complement of the found vectors."""
    k, seed, starts = request.k, request.seed, request.start
    previous = None if state is None else state.block
    if state is None:
        nothing = arrays.zeros((0, operator.shape[0]), operator)
        found = Block(nothing, nothing)
        latest, scale = multiply(operator, next_start(operator, found, starts, seed))
    else:
        found, scale = state.found, state.scale
        latest, _ = multiply(operator, unit_in_complement(operator, found, state.block.AX, seed), scale)
    worst_ratios: list[float] = []
    while True:
        m = found.width + 1
        ritz, _ = rayleigh_ritz(operator, (found, latest), previous)
        ratios = residual_ratios(operator, request, ritz)[:m]
        worst_ratios.append(float(np.max(ratios)))
        notes, after = slowness_notes(worst_ratios, 1), DeflationState(found, latest, scale)
        missed = yield snapshot(operator, request, ritz, scale, count=m, notes=notes, state=after)

        if missed is not None:  # the searches for the weakest pairs begin again, from these directions
            worst_ratios = []
            found, previous = ritz_block(operator, ritz, slice(max(m - missed.shape[1], 0))), None
            starts = operator.xp.concat([found.X.T, missed], axis=1)
            x = next_start(operator, found, starts, seed)
        elif worst_ratios[-1] > 1 and not stalled(operator, ritz, m, worst_ratios):
            previous, x = (
                latest,
                unit_in_complement(
                    operator, found, latest.AX, seed, lost=vanishes(operator, ritz, found.width)
                ),
            )
        elif m < k:
            worst_ratios = []
            found, previous = ritz_block(operator, ritz, slice(m)), None
            x = next_start(operator, found, starts, seed)
        else:  # All pairs are found, but snapshots are still requested: improve the worst pair.
            worst_ratios = []
            worst = int(np.argmax(ratios))
            found = ritz_block(operator, ritz, [i for i in range(m) if i != worst])
            previous = ritz_block(operator, ritz, [worst])
            lost = abs(float(ritz.values[worst])) <= 10 * arrays.eps(operator) * abs(float(ritz.values[0]))
            x = unit_in_complement(operator, found, previous.AX, seed, lost=lost)
        latest, _ = multiply(operator, x, scale)


def next_start(operator: LinearOperator, found: Block, starts: Array | None, seed: int) -> Array:
    """Returns the next column of `starts`, or a random vector, in the complement of the found vectors."""
    m = found.width
    if starts is not None and starts.ndim == 1:
        starts = starts[:, None]
    column = starts[:, m : m + 1] if starts is not None and starts.shape[1] > m else None
    x = start_block(operator, column, 1, arrays.generator(seed, "power start", m))
    return unit_in_complement(operator, found, x, seed)


def unit_in_complement(
    operator: LinearOperator, found: Block, x: Array, seed: int, *, lost: bool | None = None
) -> Array:
    """Projects x (1, n) on the complement of the found vectors; if nothing remains, a random vector is used.

    Args:
        operator, found, seed: as above.
        x: the vector (1, n).
        lost: whether nothing remains; None: that is decided here, which takes a transfer to the host.

    Returns:
        A vector (1, n) of unit length.
    """
    m = found.width
    for _ in range(2):
        x = x - (x @ found.X.T) @ found.X
    if lost is None:
        lost = arrays.norm(x) == 0
    if not lost:
        return qr(operator, x)[0]
    return fill_with_random(operator, found.X, m + 1, arrays.generator(seed, "power step", m))[m:, :]


def vanishes(operator: LinearOperator, ritz: RitzDecomposition, m: int) -> bool:
    """Whether the product of row m of the span is only rounding error outside the first m rows."""
    eps, whole = arrays.eps(operator), float(ritz.stretched[m, m])
    outside = whole - float(np.sum(ritz.projected[m, :m] ** 2))
    return outside <= max(100 * eps * whole, (10 * eps * float(ritz.values[0])) ** 2)


def stalled(operator: LinearOperator, ritz: RitzDecomposition, m: int, worst_ratios: list[float]) -> bool:
    """Whether the largest of m residuals has not halved in 500 products, or in 20 near rounding error.

    The next pair is then sought, so that a pair that cannot converge does not block all other pairs.
    """
    rounding = 100 * arrays.eps(operator) * abs(float(ritz.values[0]))
    patience = RATE_STEPS if float(np.max(ritz.residuals[:m])) <= rounding else SLOW_PRODUCTS
    return len(worst_ratios) > patience and 2 * min(worst_ratios[-patience:]) > min(worst_ratios[:-patience])


def slowness_notes(worst_ratios: list[float], cost: int) -> tuple[str, ...]:
    """Returns a note if convergence is slow.

    Args:
        worst_ratios: the largest ratio of a residual to its threshold, for every step so far.
        cost: products a step.
    """
    if len(worst_ratios) <= RATE_STEPS or worst_ratios[-1] <= 1:
        return ()
    rate = (worst_ratios[-1] / worst_ratios[-1 - RATE_STEPS]) ** (1 / RATE_STEPS)
    ahead = cost * math.log(worst_ratios[-1]) / -math.log(rate) if rate < 1 else math.inf
    if ahead <= SLOW_PRODUCTS:
        return ()
    pace = f"at the rate of the last {RATE_STEPS} steps"
    if math.isfinite(ahead):
        return (f"slow convergence: about {ahead:.0f} further products {pace}; `lanczos` needs far fewer",)
    return (f"no convergence {pace}; `lanczos` needs far fewer products",)
