"""Thick-restart Lanczos for extreme eigenpairs of a symmetric operator: one product a step, m vectors held.

K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
Anal. Appl. 22 (2000) 602-616. This differs from the paper in:

1. The directions that wait to be multiplied are kept in a list. A single vector (one pending direction), a
   block (b pending), a breakdown (none) and a new chain (one more) then share one loop.
2. Known couplings are subtracted first, then one full Gram-Schmidt pass is made. This is as orthogonal as two
   full passes, and cheaper. A single pass on its own is not enough.
3. Convergence is tested after every product; the projected problem is solved on the host in float64.
4. Converged pairs stay in the basis; nothing is locked or purged.
5. A Krylov space contains only one eigenvector of a repeated eigenvalue. Once k pairs have converged, a new
   chain in their complement searches for repeated eigenvalues (see `repeated.py`).

    n, m, k     rows of A; size of a full basis; wanted pairs
    V  (j, n)   orthonormal basis, a vector a row, on the device: rows 0 to j of `rows`
    P  (p, n)   pending directions, the rows after V; [V P] is orthonormal
    T  (j, j)   V A V', on the host
    C  (j, p)   couplings: A V' = V' T + P' C', so that ||C' s|| is the residual of the Ritz vector V's
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import OptionError
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.options import option
from eigencore.request import Request, precision_floor
from eigencore_krylov.basis import Basis
from eigencore_krylov.repeated import RepeatedSearch
from eigencore_krylov.state import LanczosState, basis_of, state_of

if TYPE_CHECKING:
    from eigencore.space import Floats


@dataclass(frozen=True)
class LanczosOptions:
    """The options of `lanczos`."""

    basis: int | None = option(
        None,
        low=3,
        help="number of basis vectors in memory; none: the larger of 2k and 20",
        when="raise it if gaps are small or k reaches into the bulk; lower it to save memory",
    )
    repeated: bool = option(
        True,
        help="search for repeated eigenvalues, and report whether missing ones are excluded",
        when="turn it off to save products if all eigenvalues are known to be simple",
    )


def basis_size(basis: int | None, k: int, n: int) -> int:
    """Returns the number of vectors in a full basis.

    Raises:
        OptionError: the requested basis is too small to restart.
    """
    if basis is not None and basis < min(k + 2, n):
        raise OptionError(f"lanczos.basis is {basis}; k = {k} needs a basis of at least {min(k + 2, n)}")
    return min(n, max(2 * k, 20) if basis is None else basis)


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

    def snapshot(self, basis: Basis, settled: bool, notes: tuple[str, ...]) -> Snapshot:
        """Returns the wanted pairs as a Snapshot."""
        rows, size = basis.rows, basis.size
        rotation = arrays.from_host(self.rotation[:, self.wanted], basis.operator)
        return Snapshot(
            values=self.values[self.wanted],
            residuals=self.residuals,
            vectors=lambda: rows[:size, :].T @ rotation,
            norm=basis.norm,
            settled=settled,
            notes=notes,
            restarts=basis.restarts,
            state=lambda vectors: state_of(basis, self.rotation, self.wanted, vectors, self.complete),
        )


def ritz(basis: Basis, request: Request) -> RitzPairs:
    """Applies Rayleigh-Ritz to the basis; the estimated residuals ||C's|| are those of the wanted pairs."""
    values, rotation = np.linalg.eigh(basis.T)
    basis.norm = max(basis.norm, float(np.max(np.abs(values))))
    wanted = request.order(values)
    residuals = np.linalg.norm(basis.couplings.T @ rotation[:, wanted], axis=0)
    thresholds = request.thresholds(values[wanted], precision_floor(arrays.eps(basis.operator), basis.norm))
    complete = len(wanted) == request.k and bool(np.all(residuals <= thresholds))
    return RitzPairs(values, rotation, wanted, residuals, complete)


def kept_pairs(k: int, m: int, converged: int) -> int:
    """Returns how many of m Ritz pairs a restart keeps: more if more have converged, as in ARPACK.

    Keeping half of the unwanted pairs from the start cost up to twice the products if gaps were small.
    """
    return min(m // 2 if k == 1 else k + min(converged, (m - k) // 2), m - 1)


def restart(basis: Basis, pairs: RitzPairs, request: Request, keep: int) -> RitzPairs:
    """Reduces the basis to the first `keep` Ritz vectors in the request's order."""
    kept = replace(request, k=keep).order(pairs.values)
    basis.rotate(pairs.rotation[:, kept], pairs.values[kept])
    return ritz(basis, request)


def next_direction(basis: Basis, pairs: RitzPairs | None, request: Request, floor: float) -> int:
    """Returns the index of the pending direction to multiply.

    This is the direction with the largest part in the residual of the first unconverged pair. While there are
    fewer than k pairs, it is the oldest direction.
    """
    if pairs is None or len(pairs.wanted) < request.k or basis.pending < 2:
        return 0
    unconverged = pairs.residuals > request.thresholds(pairs.values[pairs.wanted], floor)
    first = pairs.wanted[int(np.argmax(unconverged))]
    return int(np.argmax(np.abs(basis.C.T @ pairs.rotation[:, first])))


def resume(
    basis: Basis, pairs: RitzPairs, settled: bool, notes: tuple[str, ...], *, recover: bool
) -> Generator[Snapshot, None, None]:
    """Yields the pairs of a basis from a state, and again after every product that the basis needs.

    Args:
        recover: whether the pending directions are zero and have to be computed.
    """
    # Until all directions are known, the state of a snapshot leaves them out again.
    pairs, unknown = replace(pairs, complete=pairs.complete or recover), basis.pending if recover else 0
    yield pairs.snapshot(basis, settled, notes)
    index = 0
    for _ in range(unknown):
        index = basis.recover(basis.operator.matvec, index)
        yield pairs.snapshot(basis, settled, notes)


def lanczos(
    operator: LinearOperator, request: Request, options: LanczosOptions, *, state: LanczosState | None = None
) -> Generator[Snapshot, None, None]:
    """Thick-restart Lanczos as a solver: see `eigencore.interfaces.Solver` for arguments and snapshots.

    Raises:
        OptionError: the requested basis is too small for k pairs.
        UsageError: the state comes from another solver, or from an operator of another size or data type.

    Example:
        import numpy as np
        import eigencore

        A = np.diag(np.arange(1.0, 101.0))
        result = eigencore.solve(A, 3, solver="lanczos", basis=30, repeated=False)
        print(result.values)
    """
    n, k = operator.shape[0], request.k
    m = basis_size(options.basis, k, n)
    settled, notes = not options.repeated or k == 1, tuple[str, ...]()
    search: RepeatedSearch | None = None
    pairs: RitzPairs | None = None
    rng = np.random.default_rng(request.seed)
    if state is None:
        basis = Basis.from_start(operator, request.start, rng, m)
    else:
        basis = basis_of(state, operator, m)
        # The basis may contain the directions that were drawn before.
        rng.standard_normal(n * basis.drawn)
        yield from resume(basis, ritz(basis, request), settled, notes, recover=state.pending is None)
        pairs = ritz(basis, request)

    while basis.pending or basis.size < n:
        floor = precision_floor(arrays.eps(operator), basis.norm)
        if not basis.pending:
            basis.add_random(rng)
        # The chain of a search is always the last pending direction.
        index = next_direction(basis, pairs, request, floor) if search is None else basis.pending - 1
        basis.expand(operator.matvec, index)
        pairs = ritz(basis, request)
        if search is not None:
            search.record_step(basis, pairs.values[pairs.wanted])
            if search.finished:
                basis.restore_suspended()
                settled, notes, search = search.settled, search.notes, None
                pairs = ritz(basis, request)
        converged = int(np.sum(pairs.residuals <= request.thresholds(pairs.values[pairs.wanted], floor)))
        if converged == k and not settled and search is None:
            found = pairs.values[pairs.wanted]
            if basis.size < n:
                search = RepeatedSearch.begin(found, request, floor, n=n, max_steps=m - k)
            settled = search is None
        yield pairs.snapshot(basis, settled, notes)
        if search is not None and search.steps == 0:
            pairs = restart(basis, pairs, request, k)
            yield pairs.snapshot(basis, settled, notes)
            basis.suspend_pending()
            basis.add_random(rng)
        elif basis.size >= m and basis.pending and n > m:
            pairs = restart(basis, pairs, request, kept_pairs(k, m, converged))
            yield pairs.snapshot(basis, settled, notes)

    # The basis spans the whole space, and every estimated residual is zero. If another snapshot is requested
    # all the same, rounding errors of the recurrence made the exact residuals too large. Products with the
    # Ritz vectors themselves leave smaller ones.
    if pairs is not None and m == n:
        refined = Basis.from_start(operator, pairs.snapshot(basis, settled, notes).vectors(), rng, m)
        while refined.pending:
            refined.expand(operator.matvec, 0)
            if refined.pending:
                yield pairs.snapshot(basis, False, notes)
        if refined.size >= k:
            yield ritz(refined, request).snapshot(refined, settled, notes)
