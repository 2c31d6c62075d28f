"""An orthonormal basis of the range of a matrix, from its products with random vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space

# A column whose part outside the basis is this many rounding units of it adds no direction.
NEGLIGIBLE = 100


@dataclass(frozen=True)
class Sketch:
    """A factorisation Y = Q R of products Y (n, k), which grows by columns.

    Attributes:
        Q: orthonormal columns (n, q), q <= k; None if q = 0.
        R: the coefficients (q, k) of the columns of Y, on the host.
    """

    Q: Array | None
    R: Floats

    @staticmethod
    def empty() -> Sketch:
        return Sketch(None, np.zeros((0, 0)))

    def extended(self, Y: Array, space: Space) -> Sketch:
        """The factorisation of the columns so far and those of Y (n, b), one after the other."""
        xp, Q, R = space.xp, self.Q, self.R
        for j in range(Y.shape[1]):
            y = Y[:, j]
            coefficients, before = np.zeros(R.shape[0]), arrays.norm(y, space)
            for _ in range(2):
                if Q is None:
                    break
                step = arrays.total(Q.T @ y, space)
                y, coefficients = y - Q @ step, coefficients + arrays.to_host(step)
            R = np.concatenate([R, coefficients[:, None]], axis=1)
            length = arrays.norm(y, space)
            if length <= NEGLIGIBLE * arrays.eps(space) * before:
                continue
            R = np.concatenate([R, np.zeros((1, R.shape[1]))])
            R[-1, -1] = length
            new = (y / length)[:, None]
            Q = new if Q is None else xp.concat([Q, new], axis=1)
        return Sketch(Q, R)

    def outside(self, X: Array, space: Space) -> Array:
        """X - Q Q'X for a block X (n, b), twice, so that rounding leaves nothing along Q."""
        Q = self.Q
        if Q is None:
            return X
        for _ in range(2):
            X = X - Q @ arrays.total(Q.T @ X, space)
        return X

    def left_out(self) -> Floats:
        """Unit vectors s_i (q, k): without column i of Y, its range is that of Q orthogonal to Q s_i.

        s_i is zero if the other columns span the same space. They are the normalised columns of R^-T, or of
        the pseudoinverse if there are fewer rows than columns (Epperly, Tropp and Webber 2024).
        """
        q = self.R.shape[0]
        if not q:
            return np.zeros_like(self.R)
        P, U = np.linalg.qr(self.R.T)
        S: Floats = solve_triangular(U, P.T)
        lengths = np.linalg.norm(S, axis=0)
        essential = np.sum(P * P, axis=1) > 1 - 1e-10
        return np.where(essential, S / np.where(lengths > 0, lengths, 1.0), 0.0)
