"""Stochastic Lanczos quadrature: z'f(B)z for any function f, from the recurrence that starts at z.

The eigenvalues of the tridiagonal matrix T are nodes, and the squared first components of its eigenvectors
are weights, of a quadrature for the measure in which B distributes z; it is exact for polynomials of degree
2 q - 1 after q products (Golub and Meurant 1994; Ubaru, Chen and Saad 2017). The vectors are
reorthogonalised. Otherwise, nodes are spent on copies of eigenvalues that have been found, which in float32
happens within twenty steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh_tridiagonal

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats
    from eigencore_spectrum.complement import Complement

NEGLIGIBLE = 100  # a coupling of this many rounding units of the largest one ends a recurrence


@dataclass(frozen=True)
class Quadrature:
    """The recurrence from one vector of norm 1.

    Attributes:
        alpha, beta: the diagonal (q,) and the couplings (q,); the last coupling is to the next vector.
    """

    alpha: Floats
    beta: Floats

    @property
    def ended(self) -> bool:
        """Whether the vectors so far span an invariant subspace, in which the quadrature is exact."""
        return bool(self.beta[-1] == 0)

    def shortened(self, steps: int) -> Quadrature:
        """The recurrence after at most this many products."""
        return Quadrature(self.alpha[:steps], self.beta[:steps])

    def with_node_at_zero(self) -> Quadrature:
        """The Gauss-Radau rule with a node at 0 (Golub 1973), or this rule if it is exact.

        Where many eigenvalues are 0, and f has a cusp there, its error decreases steadily with the number of
        steps. That of the Gauss rule does not: whether one of its nodes is near 0 varies from step to step.
        """
        if self.ended:
            return self
        pivot, tiny = self.alpha[0], np.finfo(float).tiny
        for alpha, coupling in zip(self.alpha[1:], self.beta[:-1], strict=True):
            pivot = alpha - coupling * (coupling / (pivot or tiny))
        last = self.beta[-1] * (self.beta[-1] / (pivot or tiny))
        if not np.isfinite(last):  # 0 is a node already
            return self
        return Quadrature(np.append(self.alpha, last), np.append(self.beta, 0.0))

    def rule(self) -> tuple[Floats, Floats, Floats]:
        """Nodes in increasing order, their weights, and their residual norms as Ritz values, each (q,)."""
        nodes, vectors = eigh_tridiagonal(self.alpha, self.beta[:-1])
        return nodes, vectors[0] ** 2, self.beta[-1] * np.abs(vectors[-1])


def lanczos(known: Complement, Z: Array, steps: int) -> Iterator[list[Quadrature]]:
    """The recurrences of PAP from the columns of Z (n, b) of norm 1, after each step: b products each.

    It ends early if all of them have ended.

    Args:
        Z: columns in the complement.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore_spectrum.complement import Complement
        from eigencore_spectrum.quadrature import lanczos

        known = Complement(as_operator(np.diag([3.0, 2.0, 1.0])), np.zeros(0), np.zeros(0), None)
        *_, (last,) = lanczos(known, np.full((3, 1), 3**-0.5), steps=3)
        nodes, weights, _ = last.rule()
        np.testing.assert_allclose(nodes, [1, 2, 3])
        np.testing.assert_allclose(weights, 1 / 3)
    """
    operator, xp, eps = known.operator, known.operator.xp, arrays.eps(known.operator)
    b = Z.shape[1]
    alpha, beta = np.zeros((0, b)), np.zeros((0, b))
    ends: list[int | None] = [None] * b
    basis = [Z]
    for step in range(1, steps + 1):
        W = known.multiply(Z)
        a = arrays.total(xp.sum(Z * W, axis=0), operator)
        for _ in range(2):
            for U in reversed(basis):
                W = W - U * arrays.total(xp.sum(U * W, axis=0), operator)
        found, squares = arrays.to_host_at_once(a, arrays.total(xp.sum(W * W, axis=0), operator))
        alpha, couplings = np.vstack([alpha, found]), np.sqrt(squares)
        scale = np.maximum(np.abs(alpha).max(axis=0), beta.max(axis=0, initial=0.0))
        couplings[couplings <= NEGLIGIBLE * eps * scale] = 0.0
        beta = np.vstack([beta, couplings])
        ends = [
            step if end is None and not coupling else end
            for end, coupling in zip(ends, couplings, strict=True)
        ]
        yield [Quadrature(alpha[:end, j], beta[:end, j]) for j, end in enumerate(ends)]
        if None not in ends:
            return
        Z = W * arrays.from_host(_inverse(couplings)[None, :], operator)
        basis.append(Z)


def _inverse(x: Floats) -> Floats:
    """1 / x, and 0 for 0: a recurrence that has ended goes on with zeros."""
    return np.divide(1.0, x, out=np.zeros_like(x), where=x > 0)


def integral(rule: tuple[Floats, Floats, Floats], f: Callable[[Floats], Floats]) -> tuple[float, float]:
    """z'f(B)z and |f(B)z - rho z|^2, where rho = z'f(B)z, for z of norm 1."""
    nodes, weights, _ = rule
    values = f(nodes)
    mean = float(weights @ values)
    return mean, float(weights @ (values - mean) ** 2)
