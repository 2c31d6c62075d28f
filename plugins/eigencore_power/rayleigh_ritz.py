"""Rayleigh-Ritz on blocks whose products are known: no product, and one transfer to the host.

`measure` computes on the device all inner products that a step needs: of vectors S, of their products P, and
of E, which is what of the products is outside the span of S. All else is algebra of small matrices on the
host. The residual of a Ritz vector y S is y E, apart from rounding errors, so that its norm is known for any
y that is chosen afterwards, without the cancellation of ||y P||^2 - theta^2. If almost all of E cancels in
y E, the norm is computed on the device, which takes a second transfer: on the spectra of
`tests/kit/spectra.py`, in less than 1 % of the steps in float64, and in 0 to 8 % in float32.

    n, b        rows of A; vectors of a block
    S, P, E     (s, n), (p, n), (p, n): vectors as rows on the device; E is formed in parts and not kept
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.request import Request
from eigencore_power.blocks import (
    NOT_FINITE_SHOWS_LATER,
    Block,
    chunks,
    combine,
    inverse_factor,
    qr,
    require_finite,
    stacked,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

    Choice: TypeAlias = Callable[[Floats], npt.NDArray[np.int64]]

# If rounding may change the square of a residual by more than this fraction, the device computes its norm.
CANCELLATION = 1e-3
# Vectors that are to be orthonormal, but have a combination with a squared norm below this, are dependent.
DEPENDENT = 0.1


# -- measuring ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Inner products of vectors S and their products P, on the host.

    Attributes:
        bases: the parts of S (s, n).
        products: the parts of P (p, n).
        shared: H = P S' (p, s).
        gram: G = S S' (s, s).
        outer: E E' (p, p), where L E = P - H S is what of the products is outside the span.
        mixing: L (p, p).
    """

    bases: tuple[Array, ...]
    products: tuple[Array, ...]
    shared: Floats
    gram: Floats
    outer: Floats
    mixing: Floats

    def overlaps(self, Y: Floats, Z: Floats, values: Floats) -> Floats:
        """Returns the inner products (r, r) of the rows of Y P - values Z S; arguments as in `residuals`."""
        inside, outside = Y @ self.shared - values[:, None] * Z, Y @ self.mixing
        # S E' = (I - G) H' vanishes if S is orthonormal.
        crossed = inside @ (np.eye(len(self.gram)) - self.gram) @ self.shared.T @ Y.T
        found = inside @ self.gram @ inside.T + crossed + crossed.T + outside @ self.outer @ outside.T
        return np.asarray(found)

    def residuals(self, operator: LinearOperator, Y: Floats, Z: Floats, values: Floats) -> Floats:
        """Returns the norms of Y P - values Z S, as accurate as if they were computed on the device.

        Only if almost all of E cancels in Y L E are they computed there, which takes another transfer.

        Args:
            operator: defines the array library and the precision.
            Y, Z: coefficients (r, p) and (r, s), of a Ritz vector in each row.
            values: the Ritz values (r,).
        """
        squares = np.diag(self.overlaps(Y, Z, values))
        terms = np.abs(Y @ self.mixing) @ np.sqrt(np.diag(self.outer))
        doubtful = arrays.eps(operator) * terms**2 > CANCELLATION * squares
        norms = np.sqrt(np.maximum(squares, 0))
        if np.any(doubtful):
            R = combine(operator, self.products, Y[doubtful, :])
            R -= combine(operator, self.bases, values[doubtful, None] * Z[doubtful, :])
            norms[doubtful] = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
        return norms


def measure(
    operator: LinearOperator,
    bases: Sequence[Array],
    products: Sequence[Array],
    *,
    mixed: Array | None = None,
    also: Sequence[Array] = (),
) -> tuple[Measured, list[Floats]]:
    """Computes the inner products of vectors and their products, in one transfer to the host.

    Args:
        operator: defines the array library.
        bases: the parts of S, nearly orthonormal.
        products: the parts of P.
        mixed: C; the last rows of P contain - C times the other rows. These are then taken out of the last
            rows of E, so that less cancels in residuals.
        also: small arrays that are brought over with them.

    Raises:
        NotFiniteError: a product is not finite.
    """
    parts, p = [*products, *bases], sum(int(part.shape[0]) for part in products)
    inner: Any = 0.0
    outer: Any = 0.0
    with NOT_FINITE_SHOWS_LATER():
        for chunk in chunks(parts[0]):
            both = stacked(operator, parts, chunk)
            inner = inner + both @ both[p:, :].T
        for chunk in chunks(parts[0]):
            both = stacked(operator, parts, chunk)
            E = both[:p, :] - inner[:p, :] @ both[p:, :]
            if mixed is not None:
                others = mixed.shape[1]
                E = operator.xp.concat([E[:others, :], E[others:, :] + mixed @ E[:others, :]])
            outer = outer + E @ E.T
        known = () if mixed is None else (mixed,)
        HG, N, *brought = arrays.to_host_at_once(inner, outer, *known, *also)
    require_finite(HG, N)
    mixing = np.eye(p)
    if mixed is not None:
        C = brought.pop(0)
        mixing[C.shape[1] :, : C.shape[1]] = -C
    return Measured(tuple(bases), tuple(products), HG[:p, :], HG[p:, :], N, mixing), brought


# -- Rayleigh-Ritz -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RitzDecomposition:
    """The Ritz pairs of the span of some blocks, by decreasing magnitude and in units of the scale.

    Attributes:
        values: all r Ritz values.
        residuals: ||A v - theta v|| of each pair.
        singular_values: of A on the span, (r,), decreasing. By interlacing, each is at most the |eigenvalue|
            of the same rank. This also holds for each |Ritz value|, but in a Ritz value, eigenvalues of
            opposite sign cancel.
        projected: (r, r), A in terms of an orthonormal basis of the span, which begins with the blocks' rows.
        stretched: (r, r), the inner products of the products of that basis.
        rotation: row i is the i-th Ritz vector in terms of `bases`.
        images: row i is its product in terms of `products`.
        bases, products: what the vectors and their products are combined from.
    """

    values: Floats
    residuals: Floats
    singular_values: Floats
    projected: Floats
    stretched: Floats
    rotation: Floats
    images: Floats
    bases: tuple[Array, ...]
    products: tuple[Array, ...]


def rayleigh_ritz(
    operator: LinearOperator, blocks: Sequence[Block], other: Block | None = None, also: Sequence[Array] = ()
) -> tuple[RitzDecomposition, list[Floats]]:
    """Applies Rayleigh-Ritz to blocks and the part of another one outside their span, without a product.

    A part shorter than sqrt(eps) of a vector's length is left out, since its product would be rounding error.
    Products may be less accurate than their data type suggests (low precision, finite differences). The
    projected matrix is then not symmetric, and the other block is left out.

    Args:
        operator: defines the array library and the precision.
        blocks: the blocks with their products, orthonormal together.
        other: an orthonormal block with its products.
        also: small arrays to bring to the host in the same transfer.

    Returns:
        The Ritz pairs, and `also` on the host.

    Raises:
        NotFiniteError: a product is not finite.
    """
    blocks = [block for block in blocks if block.width]
    bases, products = [block.X for block in blocks], [block.AX for block in blocks]
    m, least = sum(block.width for block in blocks), math.sqrt(arrays.eps(operator))
    mixed = None
    if other is not None:
        D, AD, R, mixed = _less(operator, other, blocks)
        bases, products, also = [*bases, D], [*products, AD], (*also, R)
    measured, brought = measure(operator, bases, products, mixed=mixed, also=also)
    S, P = np.eye(m, len(measured.gram)), np.eye(m, len(measured.outer))
    if other is not None:
        rotation, T = inverse_factor(brought.pop(), 0.0, least)
        S_all, P_all = (np.pad(part, ((0, len(T)), (0, 0))) for part in (S, P))
        S_all[m:, m:], P_all[m:, m:] = rotation, T
        H = P_all @ measured.shared @ S_all.T
        if np.all(np.abs(H[:m, m:] - H[m:, :m].T) <= 10 * least):
            S, P = S_all, P_all
    H = P @ measured.shared @ S.T
    H = (H + H.T) / 2
    stretched = measured.overlaps(P, np.zeros_like(S), np.zeros(len(P)))
    values, Y = np.linalg.eigh(H)
    order = Request(k=len(values)).order(values)
    values, Y = values[order], Y.T[order, :]
    residuals = measured.residuals(operator, Y @ P, Y @ S, values)
    singular_values = np.sqrt(np.maximum(np.linalg.eigvalsh(stretched), 0))[::-1]
    ritz = RitzDecomposition(
        values,
        residuals,
        singular_values,
        projected=H,
        stretched=stretched,
        rotation=Y @ S,
        images=Y @ P,
        bases=measured.bases,
        products=measured.products,
    )
    return ritz, brought


def _less(
    operator: LinearOperator, other: Block, blocks: Sequence[Block]
) -> tuple[Array, Array, Array, Array]:
    """Returns the part of a block outside the span of others, without a transfer to the host.

    Returns:
        Q (b, n), AD (b, n), R (b, b) and C (b, m): D = X - C K = R' Q is outside the span of the rows K
        of the blocks, and AD are its products. Where D is rounding error, R is small, and Q may have rows of
        any length up to 1.
    """
    D, AD, shared = other.X, other.AX, []
    for block in blocks:
        shared.append(D @ block.X.T)
        D = D - shared[-1] @ block.X
    Q, R = qr(operator, D)
    for i, block in enumerate(blocks):
        C = Q @ block.X.T
        Q = Q - C @ block.X
        shared[i] = shared[i] + R.T @ C
        with NOT_FINITE_SHOWS_LATER():
            AD = AD - shared[i] @ block.AX
    return Q, AD, R, operator.xp.concat(shared, axis=1)


def ritz_block(operator: LinearOperator, ritz: RitzDecomposition, indices: slice | list[int]) -> Block:
    """Returns some of the Ritz vectors with their products."""
    return Block(
        combine(operator, ritz.bases, ritz.rotation[indices, :]),
        combine(operator, ritz.products, ritz.images[indices, :]),
    )


@dataclass(frozen=True)
class RitzRows:
    """Ritz pairs whose vectors are the first b rows of a block.

    Attributes:
        values: the Ritz values (b,).
        residuals: ||A v - theta v|| of each pair.
        overlaps: the inner products of the vectors A v - theta v (b, b), as far as they do not cancel.
        longest: the largest norm of a product of the rows that were measured last.
    """

    values: Floats
    residuals: Floats
    overlaps: Floats
    longest: float


def locally_optimal_update(
    operator: LinearOperator, blocks: Sequence[Block], chosen: Choice
) -> tuple[Block, RitzRows]:
    """Applies Rayleigh-Ritz to the rows of all blocks, and keeps the span of the previous Ritz vectors.

    The new block has the chosen Ritz vectors, then orthonormal vectors that extend their span to the previous
    Ritz vectors, which are as many rows of the first block. No product is made. The measured inner products
    repair the loss of orthonormality over many updates.

    Args:
        operator: defines the array library and the precision.
        blocks: the blocks with their products.
        chosen: returns the indices of the Ritz values to keep, in the order of the new block.

    Raises:
        NotFiniteError: a product is not finite.
    """
    bases, products = [block.X for block in blocks], [block.AX for block in blocks]
    measured, _ = measure(operator, bases, products)
    sizes, V = np.linalg.eigh(measured.gram)
    V, sizes = V[:, sizes > DEPENDENT], np.sqrt(sizes[sizes > DEPENDENT])
    inverse, root = (V / sizes).T, V * sizes
    H = inverse @ measured.shared @ inverse.T
    values, ritz = np.linalg.eigh((H + H.T) / 2)
    first = chosen(values)
    Y = ritz[:, first]
    previous = root.T[:, : min(Y.shape[1], blocks[0].width)]
    D = previous - Y @ (Y.T @ previous)
    U, s, _ = np.linalg.svd(D, full_matrices=False)
    added = U[:, s > 100 * arrays.eps(operator)]
    Q = np.linalg.qr(np.concatenate([Y, added], axis=1))[0].T @ inverse
    block = Block(combine(operator, bases, Q), combine(operator, products, Q))
    return block, _ritz_rows(operator, measured, Q[: len(first), :], values[first], blocks[-1].width)


def measured_rows(operator: LinearOperator, block: Block, b: int) -> RitzRows:
    """Returns the first b rows of a block as Ritz vectors, with their Rayleigh quotients.

    Raises:
        NotFiniteError: a product is not finite.
    """
    measured, _ = measure(operator, (block.X,), (block.AX,))
    values = np.diag(measured.shared)[:b]
    return _ritz_rows(operator, measured, np.eye(b, block.width), values, block.width)


def _ritz_rows(
    operator: LinearOperator, measured: Measured, Y: Floats, values: Floats, latest: int
) -> RitzRows:
    every = np.eye(len(measured.outer))
    squares = np.diag(measured.overlaps(every, every, np.zeros(len(every))))
    return RitzRows(
        values,
        measured.residuals(operator, Y, Y, values),
        measured.overlaps(Y, Y, values),
        math.sqrt(float(np.max(squares[-latest:]))),
    )
