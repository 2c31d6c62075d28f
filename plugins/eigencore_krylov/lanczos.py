"""Thick-restart Lanczos for extreme eigenpairs of a symmetric operator: one product a step, m vectors held.

K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
Anal. Appl. 22 (2000) 602-616. This differs from the paper in:

1. The directions that wait to be multiplied are kept in a list. A single vector (one pending direction), a
   block (b pending), a breakdown (none) and a new chain (one more) then share one loop.
2. Known couplings are subtracted first, then one full Gram-Schmidt pass is made. This is as orthogonal as two
   full passes, and cheaper. A single pass on its own is not enough.
3. Convergence is tested after every product; the projected problem is solved on the host in float64.
4. Converged pairs stay in the basis; nothing is locked or purged.
5. Every snapshot reports the recurrence as evidence. A Krylov space contains only one eigenvector of a
   repeated eigenvalue; directions along missed ones, which the core finds, become pending directions.

    n, m, k     rows of A; size of a full basis; wanted pairs
    V  (j, n)   orthonormal basis, a vector a row, on the device: rows 0 to j of `rows`
    P  (p, n)   pending directions, the rows after V; [V P] is orthonormal
    T  (j, j)   V A V', on the host
    C  (j, p)   couplings: A V' = V' T + P' C', so that ||C' s|| is the residual of the Ritz vector V's
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from eigencore import arrays
from eigencore.errors import OptionError
from eigencore.interfaces import Evidence, LinearOperator, Snapshot
from eigencore.options import option
from eigencore.request import Request, precision_floor
from eigencore_krylov.basis import Basis
from eigencore_krylov.on_host import on_host
from eigencore_krylov.state import LanczosState, WholeBasis, basis_of, state_of

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

# Up to this size, a basis holds n vectors and is never restarted, so that n products are enough.
SMALL = 256


@dataclass(frozen=True)
class LanczosOptions:
    """The options of `lanczos`."""

    basis: int | None = option(
        None,
        low=3,
        help="number of basis vectors in memory; none: the larger of 2k and 20, or n if n is at most 256",
        when="raise it if gaps are small or k reaches into the bulk; lower it to save memory",
    )
    storage: Literal["auto", "host"] = option(
        "auto",
        help="where the basis is: auto, on the device of the operator; or host, which then orthogonalises it",
        when="set host if the basis does not fit into the memory of a GPU; a step then takes longer",
    )


def basis_size(basis: int | None, k: int, n: int) -> int:
    """Returns the number of vectors in a full basis.

    Raises:
        OptionError: the requested basis is too small to restart.
    """
    if basis is not None and basis < min(k + 2, n):
        raise OptionError(f"lanczos.basis is {basis}; k = {k} needs a basis of at least {min(k + 2, n)}")
    if basis is None:
        basis = n if n <= SMALL else max(2 * k, 20)
    return min(n, basis)


def vectors_held(options: LanczosOptions, k: int, n: int) -> int:
    """Returns the most vectors on the device: the basis, a pending direction, the start, and four of a step.

    If the basis is on the host, there are those of the result, the start, and the four of a step.
    """
    return (basis_size(options.basis, k, n) + 1 if options.storage != "host" else k) + 5


@dataclass(frozen=True)
class RitzPairs:
    """The Ritz pairs of a basis.

    Attributes:
        values: all Ritz values (j,).
        rotation: eigenvectors of T, one per column (j, j).
        wanted: indices of the wanted pairs, in the request's order.
        residuals: estimated residuals of the wanted pairs.
        complete: whether there are k wanted pairs, and all have converged.
    """

    values: Floats
    rotation: Floats
    wanted: np.ndarray
    residuals: Floats
    complete: bool

    def snapshot(self, basis: Basis, evidence: Evidence) -> Snapshot:
        """Returns the wanted pairs as a Snapshot."""
        return Snapshot(
            values=self.values[self.wanted],
            residuals=self.residuals,
            vectors=basis.combine(self.rotation[:, self.wanted]),
            norm=basis.norm,
            evidence=evidence,
            restarts=basis.restarts,
            state=lambda vectors: state_of(basis, self.rotation, self.wanted, vectors, self.complete),
        )


def ritz(basis: Basis, request: Request) -> RitzPairs:
    """Applies Rayleigh-Ritz to the basis; the estimated residuals ||C's|| are those of the wanted pairs."""
    values, rotation = np.linalg.eigh(basis.T)
    basis.norm = max(basis.norm, float(np.max(np.abs(values))))
    wanted = request.order(values)
    residuals = np.linalg.norm(basis.C.T @ rotation[:, wanted], axis=0)
    thresholds = request.thresholds(values[wanted], precision_floor(arrays.eps(basis.operator), basis.norm))
    complete = len(wanted) == request.k and bool(np.all(residuals <= thresholds))
    return RitzPairs(values, rotation, wanted, residuals, complete)


def kept_pairs(k: int, m: int, converged: int) -> int:
    """Returns how many of m Ritz pairs a restart keeps: more if more have converged, as in ARPACK.

    Keeping half of the unwanted pairs from the start cost up to twice the products if gaps were small.
    """
    return min(m // 2 if k == 1 else k + min(converged, (m - k) // 2), m - 1)


def restart(basis: Basis, pairs: RitzPairs, request: Request, keep: int) -> tuple[RitzPairs, Floats]:
    """Reduces the basis to the first `keep` Ritz vectors in the request's order.

    Returns:
        The Ritz pairs of the new basis, and the Ritz values that were dropped.
    """
    kept = replace(request, k=keep).order(pairs.values)
    basis.rotate(pairs.rotation[:, kept], pairs.values[kept])
    return ritz(basis, request), np.delete(pairs.values, kept)


def next_direction(basis: Basis, pairs: RitzPairs | None, request: Request, floor: float) -> int:
    """Returns the index of the pending direction to multiply.

    This is the direction with the largest part in the residual of the first unconverged pair. While there are
    fewer than k pairs, it is the oldest direction. Once all have converged, it is the newest one: no wanted
    pair needs the others, and a direction that was missed shows its eigenvalue after some products.
    """
    if pairs is None or len(pairs.wanted) < request.k or basis.pending < 2:
        return 0
    unconverged = pairs.residuals > request.thresholds(pairs.values[pairs.wanted], floor)
    if not np.any(unconverged):
        return basis.pending - 1
    first = pairs.wanted[int(np.argmax(unconverged))]
    return int(np.argmax(np.abs(basis.C.T @ pairs.rotation[:, first])))


def report(
    basis: Basis, pairs: RitzPairs, coupling: float | None, dropped: Floats | tuple[()] = ()
) -> Generator[Snapshot, Array | None, None]:
    """Yields the wanted pairs, and keeps the directions that are sent in return, because they were missed.

    Args:
        coupling, dropped: as in `Evidence`.
    """
    evidence = Evidence(pairs.values, coupling if basis.one_chain else None, dropped)
    missed = yield pairs.snapshot(basis, evidence)
    if missed is not None:
        basis.missed += [missed[:, i] for i in range(missed.shape[1])]


def recover(basis: Basis, pairs: RitzPairs) -> Generator[Snapshot, Array | None, None]:
    """Yields converged pairs, and again after every product that computes one of their pending directions."""
    # Until all directions are known, the state of a snapshot leaves them out again.
    pairs, unknown, index = replace(pairs, complete=True), basis.pending, 0
    yield from report(basis, pairs, None)
    for _ in range(unknown):
        index = basis.recover(basis.operator.matvec, index)
        yield from report(basis, pairs, None)


def lanczos(
    operator: LinearOperator,
    request: Request,
    options: LanczosOptions,
    *,
    state: WholeBasis | LanczosState | None = None,
) -> Generator[Snapshot, Array | None, None]:
    """Thick-restart Lanczos as a solver: see `eigencore.interfaces.Solver` for arguments and snapshots.

    Raises:
        OptionError: the requested basis is too small for k pairs.

    Example:
        import numpy as np
        import eigencore

        A = np.diag(np.arange(1.0, 1001.0))
        result = eigencore.solve(A, 3, solver="lanczos", basis=30)
        print(result.values)
    """
    if options.storage == "host":
        yield from on_host(
            partial(lanczos, options=replace(options, storage="auto")), operator, request, state
        )
        return
    n, k = operator.shape[0], request.k
    m = basis_size(options.basis, k, n)
    pairs: RitzPairs | None = None
    if state is None:
        basis = Basis.from_start(operator, request.start, m)
    else:
        basis = basis_of(state, operator, m)
        if isinstance(state, LanczosState):
            yield from recover(basis, ritz(basis, request))
        pairs = ritz(basis, request)
        if isinstance(state, WholeBasis):
            yield from report(basis, pairs, 1.0)

    while basis.pending or basis.size < n:
        if pairs is not None and basis.size >= m and basis.pending and n > m:
            floor = precision_floor(arrays.eps(operator), basis.norm)
            converged = int(np.sum(pairs.residuals <= request.thresholds(pairs.values[pairs.wanted], floor)))
            pairs, dropped = restart(basis, pairs, request, kept_pairs(k, m, converged))
            yield from report(basis, pairs, 1.0, dropped)
        floor = precision_floor(arrays.eps(operator), basis.norm)
        index = basis.add_missed(basis.missed.pop(0)) if basis.missed else None
        if not basis.pending:
            basis.add_random(request.seed)
        if index is None:
            index = next_direction(basis, pairs, request, floor)
        coupling = basis.expand(operator.matvec, index)
        pairs = ritz(basis, request)
        yield from report(basis, pairs, coupling)

    # The basis spans the whole space, and every estimated residual is zero. If another snapshot is requested
    # all the same, rounding errors of the recurrence made the exact residuals too large. Products with the
    # Ritz vectors themselves leave smaller ones; until then, only a bound is known.
    if pairs is not None and m == n:
        uncertain = replace(pairs, residuals=np.full(len(pairs.wanted), 2 * basis.norm))
        refined = Basis.from_start(operator, uncertain.snapshot(basis, Evidence(pairs.values)).vectors(), m)
        while refined.pending:
            refined.expand(operator.matvec, 0)
            if refined.pending:
                yield uncertain.snapshot(basis, Evidence(pairs.values))
        if refined.size >= k:
            yield ritz(refined, request).snapshot(refined, Evidence(pairs.values))
