"""Locally optimal block iteration: the extreme eigenpairs of a symmetric operator, k products a step at most.

Rayleigh-Ritz over X, the residuals of X and the previous X finds the best momentum for each vector and step:
A. V. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput. 23 (2001) 517-541,
algorithm 5.1, without a preconditioner. What is kept of the previous X is orthonormal to the new X, which
makes the method robust: U. Hetmaniuk and R. Lehoucq, Basis selection in LOBPCG, J. Comput. Phys. 218 (2006)
324-332, and J. A. Duersch, M. Shao, C. Yang and M. Gu, A robust and efficient implementation of LOBPCG, SIAM
J. Sci. Comput. 40 (2018) C655-C676. This differs from these papers in:

1. The span is kept orthonormal together with its products, and rotated in coordinates, so that no vector is
   multiplied twice. If snapshots are requested after convergence, the products are computed once again, since
   rounding errors have accumulated in them.
2. A converged pair is not multiplied until all others have converged, or until its residual is above the
   threshold again.
3. X has one vector more than there are wanted pairs, which costs no products: without it, some runs for one
   pair took half as many products again. For LM, it is of the end with fewer wanted pairs, and one step in
   OTHER_END_PERIOD also improves it: otherwise, a larger pair of that end would often be missed.
4. If the core finds missed directions, they are multiplied in the next step instead of residuals.

    n, k, b    rows of A; wanted pairs; vectors of X, k + 1 where n allows
    block      (b to 2 b, n), orthonormal: X, which are b Ritz vectors, and what the previous X add to them

Memory: five blocks of b vectors during a product; ten for a short time between two products.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Snapshot
from eigencore_power.blocks import Block, fill_with_random, multiply, outside, qr, start_block
from eigencore_power.constants import OTHER_END_PERIOD
from eigencore_power.converged import begin_from, state_after, threshold_ratios
from eigencore_power.rayleigh_ritz import RitzRows, locally_optimal_update, measured_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class LobpcgState:
    """The span with its products, in units of `scale`.

    Attributes:
        block: the span: b Ritz vectors X, then the parts of the previous ones outside their span.
        pairs: the Ritz pairs of X.
        scale: the power of two by which products are divided.
        k, which: the request that the Ritz vectors answer.
        norm: the largest norm of a unit vector's product so far, in units of the scale.
        step: steps so far.
        updates: updates since the products of the span were computed.
    """

    block: Block
    pairs: RitzRows
    scale: float
    k: int
    which: str
    norm: float
    step: int = 0
    updates: int = 1


@dataclass(frozen=True)
class RitzEstimates:
    """The b Ritz pairs and how far they have converged.

    Attributes:
        order: the rows of the span that hold them: first the wanted ones, in the order of the request.
            Rounding may swap equal values.
        values: the Ritz values (b,).
        residuals: ||A v - theta v|| of each pair.
        ratios: the residuals, each divided by its threshold.
        overlaps: the inner products of the residual vectors (b, b).
        norm: the best known lower bound of ||A||.
    """

    order: npt.NDArray[np.int64]
    values: Floats
    residuals: Floats
    ratios: Floats
    overlaps: Floats
    norm: float


def vectors_held(options: object, k: int, n: int) -> int:
    """Returns the most vectors in memory: eleven blocks, between two products."""
    return 11 * (k + 1)


def lobpcg(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Generator[Snapshot, Array | None, None]:
    """Locally optimal block iteration as a solver: see `eigencore.interfaces.Solver`.

    It yields one Snapshot for every block product. The first k columns of a start block are used; random
    vectors complete the block.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 101.0)), 3, solver="lobpcg", which="SA")
        print(result.values)
    """
    request, state = begin_from(operator, request, state)
    if state is not None and (state.k, state.which) == (request.k, request.which):
        at = advance(operator, request, state, estimate_pairs(operator, request, state))
    else:
        at = begin(operator, request, state)
    while True:
        estimates = estimate_pairs(operator, request, at)
        missed = yield snapshot(request, at, estimates)
        if at.block.width == operator.shape[0]:
            return
        if missed is None:
            at = advance(operator, request, at, estimates)
        else:
            at = extend(operator, request, at, outside(operator, at.block.X, missed.T))


def followed(request: Request, values: Floats) -> npt.NDArray[np.int64]:
    """Returns the indices of the Ritz values whose vectors are X, the wanted ones first."""
    wanted = request.order(values)
    rest = np.setdiff1d(np.arange(len(values)), wanted)
    if len(rest) == 0:
        return wanted
    if request.which == "LM":
        upper = 2 * int(np.sum(values[wanted] > 0)) >= len(wanted)
        following = rest[np.argmin(values[rest]) if upper else np.argmax(values[rest])]
    else:
        (following,) = np.setdiff1d(replace(request, k=request.k + 1).order(values), wanted)
    return np.append(wanted, following)


# -- steps -------------------------------------------------------------------------------------------------


def begin(operator: LinearOperator, request: Request, state: LobpcgState | None) -> LobpcgState:
    """Returns the first state, from the start block, or from a state for another k or another end."""
    given = request.start if state is None else state.block.X[: state.k, :].T
    rng = arrays.generator(request.seed, "lobpcg start")
    block, scale = multiply(operator, start_block(operator, given, request.k, rng))
    span, pairs = locally_optimal_update(operator, (block,), partial(followed, request))
    return LobpcgState(span, pairs, scale, request.k, request.which, pairs.longest)


def advance(
    operator: LinearOperator, request: Request, at: LobpcgState, estimates: RitzEstimates
) -> LobpcgState:
    """Makes one more block product; none if the span is the whole space."""
    if at.block.width == operator.shape[0]:
        return at
    if bool(np.all(estimates.ratios[: request.k] <= 1)) and at.updates:
        block, _ = multiply(operator, at.block.X, at.scale)
        return replace(at, block=block, pairs=measured_rows(operator, block, len(at.pairs.values)), updates=0)
    return extend(operator, request, at, search_directions(operator, request, at, estimates))


def extend(operator: LinearOperator, request: Request, at: LobpcgState, W: Array) -> LobpcgState:
    """Multiplies orthonormal directions W, orthogonal to the span, and applies Rayleigh-Ritz with them.

    If there are none, it multiplies one random direction.
    """
    span, n, step = at.block, operator.shape[0], at.step + 1
    if W.shape[0] == 0:
        rng = arrays.generator(request.seed, "lobpcg step", step)
        W = fill_with_random(operator, span.X, span.width + 1, rng)[span.width :, :]
    fresh, _ = multiply(operator, W[: min(W.shape[0], n - span.width), :], at.scale)
    block, pairs = locally_optimal_update(operator, (span, fresh), partial(followed, request))
    return replace(
        at,
        block=block,
        pairs=pairs,
        norm=max(at.norm, pairs.longest),
        step=step,
        updates=at.updates + 1,
    )


def estimate_pairs(operator: LinearOperator, request: Request, at: LobpcgState) -> RitzEstimates:
    """Returns the Ritz pairs in the order of the request, with the ratios of residuals to thresholds."""
    order = followed(request, at.pairs.values)
    values, residuals = at.pairs.values[order], at.pairs.residuals[order]
    norm = max(at.norm, float(np.max(np.abs(values))))
    ratios = threshold_ratios(operator, request, values, residuals, norm)
    overlaps = at.pairs.overlaps[np.ix_(order, order)]
    return RitzEstimates(order, values, residuals, ratios, overlaps, norm)


def search_directions(
    operator: LinearOperator, request: Request, at: LobpcgState, estimates: RitzEstimates
) -> Array:
    """Returns the residuals to multiply, orthonormal and orthogonal to the span.

    Residuals have unit length before they are combined: otherwise a small one would count as dependent on the
    large ones. Combinations that may be rounding error are left out: their number is known from the inner
    products of the residuals, which are on the host.
    """
    eps = arrays.eps(operator)
    indices = pairs_to_improve(request, at.step + 1, estimates, eps)
    if not indices:
        return at.block.X[:0, :]
    X, AX = (arrays.rows(part, estimates.order[indices]) for part in (at.block.X, at.block.AX))
    thetas, sizes = estimates.values[indices][:, None], estimates.residuals[indices][:, None]
    W = (AX - arrays.from_host(thetas, operator) * X) * arrays.from_host(1 / sizes, operator)
    squares, V = np.linalg.eigh(estimates.overlaps[np.ix_(indices, indices)] / (sizes * sizes.T))
    if squares[0] <= 10 * eps:
        W = arrays.from_host(V.T[squares > 10 * eps, :], operator) @ W
    for _ in range(2):
        W, _ = qr(operator, W - (W @ at.block.X.T) @ at.block.X)
    return W


def pairs_to_improve(request: Request, step: int, estimates: RitzEstimates, eps: float) -> list[int]:
    """Returns the indices of the Ritz pairs whose residuals are multiplied.

    They are the unconverged wanted pairs, or all of them if all have converged, and at times that of the
    other end. Pairs whose residual is rounding error are left out.
    """
    chosen = estimates.ratios > 1
    if not np.any(chosen[: request.k]):
        chosen[:] = True
    chosen[request.k :] = request.which == "LM" and step % OTHER_END_PERIOD == 0
    return [int(i) for i in np.flatnonzero(chosen & (estimates.residuals > eps * estimates.norm))]


# -- snapshots ---------------------------------------------------------------------------------------------


def snapshot(request: Request, at: LobpcgState, estimates: RitzEstimates) -> Snapshot:
    """Returns the wanted pairs as a Snapshot, in the operator's own units."""
    X, k, scale, state = at.block.X, request.k, at.scale, at
    first = estimates.order[:k]
    done = bool(np.all(estimates.ratios[:k] <= 1))
    return Snapshot(
        values=estimates.values[:k] * scale,
        residuals=estimates.residuals[:k] * scale,
        vectors=lambda: arrays.rows(X, first).T,
        norm=estimates.norm * scale,
        notes=(f"this solver holds {5 * (k + 1)} vectors; `lanczos` needs up to 3 times fewer products",),
        state=lambda vectors: state_after(state, vectors, done),
    )
