"""Thick-restart Lanczos for extreme eigenpairs of a symmetric operator: one product a step, m vectors kept.

K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
Anal. Appl. 22 (2000) 602-616. This differs from the paper in:

1. Directions that wait to be multiplied stand in a list, so that a single vector (one pending), a block (b
   pending), a breakdown (none) and a fresh chain (one more) are one loop.
2. Known couplings are subtracted first, then one full Gram-Schmidt pass is made: as orthogonal as two full
   passes, and cheaper. A bare single pass is not enough.
3. Convergence is tested after every product; the projected problem is solved on the host in float64.
4. Converged pairs stay in the basis; nothing is locked or purged.
5. A Krylov space holds one copy of an eigenvalue. Once k pairs pass, a fresh chain in their complement
   looks for further copies (see `glance.py`).

    n, m, k     rows of A; size of a full basis; wanted pairs
    V  (j, n)   orthonormal basis, a vector a row, on the device: rows 0 to j of `rows`
    P  (p, n)   pending directions, the rows after them; [V P] is orthonormal
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
from eigencore_krylov.glance import Glance

if TYPE_CHECKING:
    from eigencore.space import Floats


@dataclass(frozen=True)
class LanczosOptions:
    basis: int | None = option(
        None,
        low=3,
        help="vectors kept in memory; none: the larger of 2k and 20",
        when="raise it where gaps are small or k reaches into the bulk; lower it to save memory",
    )
    glance: bool = option(
        True,
        help="look for further copies of what was found, and say whether they are excluded",
        when="turn it off where eigenvalues are known to be simple, to save the products",
    )


def basis_size(basis: int | None, k: int, n: int) -> int:
    """Vectors in a full basis.

    Raises:
        OptionError: the basis asked for has no room to restart.
    """
    if basis is not None and basis < min(k + 2, n):
        raise OptionError(f"lanczos.basis is {basis}; k = {k} needs a basis of at least {min(k + 2, n)}")
    return min(n, max(2 * k, 20) if basis is None else basis)


@dataclass(frozen=True)
class Pairs:
    """Ritz pairs of a basis: all values and rotations, and the wanted ones among them."""

    values: Floats
    rotation: Floats
    wanted: np.ndarray
    residuals: Floats

    def told(self, basis: Basis, settled: bool, notes: tuple[str, ...]) -> Snapshot:
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
            state=basis,
        )


def ritz(basis: Basis, request: Request) -> Pairs:
    """Rayleigh-Ritz in the basis; residuals are ||C's||, of the wanted pairs."""
    values, rotation = np.linalg.eigh(basis.T)
    basis.norm = max(basis.norm, float(np.max(np.abs(values))))
    wanted = request.order(values)
    residuals = np.linalg.norm(basis.couplings.T @ rotation[:, wanted], axis=0)
    return Pairs(values, rotation, wanted, residuals)


def kept_pairs(k: int, m: int, converged: int) -> int:
    """How many of m Ritz pairs a restart keeps: the more of them converged, the more, as ARPACK does.

    Keeping half of the rest from the start cost up to twice the products where gaps are small.
    """
    return min(m // 2 if k == 1 else k + min(converged, (m - k) // 2), m - 1)


def restart(basis: Basis, pairs: Pairs, request: Request, keep: int) -> Pairs:
    """Keeps the first `keep` Ritz pairs in the request's order."""
    kept = replace(request, k=keep).order(pairs.values)
    basis.rotate(pairs.rotation[:, kept], pairs.values[kept])
    return ritz(basis, request)


def most_wanted(basis: Basis, pairs: Pairs | None, request: Request, floor: float) -> int:
    """The pending direction that the first open pair's residual has most of; the oldest until k are there."""
    if pairs is None or len(pairs.wanted) < request.k or basis.pending < 2:
        return 0
    open_pairs = pairs.residuals > request.thresholds(pairs.values[pairs.wanted], floor)
    worst = pairs.wanted[int(np.argmax(open_pairs))]
    return int(np.argmax(np.abs(basis.C.T @ pairs.rotation[:, worst])))


def lanczos(
    operator: LinearOperator, request: Request, options: LanczosOptions, *, state: Basis | None = None
) -> Generator[Snapshot, None, None]:
    """The solver: see `eigencore.interfaces.Solver`."""
    n, k = operator.shape[0], request.k
    m = basis_size(options.basis, k, n)
    rng = np.random.default_rng(request.seed)
    basis = Basis.begin(operator, request.start, rng, m) if state is None else state.resume(operator)
    pairs = ritz(basis, request) if basis.size else None
    glance: Glance | None = None
    settled, notes = not options.glance or k == 1, tuple[str, ...]()
    if pairs is not None:
        yield pairs.told(basis, settled, notes)

    while basis.pending or basis.size < n:
        floor = precision_floor(arrays.eps(operator), basis.norm)
        if not basis.pending:
            basis.add(arrays.random_normal(rng, (n,), operator))
        chosen = most_wanted(basis, pairs, request, floor) if glance is None else basis.pending - 1
        basis.expand(operator.matvec, chosen)
        pairs = ritz(basis, request)
        if glance is not None:
            glance.follow(basis, pairs.values[pairs.wanted])
            if glance.over:
                basis.take_back()
                settled, notes, glance = glance.settled, glance.notes, None
                pairs = ritz(basis, request)
        converged = int(np.sum(pairs.residuals <= request.thresholds(pairs.values[pairs.wanted], floor)))
        if converged == k and not settled and glance is None:
            found = pairs.values[pairs.wanted]
            glance = Glance.of(found, request, floor, n=n, cap=m - k) if basis.size < n else None
            settled = glance is None
        yield pairs.told(basis, settled, notes)
        if glance is not None and glance.steps == 0:
            pairs = restart(basis, pairs, request, k)
            yield pairs.told(basis, settled, notes)
            basis.put_aside()
            basis.add(arrays.random_normal(rng, (n,), operator))
        elif basis.size >= m and basis.pending and n > m:
            pairs = restart(basis, pairs, request, kept_pairs(k, m, converged))
            yield pairs.told(basis, settled, notes)
