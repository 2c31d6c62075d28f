"""A correct solver that is as simple as possible; most of the broken solvers are made from it.

Block Krylov with full orthogonalisation and no restart: memory and work grow with every product. Its block
is wide enough to find every repetition of a requested eigenvalue.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.request import precision_floor
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.request import Request


def block_krylov(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Generator[Snapshot, None, None]:
    """Multiplies the basis vectors one after the other; the new part of each product extends the basis.

    V has the basis and AV the products of its first vectors; `state` is a copy of both, or the vectors alone
    once all pairs have converged.
    """
    n = operator.shape[0]
    width = min(max(request.k, 4), n)
    rng = np.random.default_rng(request.seed)
    if isinstance(state, tuple):
        V, AV = map(list, state)
    else:
        V, AV, request = [], [], request if state is None else replace(request, start=state)
    for column in AV[-1:] or _start(operator, request, rng, width):
        _append(V, column, operator)
    while len(AV) < n:
        while len(AV) == len(V):  # the space is invariant: continue in a random direction
            _append(V, arrays.random_normal(rng, (n,), operator), operator)
        AV.append(operator.matvec(V[len(AV)]))
        yield _ritz_pairs(operator, request, V, AV)
        _append(V, AV[-1], operator)


def _start(
    operator: LinearOperator, request: Request, rng: np.random.Generator, width: int
) -> Iterator[Array]:
    """The columns of the given start, followed by random ones up to the width of the block."""
    given = request.start
    if given is not None:
        block = given[:, None] if given.ndim == 1 else given
        yield from (block[:, i] for i in range(block.shape[1]))
        width -= block.shape[1]
    for _ in range(width):
        yield arrays.random_normal(rng, operator.shape[:1], operator)


def _append(V: list[Array], w: Array, operator: LinearOperator) -> None:
    """Adds the part of w outside the basis to it, unless this part is only rounding."""
    size = arrays.norm(w)
    if size == 0 or len(V) == operator.shape[0]:
        return
    w = w / size
    if V:
        basis = operator.xp.stack(V, axis=1)
        for _ in range(2):  # one pass is not enough where the remaining part is small
            w = w - basis @ (basis.T @ w)
    rest = arrays.norm(w)
    if rest > 100 * arrays.eps(operator):
        V.append(w / rest)


def _ritz_pairs(operator: LinearOperator, request: Request, V: list[Array], AV: list[Array]) -> Snapshot:
    """Rayleigh-Ritz on the vectors whose products are known, with residuals from those products."""
    basis = operator.xp.stack(V[: len(AV)], axis=1)
    images = operator.xp.stack(AV, axis=1)
    projected = arrays.to_host(basis.T @ images)
    values, rotation = np.linalg.eigh((projected + projected.T) / 2)
    first = request.order(values)
    norm = float(np.max(np.abs(values)))
    values, chosen = values[first], arrays.from_host(rotation[:, first], operator)
    vectors = basis @ chosen
    residual = images @ chosen - vectors * arrays.from_host(values, operator)
    residuals = np.array([arrays.norm(residual[:, i]) for i in range(len(values))])
    basis = (tuple(V), tuple(AV))
    thresholds = request.thresholds(values, precision_floor(arrays.eps(operator), norm))
    done = len(values) == request.k and bool(np.all(residuals <= thresholds))
    state = (lambda formed: formed) if done else (lambda formed: basis)
    return Snapshot(values, residuals, lambda: vectors, norm, state=state)
