"""Lanczos quadrature: the spectral measure of an operator seen from a random vector, and sharp bounds on it.

The spectral measure of A and a unit vector z puts the mass (u_i'z)^2 at each eigenvalue lambda_i. m steps of
the Lanczos process from z give a tridiagonal matrix T, whose eigenvalues and squared first components are the
nodes and weights of the Gauss quadrature of that measure, exact for polynomials of degree 2 m - 1 (Golub and
Meurant 2010, chapter 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats
    from eigencore_spectrum.complement import Complement

# How far from zero, in units of the largest node, the free diagonal entry of a Radau rule may lie: where it
# would be farther, the prescribed node is one of the Gauss rule, up to a share of 1e-8.
FARTHEST = 1e8


@dataclass(frozen=True)
class Quadrature:
    """The Gauss quadrature of the spectral measure of a unit vector.

    Attributes:
        diagonal: the diagonal (m,) of T.
        couplings: the entries (m,) beside it, the last of which couples T to the next step; 0.0 there if the
            vector lies in an invariant subspace of m dimensions. The measure then is the quadrature.
    """

    diagonal: Floats
    couplings: Floats

    @property
    def exhausted(self) -> bool:
        return bool(self.couplings[-1] == 0.0)

    @cached_property
    def _ritz_pairs(self) -> tuple[Floats, Floats]:
        return _eigenpairs(self.diagonal, self.couplings[:-1])

    def rule(self) -> tuple[Floats, Floats]:
        """The nodes (m,) in increasing order, and their weights (m,), which sum to 1."""
        nodes, vectors = self._ritz_pairs
        return nodes, vectors[0, :] ** 2

    def residuals(self) -> Floats:
        """The residual norms (m,) of the nodes as Ritz values."""
        _, vectors = self._ritz_pairs
        return np.asarray(self.couplings[-1] * np.abs(vectors[-1, :]))

    def shortened(self, steps: int) -> Quadrature:
        """The quadrature after at most this many steps."""
        return Quadrature(self.diagonal[:steps], self.couplings[:steps])

    def with_node_at(self, x: float) -> Quadrature:
        """The Gauss-Radau rule with a node at x, as an exhausted quadrature; itself if it is exhausted."""
        if self.exhausted:
            return self
        free = self._free(np.array([x]))
        return Quadrature(np.append(self.diagonal, free), np.append(self.couplings, 0.0))

    def bounds(self, x: Floats) -> tuple[Floats, Floats]:
        """Bounds on the mass of the measure at most x, for points x (g,): a lower one and an upper one (g,).

        No measure with these moments violates them, and some attain them: the Chebyshev-Markov-Stieltjes
        inequalities (Akhiezer 1965), which Chen, Trogdon and Ubaru 2021 use at the nodes of the Gauss rule.
        In the Gauss-Radau rule with a node at x, the mass below x is a lower bound of that of the measure
        below x, and together with the mass of that node an upper one of that up to x.
        """
        if self.exhausted:
            nodes, weights = self.rule()
            mass = np.concatenate([[0.0], np.cumsum(weights)])[np.searchsorted(nodes, x, side="right")]
            return mass, mass.copy()
        low, high = np.empty_like(x), np.empty_like(x)
        for i, free in enumerate(self._free(x)):
            nodes, vectors = _eigenpairs(np.append(self.diagonal, free), self.couplings)
            own = int(np.argmin(np.abs(nodes - x[i])))
            low[i] = np.sum(vectors[0, :own] ** 2)
            high[i] = low[i] + vectors[0, own] ** 2
        return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)

    def _free(self, x: Floats) -> Floats:
        """The last diagonal entry (g,) of Gauss-Radau rules, which puts a node at x (Golub 1973)."""
        scale = float(np.max(np.abs(self.diagonal)) + 2 * np.max(self.couplings))
        ratio = self._last_ratio(x)
        with np.errstate(divide="ignore"):
            free = x - np.where(ratio == 0, np.inf, self.couplings[-1] / np.where(ratio == 0, 1.0, ratio))
        limit = FARTHEST * max(scale, float(np.max(np.abs(x))))
        return np.clip(np.nan_to_num(free, posinf=limit, neginf=-limit), -limit, limit)

    def _last_ratio(self, x: Floats) -> Floats:
        """p_m(x) / p_{m-1}(x) of the orthonormal polynomials of the measure, by their recurrence."""
        tiny = np.finfo(np.float64).tiny
        ratio: Floats = (x - self.diagonal[0]) / self.couplings[0]
        for j in range(1, len(self.diagonal)):
            before = np.where(np.abs(ratio) < tiny, tiny, ratio)
            ratio = ((x - self.diagonal[j]) - self.couplings[j - 1] / before) / self.couplings[j]
        return ratio


def quadratures(known: Complement, Z: Array, steps: int) -> Iterator[list[Quadrature]]:
    """The quadratures of the columns of Z (n, b) on the complement, after every step of b products.

    All vectors of a recurrence are kept, and each new one is orthogonalised twice against them and the known
    eigenvectors: without that, converged nodes come back as copies, whose weights are right only together.

    Args:
        Z: vectors of any length in the complement, not zero.
        steps: the largest number of steps; fewer if the complement is exhausted.

    Raises:
        NotFiniteError: the recurrence is not finite, because the vectors or the products overflow.
    """
    operator, xp = known.operator, known.operator.xp
    n, b = Z.shape
    steps = min(steps, known.dimension)
    basis = arrays.zeros((b, steps, n), operator)
    Q = Z.T / _norms(Z, operator)[:, None]
    diagonal, couplings, norm = np.zeros((b, steps)), np.zeros((b, steps)), 0.0
    for j in range(steps):
        basis = arrays.write(basis, (slice(None), j, slice(None)), Q)
        W = known.project(_products(known, Q.T)).T
        alpha = arrays.total(xp.sum(Q * W, axis=1), operator)
        kept = basis[:, : j + 1, :] if arrays.writeable(operator) else basis
        for _ in range(2):
            along = arrays.total(xp.matmul(kept, W[:, :, None]), operator)
            W = W - xp.matmul(xp.matrix_transpose(kept), along)[:, :, 0]
        beta = _norms(W.T, operator)
        diagonal[:, j], couplings[:, j] = arrays.to_host_at_once(alpha, beta)
        if not np.isfinite(diagonal[:, j] + couplings[:, j]).all():
            raise NotFiniteError("a step of the Lanczos process is not finite", hint="Try float64.")
        norm = max(norm, float(np.max(np.abs(diagonal[:, j]) + couplings[:, j])))
        # A coupling of rounding errors alone: the vectors are in an invariant subspace.
        ended = (couplings[:, j] <= 100 * arrays.eps(operator) * norm) | (j + 1 == known.dimension)
        couplings[ended, j] = 0.0
        yield [Quadrature(diagonal[i, : j + 1].copy(), couplings[i, : j + 1].copy()) for i in range(b)]
        if ended.any():
            return
        Q = W / beta[:, None]


def _products(known: Complement, X: Array) -> Array:
    """A X for a block of one or several columns."""
    operator = known.operator
    return operator.matvec(X[:, 0])[:, None] if X.shape[1] == 1 else operator.matmat(X)


def _norms(X: Array, operator: LinearOperator) -> Array:
    """The norms (b,) of the columns of X (n, b), on the device."""
    xp = arrays.namespace(X)
    return xp.sqrt(arrays.total(xp.sum(X * X, axis=0), operator))


def _eigenpairs(diagonal: Floats, couplings: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (m,) in increasing order and eigenvectors (m, m) of a symmetric tridiagonal matrix.

    This takes m^2 operations, and none of the threads that would wait for each other on many small matrices.
    """
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(diagonal, couplings, check_finite=False, lapack_driver="stemr")
    return values, vectors
