"""Blocks of vectors with their products: orthonormal bases, and Rayleigh-Ritz from known products.

    n, b        rows of A; vectors of a block
    X  (b, n)   orthonormal, a vector a row, on the device: small matrices multiply long rows fastest
    AX (b, n)   their products, divided by a power of two near ||A||, so that no square overflows or vanishes

Matrices of size b by b are kept on the host in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.request import Request

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

    Choice: TypeAlias = Callable[[Floats], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Block:
    """Orthonormal vectors X with their products AX, as in the table of the module."""

    X: Array
    AX: Array

    @property
    def width(self) -> int:
        return int(self.X.shape[0])


def multiply(operator: LinearOperator, X: Array, scale: float | None = None) -> tuple[Block, float]:
    """Computes the b products of the rows of X.

    Returns:
        The block, and the scale by which its products are divided: the given one, or a power of two near the
        largest norm of these products.
    """
    AX = operator.matmat(X.T)
    columns = [AX[:, i] for i in range(AX.shape[1])]
    if scale is None:
        size = max(arrays.norm(column) for column in columns)
        scale = 2.0 ** round(math.log2(size)) if size > 0 else 1.0
    return Block(X, operator.xp.stack(columns) * (1 / scale)), scale


# -- orthonormal rows --------------------------------------------------------------------------------------


def start_block(operator: LinearOperator, given: Array | None, b: int, rng: np.random.Generator) -> Array:
    """Returns b orthonormal rows: the first columns of `given`, (n,) or (n, c), then random vectors."""
    if given is None:
        return fill_with_random(operator, arrays.zeros((0, operator.shape[0]), operator), b, rng)
    rows = [given] if given.ndim == 1 else [given[:, i] for i in range(min(b, given.shape[1]))]
    known = operator.xp.stack([row / (arrays.norm(row) or 1.0) for row in rows])
    return fill_with_random(operator, orthonormalise(operator, known)[0], b, rng)


def orthonormalise(operator: LinearOperator, W: Array, least: float | None = None) -> tuple[Array, Floats]:
    """Returns Q (r, n) and T (r, b), where Q = T W is orthonormal and r is the numerical rank of W (b, n).

    Args:
        operator: defines the array library and the precision.
        W: b vectors as rows (b, n), which may be dependent.
        least: the smallest singular value of W that counts for the rank; None: 10 eps times the largest.
    """
    Q, R = operator.xp.linalg.qr(W.T)
    U, s, Vt = np.linalg.svd(arrays.to_host(R))
    keep = s > (10 * arrays.eps(operator) * s[0] if least is None else least)
    return arrays.from_host(U.T[keep, :], operator) @ Q.T, Vt[keep, :] / s[keep, None]


def fill_with_random(operator: LinearOperator, Q: Array, b: int, rng: np.random.Generator) -> Array:
    """Returns Q followed by random rows, b orthonormal rows in total."""
    r, n = Q.shape
    if r == b:
        return Q
    F = arrays.random_normal(rng, (b - r, n), operator)
    for _ in range(2):
        F = operator.xp.linalg.qr((F - (F @ Q.T) @ Q).T)[0].T
    return operator.xp.concat([Q, F])


def outside(operator: LinearOperator, known: Array, W: Array) -> Array:
    """Returns an orthonormal basis of what the rows of W (b, n) add to the span of orthonormal rows."""
    for _ in range(2):
        W, _ = orthonormalise(operator, W - (W @ known.T) @ known)
    return W


def part_outside(operator: LinearOperator, known: Sequence[Block], other: Block) -> Block:
    """Returns the part of `other` outside the span of the known blocks: an orthonormal block with products.

    A part shorter than sqrt(eps) of a vector's length is left out, since its product would be rounding error.
    Products may be less accurate than their data type suggests (low precision, finite differences). The
    projected matrix is then not symmetric, and an empty block is returned.
    """
    D, shared = other.X, [0.0] * len(known)
    for _ in range(2):
        for i, block in enumerate(known):
            C = D @ block.X.T
            D = D - C @ block.X
            shared[i] = shared[i] + C
    least = math.sqrt(arrays.eps(operator))
    Q, T = orthonormalise(operator, D, least=least)
    rotation = arrays.from_host(T, operator)
    AQ = rotation @ other.AX
    for C, block in zip(shared, known, strict=True):
        AQ -= (rotation @ C) @ block.AX
    for block in known:
        upper, lower = arrays.to_host(Q @ block.AX.T), arrays.to_host(AQ @ block.X.T)
        if np.any(np.abs(upper - lower) > 10 * least):
            return Block(Q[:0, :], AQ[:0, :])
    return Block(Q, AQ)


# -- Rayleigh-Ritz -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RitzDecomposition:
    """The Ritz pairs of the span of some blocks, by decreasing magnitude and in units of the scale.

    Attributes:
        values: all r Ritz values.
        residuals: ||A v - theta v|| of the first pairs, as many as were requested.
        singular_values: of A on the span, (r,), decreasing. By interlacing, each is at most the |eigenvalue|
            of the same rank. This also holds for each |Ritz value|, but in a Ritz value, eigenvalues of
            opposite sign cancel.
        rotation: (r, r), row i is the i-th Ritz vector in terms of the blocks' rows.
        projected: (r, r), A in terms of the blocks' rows.
        blocks: the blocks whose span this is.
    """

    values: Floats
    residuals: Floats
    singular_values: Floats
    rotation: Floats
    projected: Floats
    blocks: tuple[Block, ...]


def rayleigh_ritz(operator: LinearOperator, blocks: Sequence[Block], count: int) -> RitzDecomposition:
    """Applies Rayleigh-Ritz to blocks that are orthonormal together, without a product.

    Args:
        operator: defines the array library and the precision.
        blocks: the blocks with their products.
        count: the number of pairs whose residuals are computed.
    """
    blocks = tuple(block for block in blocks if block.width)
    bases, products = [block.X for block in blocks], [block.AX for block in blocks]
    H = _gram(bases, products)
    H = (H + H.T) / 2
    values, rotation = np.linalg.eigh(H)
    order = Request(k=len(values)).order(values)
    values, rotation = values[order], rotation.T[order, :]
    first = rotation[:count, :]
    R = combine(operator, products, first)
    R -= combine(operator, bases, values[:count, None] * first)
    residuals = arrays.to_host(operator.xp.linalg.vector_norm(R, axis=1))
    singular_values = np.sqrt(np.maximum(np.linalg.eigvalsh(_gram(products, products)), 0))[::-1]
    return RitzDecomposition(values, residuals, singular_values, rotation, H, blocks)


def ritz_block(operator: LinearOperator, ritz: RitzDecomposition, indices: slice | list[int]) -> Block:
    """Returns some of the Ritz vectors with their products."""
    Y = ritz.rotation[indices, :]
    return Block(
        combine(operator, [block.X for block in ritz.blocks], Y),
        combine(operator, [block.AX for block in ritz.blocks], Y),
    )


def locally_optimal_update(operator: LinearOperator, blocks: Sequence[Block], chosen: Choice) -> Block:
    """Applies Rayleigh-Ritz to the rows of all blocks, and keeps the span of the previous Ritz vectors.

    The new block has the chosen Ritz vectors, then orthonormal vectors that extend their span to the previous
    Ritz vectors, which are as many rows of the first block. No product is made. The Cholesky factor repairs
    the loss of orthonormality over many updates.

    Args:
        operator: defines the array library and the precision.
        blocks: the blocks with their products.
        chosen: returns the indices of the Ritz values to keep, in the order of the new block.
    """
    bases, products = [block.X for block in blocks], [block.AX for block in blocks]
    root = np.linalg.cholesky(_gram(bases, bases))
    inverse = np.linalg.inv(root)
    H = inverse @ _gram(bases, products) @ inverse.T
    values, ritz = np.linalg.eigh((H + H.T) / 2)
    Y = ritz[:, chosen(values)]
    previous = root.T[:, : min(Y.shape[1], blocks[0].width)]
    D = previous - Y @ (Y.T @ previous)
    U, s, _ = np.linalg.svd(D, full_matrices=False)
    added = U[:, s > 100 * arrays.eps(operator)]
    Q = np.linalg.qr(np.concatenate([Y, added], axis=1))[0].T @ inverse
    return Block(combine(operator, bases, Q), combine(operator, products, Q))


def combine(operator: LinearOperator, parts: Sequence[Array], Y: Floats) -> Array:
    """Returns Y [X1; X2; ...] for the parts X1, X2, ..., without stacking them."""
    ends = np.cumsum([part.shape[0] for part in parts])[:-1].tolist()
    pieces = [
        arrays.from_host(y, operator) @ part for y, part in zip(np.split(Y, ends, 1), parts, strict=True)
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    return total


def _gram(left: Sequence[Array], right: Sequence[Array]) -> Floats:
    """Returns the matrix of inner products of all left rows with all right rows, on the host."""
    return np.block([[arrays.to_host(a @ b.T) for b in right] for a in left])
