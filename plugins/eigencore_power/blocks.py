"""Blocks of vectors with their products: orthonormal bases, and Rayleigh-Ritz from products already made.

    n, b        rows of A; vectors of a block
    X  (b, n)   orthonormal, a vector a row, on the device: small matrices multiply long rows fastest
    AX (b, n)   their products, divided by a power of two near ||A||, so that no square over- or underflows

What is b by b lives on the host in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class Block:
    """Orthonormal X with its products."""

    X: Array
    AX: Array

    @property
    def width(self) -> int:
        return int(self.X.shape[0])


def multiply(operator: LinearOperator, X: Array, scale: float | None = None) -> tuple[Block, float]:
    """X with its products, b of them, and their scale: the one given, or what these products suggest."""
    AX = operator.matmat(X.T)
    columns = [AX[:, i] for i in range(AX.shape[1])]
    if scale is None:
        size = max(arrays.norm(column) for column in columns)
        scale = 2.0 ** round(math.log2(size)) if size > 0 else 1.0
    return Block(X, operator.xp.stack(columns) * (1 / scale)), scale


# -- orthonormal rows --------------------------------------------------------------------------------------


def start_block(operator: LinearOperator, given: Array | None, b: int, rng: np.random.Generator) -> Array:
    """b orthonormal rows: the first columns of `given`, (n,) or (n, c), then random ones.

    A trace of chance goes into those given, so that no eigenvector is shut out.
    """
    n, xp = operator.shape[0], operator.xp
    X = arrays.random_normal(rng, (b, n), operator) * (1 / math.sqrt(n))
    if given is not None:
        rows = [given] if given.ndim == 1 else [given[:, i] for i in range(min(b, given.shape[1]))]
        known = xp.stack([row / (arrays.norm(row) or 1.0) for row in rows])
        trace = math.sqrt(arrays.eps(operator)) * X[: len(rows), :]
        X = xp.concat([known + trace, X[len(rows) :, :]])
    return complete(operator, orthonormalise(operator, X)[0], b, rng)


def orthonormalise(operator: LinearOperator, W: Array, least: float | None = None) -> tuple[Array, Floats]:
    """Q (r, n) and T (r, b) with Q = T W orthonormal, where r is the rank that W shows above rounding.

    `least` is the smallest singular value of W that counts; None: 10 eps of its largest.
    """
    Q, R = operator.xp.linalg.qr(W.T)
    U, s, Vt = np.linalg.svd(arrays.to_host(R))
    keep = s > (10 * arrays.eps(operator) * s[0] if least is None else least)
    return arrays.from_host(U.T[keep, :], operator) @ Q.T, Vt[keep, :] / s[keep, None]


def complete(operator: LinearOperator, Q: Array, b: int, rng: np.random.Generator) -> Array:
    """Q and random rows after it, b in all and orthonormal."""
    r, n = Q.shape
    if r == b:
        return Q
    F = arrays.random_normal(rng, (b - r, n), operator)
    for _ in range(2):
        F = operator.xp.linalg.qr((F - (F @ Q.T) @ Q).T)[0].T
    return operator.xp.concat([Q, F])


def beyond(operator: LinearOperator, known: Sequence[Block], other: Block) -> Block:
    """What `other` has outside the span of the known blocks, as an orthonormal block with its products.

    Below sqrt(eps) of a vector's length, the product of what is left would be rounding. Products may be worse
    than their data type says (low precision, finite differences); then they contradict each other across
    the diagonal, and nothing is taken.
    """
    D, shared = other.X, [0.0] * len(known)
    for _ in range(2):
        for i, block in enumerate(known):
            C = D @ block.X.T
            D = D - C @ block.X
            shared[i] = shared[i] + C
    least = math.sqrt(arrays.eps(operator))
    Q, T = orthonormalise(operator, D, least=least)
    turn = arrays.from_host(T, operator)
    AQ = turn @ other.AX
    for C, block in zip(shared, known, strict=True):
        AQ -= (turn @ C) @ block.AX
    for block in known:
        one, same = arrays.to_host(Q @ block.AX.T), arrays.to_host(AQ @ block.X.T)
        if np.any(np.abs(one - same) > 10 * least):
            return Block(Q[:0, :], AQ[:0, :])
    return Block(Q, AQ)


# -- Rayleigh-Ritz -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ritz:
    """The Ritz pairs of the span of some blocks, in falling magnitude and in units of the scale.

    Attributes:
        values: all r of them.
        residuals: ||A v - theta v|| of the first pairs, as many as were asked for.
        sizes: the singular values of A on the span, (r,), falling. Each is at most the |eigenvalue| of its
            rank, by interlacing. So is each |Ritz value|, but those cancel where the spectrum has both signs.
        rotation: (r, r), row i is the i-th Ritz vector in terms of the blocks' rows.
        projected: (r, r), A in terms of the blocks' rows.
    """

    values: Floats
    residuals: Floats
    sizes: Floats
    rotation: Floats
    projected: Floats
    blocks: tuple[Block, ...]


def rayleigh_ritz(operator: LinearOperator, blocks: Sequence[Block], count: int) -> Ritz:
    """From blocks that are orthonormal together; no product is made. Residuals are of `count` pairs."""
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
    sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(_gram(products, products)), 0))[::-1]
    return Ritz(values, residuals, sizes, rotation, H, blocks)


def ritz_block(operator: LinearOperator, ritz: Ritz, which: slice | list[int]) -> Block:
    """Some of the Ritz vectors, with their products."""
    Y = ritz.rotation[which, :]
    return Block(
        combine(operator, [block.X for block in ritz.blocks], Y),
        combine(operator, [block.AX for block in ritz.blocks], Y),
    )


def turn(operator: LinearOperator, blocks: Sequence[Block], lead: Request) -> Block:
    """Rayleigh-Ritz over the rows of all blocks: the Ritz vectors `lead` asks for, and what old ones add.

    Old are the first `lead.k` rows of the first block, which are what it asked for a turn before. No vector
    is multiplied. The Cholesky factor mends what orthonormality many turns have cost.
    """
    bases, products = [block.X for block in blocks], [block.AX for block in blocks]
    root = np.linalg.cholesky(_gram(bases, bases))
    inverse = np.linalg.inv(root)
    H = inverse @ _gram(bases, products) @ inverse.T
    values, ritz = np.linalg.eigh((H + H.T) / 2)
    Y = ritz[:, lead.order(values)]
    old = root.T[:, : min(lead.k, blocks[0].width)]
    D = old - Y @ (Y.T @ old)
    U, s, _ = np.linalg.svd(D, full_matrices=False)
    added = U[:, s > 100 * arrays.eps(operator)]
    Q = np.linalg.qr(np.concatenate([Y, added], axis=1))[0].T @ inverse
    return Block(combine(operator, bases, Q), combine(operator, products, Q))


def combine(operator: LinearOperator, parts: Sequence[Array], Y: Floats) -> Array:
    """Y [X1; X2; ...], without forming the whole."""
    ends = np.cumsum([part.shape[0] for part in parts])[:-1].tolist()
    pieces = [
        arrays.from_host(y, operator) @ part for y, part in zip(np.split(Y, ends, 1), parts, strict=True)
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    return total


def _gram(left: Sequence[Array], right: Sequence[Array]) -> Floats:
    return np.block([[arrays.to_host(a @ b.T) for b in right] for a in left])
