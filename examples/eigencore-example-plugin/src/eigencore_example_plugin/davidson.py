"""Block Davidson without a preconditioner: expands a basis by the residuals of the unconverged pairs.

Source: Crouzeix, Philippe & Sadkane, The Davidson method, SIAM J. Sci. Comput. 15 (1994) 62-76, with the
identity as the preconditioner. The solver stores two bases of m vectors, for readability rather than speed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from eigencore import arrays
from eigencore.errors import OptionError
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.options import option
from eigencore.request import Request, precision_floor
from eigencore.space import Array


@dataclass(frozen=True)
class DavidsonOptions:
    """The options of the solver `davidson`."""

    basis: int | None = option(
        None,
        low=2,
        help="maximum number of basis vectors before a restart that keeps half; none: the larger of 4k and 20",
        when="raise it if gaps between eigenvalues are small; lower it to save memory",
    )


@dataclass(frozen=True)
class DavidsonBasis:
    """Orthonormal columns V and their products AV, both (n, j), as arrays of the operator's library."""

    V: Array
    AV: Array

    @property
    def size(self) -> int:
        """The number of columns, j."""
        return int(self.V.shape[1])

    def rotated(self, rotation: npt.NDArray[Any], operator: LinearOperator) -> DavidsonBasis:
        """V Q and AV Q, for a matrix Q (j, l) on the host."""
        Q = arrays.from_host(rotation, operator)
        return DavidsonBasis(self.V @ Q, self.AV @ Q)

    def expanded(self, W: Array, operator: LinearOperator) -> DavidsonBasis:
        """The basis with the directions of W (n, l) added, at a cost of one product per direction."""
        W, xp = orthonormalize(W, operator, against=self.V), operator.xp
        return DavidsonBasis(xp.concat([self.V, W], axis=1), xp.concat([self.AV, operator.matmat(W)], axis=1))


def davidson(
    operator: LinearOperator,
    request: Request,
    options: DavidsonOptions,
    *,
    state: DavidsonBasis | Array | None = None,
) -> Generator[Snapshot, None, None]:
    """Block Davidson as a solver; see `eigencore.interfaces.Solver`.

    Its state is the basis, or the Ritz vectors (n, k) alone once all pairs have converged.
    """
    n, k = operator.shape[0], request.k
    max_size = basis_size(options.basis, k, n)
    if isinstance(state, DavidsonBasis):
        basis = state
    else:
        basis = initial_basis(operator, request if state is None else replace(request, start=state))
    while True:
        # Rayleigh-Ritz. The projected problem is small, so it is solved on the host in float64.
        projected = arrays.to_host(basis.V.T @ basis.AV)
        values, rotation = np.linalg.eigh((projected + projected.T) / 2)
        wanted = request.order(values)
        pairs = basis.rotated(rotation[:, wanted], operator)
        R = pairs.AV - pairs.V * arrays.from_host(values[wanted], operator)
        residuals = np.array([arrays.norm(R[:, i]) for i in range(k)])
        norm = float(np.max(np.abs(values)))
        floor = precision_floor(arrays.eps(operator), norm)
        unconverged = residuals > request.thresholds(values[wanted], floor)
        V, unfinished = pairs.V, basis if np.any(unconverged) else None

        def vectors(V: Array = V) -> Array:
            return V

        def resumable(vectors: Array, unfinished: Any = unfinished) -> Any:
            # After convergence, a result keeps its own vectors and nothing else.
            return vectors if unfinished is None else unfinished

        yield Snapshot(
            values=values[wanted],
            residuals=residuals,
            vectors=vectors,
            norm=norm,
            state=resumable,
        )
        if basis.size == n:
            return
        # If another snapshot is requested although all pairs have converged, all of them are improved.
        expand_by = np.flatnonzero(unconverged) if np.any(unconverged) else np.arange(k)
        directions = operator.xp.stack([R[:, int(i)] for i in expand_by[: n - basis.size]], axis=1)
        if basis.size + k > max_size and max_size < n:
            kept = replace(request, k=max_size // 2).order(values)
            basis = basis.rotated(rotation[:, kept], operator)
        basis = basis.expanded(directions, operator)


def basis_size(requested: int | None, k: int, n: int) -> int:
    """The maximum number of basis vectors for k pairs in dimension n.

    Raises:
        OptionError: half of the requested basis would not hold k pairs.
    """
    if requested is not None and requested < min(2 * k, n):
        raise OptionError(f"davidson.basis is {requested}; k = {k} needs a basis of at least {min(2 * k, n)}")
    return min(n, max(4 * k, 20) if requested is None else requested)


def initial_basis(operator: LinearOperator, request: Request) -> DavidsonBasis:
    """A basis of k columns: the request's start vectors, completed by random ones."""
    n, k = operator.shape[0], request.k
    start = arrays.random_normal(np.random.default_rng(request.seed), (n, k), operator)
    if request.start is not None:
        given = operator.xp.reshape(request.start, (n, -1))
        width = min(k, given.shape[1])
        start = operator.xp.concat([given[:, :width], start[:, width:]], axis=1)
    V = orthonormalize(start, operator)
    return DavidsonBasis(V, operator.matmat(V))


def orthonormalize(W: Array, operator: LinearOperator, against: Array | None = None) -> Array:
    """Orthonormal columns, as many as W has, that are orthogonal to `against` and span W together with it.

    If W is in the span of `against` up to rounding, its rounding errors are used as directions. The repeated
    passes make these orthogonal too.
    """
    for _ in range(3):
        if against is not None:
            W = W - against @ (against.T @ W)
        W = operator.xp.linalg.qr(W)[0]
    return W
