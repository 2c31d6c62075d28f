"""Block Davidson without a preconditioner: the basis grows by the residuals of the pairs that are still open.

Crouzeix, Philippe & Sadkane, The Davidson method, SIAM J. Sci. Comput. 15 (1994) 62-76, with the identity for
a preconditioner. Two bases of m vectors are held: it is written to be read, not to be fast.
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
    basis: int | None = option(
        None,
        low=2,
        help="vectors of the basis before its better half is kept; none: the larger of 4k and 20",
        when="raise it where gaps are small; lower it to save memory",
    )


@dataclass(frozen=True)
class Block:
    """Orthonormal columns V and their products AV, both (n, j), in the operator's own arrays."""

    V: Array
    AV: Array

    @property
    def size(self) -> int:
        return int(self.V.shape[1])

    def turned(self, rotation: npt.NDArray[Any], operator: LinearOperator) -> Block:
        """V Q and AV Q, for Q on the host."""
        Q = arrays.from_host(rotation, operator)
        return Block(self.V @ Q, self.AV @ Q)

    def grown(self, W: Array, operator: LinearOperator) -> Block:
        """With the directions of W, which cost a product each."""
        W, xp = orthonormal(W, operator, against=self.V), operator.xp
        return Block(xp.concat([self.V, W], axis=1), xp.concat([self.AV, operator.matmat(W)], axis=1))


def davidson(
    operator: LinearOperator, request: Request, options: DavidsonOptions, *, state: Block | None = None
) -> Generator[Snapshot, None, None]:
    """The solver: see `eigencore.interfaces.Solver`."""
    n, k = operator.shape[0], request.k
    most = basis_size(options.basis, k, n)
    basis = begin(operator, request) if state is None else state
    while True:
        # Rayleigh-Ritz: the projected problem is small, and solved on the host in float64.
        projected = arrays.to_host(basis.V.T @ basis.AV)
        values, rotation = np.linalg.eigh((projected + projected.T) / 2)
        wanted = request.order(values)
        pairs = basis.turned(rotation[:, wanted], operator)
        R = pairs.AV - pairs.V * arrays.from_host(values[wanted], operator)
        told = snapshot(basis, pairs, values, wanted, R)
        yield told
        if basis.size == n:
            return
        floor = precision_floor(arrays.eps(operator), told.norm)
        is_open = told.residuals > request.thresholds(told.values, floor)
        # Whoever asks on though all have passed wants them better.
        chosen = np.flatnonzero(is_open) if np.any(is_open) else np.arange(k)
        directions = operator.xp.stack([R[:, int(i)] for i in chosen[: n - basis.size]], axis=1)
        if basis.size + k > most and most < n:
            better = replace(request, k=most // 2).order(values)
            basis = basis.turned(rotation[:, better], operator)
        basis = basis.grown(directions, operator)


def basis_size(asked: int | None, k: int, n: int) -> int:
    """Raises OptionError where half of it would not hold the wanted pairs."""
    if asked is not None and asked < min(2 * k, n):
        raise OptionError(f"davidson.basis is {asked}; k = {k} needs a basis of at least {min(2 * k, n)}")
    return min(n, max(4 * k, 20) if asked is None else asked)


def begin(operator: LinearOperator, request: Request) -> Block:
    """k columns: those that are given to start from, and random ones for the missing."""
    n, k = operator.shape[0], request.k
    start = arrays.random_normal(np.random.default_rng(request.seed), (n, k), operator)
    if request.start is not None:
        given = operator.xp.reshape(request.start, (n, -1))
        width = min(k, given.shape[1])
        start = operator.xp.concat([given[:, :width], start[:, width:]], axis=1)
    V = orthonormal(start, operator)
    return Block(V, operator.matmat(V))


def orthonormal(W: Array, operator: LinearOperator, against: Array | None = None) -> Array:
    """As many orthonormal columns as W has, which span it beside `against`, and are orthogonal to that.

    Where W is in the span of `against` but for rounding, the rounding is taken, and made orthogonal in turn.
    """
    for _ in range(3):
        if against is not None:
            W = W - against @ (against.T @ W)
        W = operator.xp.linalg.qr(W)[0]
    return W


def snapshot(
    basis: Block, pairs: Block, values: npt.NDArray[Any], wanted: npt.NDArray[Any], R: Array
) -> Snapshot:
    return Snapshot(
        values=values[wanted],
        residuals=np.array([arrays.norm(R[:, i]) for i in range(pairs.size)]),
        vectors=lambda: pairs.V,
        norm=float(np.max(np.abs(values))),
        state=basis,
    )
