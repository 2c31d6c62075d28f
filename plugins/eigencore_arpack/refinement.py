"""Rayleigh-Ritz on a basis that grows by residuals: it adds missed eigenvectors to pairs that are known.

The basis begins with the known vectors and the directions sent by the core. Each step multiplies the residual
of a pair that has not converged, orthogonalised, and adds it to the basis. From vectors with residuals in a
Krylov space, this is what Lanczos does from them; as the basis and its products are kept, residuals are exact,
and tested after every product. A full basis is replaced by its best Ritz vectors (Davidson's method without
a preconditioner: Crouzeix, Philippe & Sadkane, SIAM J. Sci. Comput. 15, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore.request import Request, precision_floor
from eigencore_arpack.products import HostProduct

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

# Give up if the worst residual has not halved while the basis was filled this often.
PATIENCE = 10


@dataclass
class RitzBasis:
    """An orthonormal basis, its products, and the Ritz pairs that answer the request; all on the host.

    Attributes:
        size: the most vectors of the basis.
        S, AS: the basis (n, m) and its products.
        values, vectors, residuals: the Ritz pairs, in the order of the request: (p,), (n, p), (p,).
        converged: whether all k residuals are below the thresholds of the request.
    """

    product: HostProduct
    request: Request
    size: int
    S: Floats
    AS: Floats = field(init=False)
    values: Floats = field(init=False)
    vectors: Floats = field(init=False)
    residuals: Floats = field(init=False)
    converged: bool = False

    def __post_init__(self) -> None:
        V, self.S = self.S, self.S[:, :0]
        self.AS = self.S
        self.add(V)

    def add(self, X: Floats) -> None:
        """Adds directions (n, b) to the basis: b products, and fewer if the basis contains some already."""
        kept = X / np.linalg.norm(X, axis=0)
        for _ in range(2):
            kept = kept - self.S @ (self.S.T @ kept)
        Q, lengths, _ = np.linalg.svd(kept, full_matrices=False)
        Q = Q[:, lengths > self.product.eps]
        Q = Q - self.S @ (self.S.T @ Q)  # what the division by a small length has magnified
        if Q.shape[1]:
            Q = np.linalg.qr(Q)[0]
            self.S, self.AS = np.hstack([self.S, Q]), np.hstack([self.AS, self.product(Q)])

    def converge(self) -> None:
        """Adds residuals until all pairs have converged, or nothing improves any more."""
        best, patience = np.inf, PATIENCE * self.size
        while True:
            R, excess = self._solve()
            if self.converged:
                return
            worst = int(np.argmax(excess))
            if excess[worst] < best / 2:
                best, patience = excess[worst], PATIENCE * self.size
            before, patience = self.S.shape[1], patience - 1
            if patience < 0 or before == len(self.S):
                return
            if before >= self.size:
                self._restart()
                before = self.S.shape[1]
            self.add(R[:, worst : worst + 1])
            if self.S.shape[1] == before:
                return

    def _solve(self) -> tuple[Floats, Floats]:
        """Rayleigh-Ritz. Returns the residuals (n, p), and their norms relative to the thresholds."""
        theta, C = self._ritz()
        wanted = self.request.order(theta)
        self.values = theta[wanted]
        self.vectors = self.S @ C[:, wanted]
        R = self.AS @ C[:, wanted] - self.vectors * self.values
        self.residuals = np.linalg.norm(R, axis=0)
        floor = precision_floor(self.product.eps, self.product.norm)
        thresholds = self.request.thresholds(self.values, floor)
        self.converged = len(wanted) == self.request.k and bool(np.all(self.residuals <= thresholds))
        return R, self.residuals / np.maximum(thresholds, np.finfo(float).tiny)

    def _ritz(self) -> tuple[Floats, Floats]:
        H = self.S.T @ self.AS
        theta, C = np.linalg.eigh((H + H.T) / 2)
        return theta, C

    def _restart(self) -> None:
        theta, C = self._ritz()
        keep: npt.NDArray[np.int64] = replace(self.request, k=(self.request.k + self.size) // 2).order(theta)
        self.S, self.AS = self.S @ C[:, keep], self.AS @ C[:, keep]
