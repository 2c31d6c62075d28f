"""Blocks of vectors with their products, and orthonormal bases.

    n, b        rows of A; vectors of a block
    X  (b, n)   orthonormal, a vector a row, on the device: small matrices multiply long rows fastest
    AX (b, n)   their products, divided by a power of two near ||A||, so that no square overflows or vanishes

Matrices of size b by b are kept on the host in float64. Each transfer to the host waits for the device, so
that the solvers make one in a step: that of `rayleigh_ritz.measure`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

# Columns that are computed with at a time: in a processor's cache, or on an accelerator, to save memory.
CHUNK, CHUNK_ON_ACCELERATOR = 1 << 13, 1 << 22
# NumPy warns of infinity minus infinity; the numbers that are tested afterwards show it.
NOT_FINITE_SHOWS_LATER = partial(np.errstate, over="ignore", invalid="ignore")


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
        largest norm of these products, which takes a transfer to the host.

    Raises:
        NotFiniteError: a product is not finite. With a given scale, this is not tested.
    """
    AX = operator.matmat(X.T).T
    if scale is None:
        size = _largest_norm(operator, AX)
        scale = 2.0 ** round(math.log2(size)) if size > 0 else 1.0
    with NOT_FINITE_SHOWS_LATER():
        return Block(X, _contiguous(operator, AX * (1 / scale))), scale


def require_finite(*measured: Floats | float) -> None:
    """Checks numbers that were computed from products, and that are not finite if a product is not.

    Raises:
        NotFiniteError: one of them is not finite.
    """
    if not all(np.all(np.isfinite(part)) for part in measured):
        raise NotFiniteError("a product is not finite")


def _largest_norm(operator: LinearOperator, rows: Array) -> float:
    """Returns the largest norm of a row (b, n), correct even if squares overflow or underflow."""
    xp = operator.xp
    with NOT_FINITE_SHOWS_LATER():
        unit = xp.max(xp.abs(rows))
        scaled = rows / _or_one(operator, unit)
        largest, length = arrays.to_host_at_once(unit, xp.max(xp.linalg.vector_norm(scaled, axis=1)))
    require_finite(largest)
    return float(largest) * float(length)


def _or_one(operator: LinearOperator, sizes: Array) -> Array:
    """Returns sizes to divide by: those that are zero become 1."""
    return operator.xp.where(sizes > 0, sizes, operator.xp.ones_like(sizes))


def _contiguous(operator: LinearOperator, rows: Array) -> Array:
    """Returns rows (b, n), each of which is contiguous in memory; they are copied if they were not."""
    return operator.xp.reshape(operator.xp.reshape(rows, (-1,)), rows.shape)


# -- orthonormal rows --------------------------------------------------------------------------------------


def start_block(operator: LinearOperator, given: Array | None, b: int, rng: np.random.Generator) -> Array:
    """Returns b orthonormal rows: the first columns of `given`, (n,) or (n, c), then random vectors."""
    if given is None:
        return fill_with_random(operator, arrays.zeros((0, operator.shape[0]), operator), b, rng)
    xp = operator.xp
    rows = given[None, :] if given.ndim == 1 else given[:, : min(b, given.shape[1])].T
    # The largest number first, so that no square overflows or vanishes; columns of zeros stay as they are.
    rows = rows / _or_one(operator, xp.max(xp.abs(rows), axis=1))[:, None]
    rows = rows / _or_one(operator, xp.linalg.vector_norm(rows, axis=1))[:, None]
    return fill_with_random(operator, orthonormalise(operator, rows)[0], b, rng)


def orthonormalise(operator: LinearOperator, W: Array, least: float | None = None) -> tuple[Array, Floats]:
    """Returns Q (r, n) and T (r, b), where Q = T W is orthonormal and r is the numerical rank of W (b, n).

    To decide on the rank takes a transfer to the host, unlike in `qr`.

    Args:
        operator: defines the array library and the precision.
        W: b vectors as rows (b, n), which may be dependent.
        least: the smallest singular value of W that counts for the rank; None: 10 eps times the largest.
    """
    Q, R = qr(operator, W)
    rotation, T = inverse_factor(arrays.to_host(R), 10 * arrays.eps(operator), least)
    return arrays.from_host(rotation, operator) @ Q, T


def qr(operator: LinearOperator, W: Array) -> tuple[Array, Array]:
    """Returns Q (b, n) orthonormal and R (b, b), both on the device, where W = R' Q (b, n).

    Where W is rank deficient, R is singular and some rows of Q are arbitrary.
    """
    Q, R = operator.xp.linalg.qr(W.T)
    return _contiguous(operator, Q.T), R


def inverse_factor(R: Floats, relative: float, least: float | None = None) -> tuple[Floats, Floats]:
    """Returns U (r, b) and T (r, b), where U Q = T W for W = R' Q, and U has orthonormal rows.

    Args:
        R: the factor (b, b).
        relative: the smallest singular value of R that counts for its rank r, relative to the largest one.
        least: the same value itself, in place of `relative`.
    """
    U, s, Vt = np.linalg.svd(R)
    keep = s > (relative * np.max(s, initial=0.0) if least is None else least)
    return U.T[keep, :], Vt[keep, :] / s[keep, None]


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


# -- long rows ---------------------------------------------------------------------------------------------


def combine(operator: LinearOperator, parts: Sequence[Array], Y: Floats) -> Array:
    """Returns Y [X1; X2; ...] for the parts X1, X2, ..., without stacking them."""
    coefficients, n = arrays.from_host(Y, operator), parts[0].shape[1]
    if not arrays.writeable(operator):
        return coefficients @ stacked(operator, parts, slice(0, n))
    found = operator.xp.empty((len(Y), n), dtype=operator.dtype, device=operator.device)
    for chunk in chunks(parts[0]):
        found = arrays.write(found, (slice(None), chunk), coefficients @ stacked(operator, parts, chunk))
    return found


def chunks(rows: Array) -> list[slice]:
    """Returns parts of the columns that fit into a processor's cache, or take little memory elsewhere."""
    n, width = rows.shape[1], CHUNK if arrays.on_processor(rows) else CHUNK_ON_ACCELERATOR
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def stacked(operator: LinearOperator, parts: Sequence[Array], chunk: slice) -> Array:
    """Returns the rows of all parts, in some of the columns."""
    return operator.xp.concat([part[:, chunk] for part in parts])
