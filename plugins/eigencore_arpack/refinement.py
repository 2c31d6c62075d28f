"""Rayleigh-Ritz on a basis that grows by residuals: it adds missed eigenvectors to known pairs.

The basis begins with the known vectors and the directions that the core sends. Each step makes one product,
with the residual of the worst pair, and adds it to the basis. As in Lanczos, the basis grows into a Krylov
space; but it may begin with any vectors, and since their products are kept, residuals are exact and are
tested after every product. A full basis is replaced by its best Ritz vectors. This is Davidson's method
without a preconditioner: M. Crouzeix, B. Philippe and M. Sadkane, The Davidson method, SIAM J. Sci. Comput.
15 (1994) 62-76.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore.request import Request, precision_floor
from eigencore_arpack.products import HostProduct

if TYPE_CHECKING:
    from eigencore.space import Floats

# Give up if the worst residual has not halved while the basis was filled this often.
PATIENCE = 10


@dataclass
class RitzBasis:
    """An orthonormal basis, its products, and the Ritz pairs that answer the request, in float64 on the host.

    Attributes:
        size: the number of vectors at which the basis is full.
        S: the basis (n, m); at first, the known vectors, which need not be orthonormal.
        AS, H: the products of the basis (n, m), and S'AS (m, m).
        values, vectors, residuals: the Ritz pairs, in the order of the request: (p,), (n, p), (p,).
        converged: whether there are k pairs, and all residuals are below the thresholds of the request.
    """

    product: HostProduct
    request: Request
    size: int
    S: Floats
    AS: Floats = field(init=False)
    H: Floats = field(init=False)
    values: Floats = field(init=False)
    vectors: Floats = field(init=False)
    residuals: Floats = field(init=False)
    converged: bool = False

    def __post_init__(self) -> None:
        V = np.asarray(self.S, dtype=np.float64)
        self.S = V[:, :0]
        self.AS, self.H = self.S, np.zeros((0, 0))
        self.add(V)

    def add(self, X: Floats) -> None:
        """Adds directions (n, b) to the basis: b products, and fewer if the basis contains some already."""
        kept = X / np.linalg.norm(X, axis=0)
        for _ in range(2):
            kept = kept - self.S @ (self.S.T @ kept)
        Q, lengths, _ = np.linalg.svd(kept, full_matrices=False)
        Q = Q[:, lengths > self.product.eps]
        Q = Q - self.S @ (self.S.T @ Q)  # what the division by a small length has magnified
        if Q.shape[1] == 0:
            return
        Q = np.linalg.qr(Q)[0]
        AQ = self.product(Q)
        border, corner = self.S.T @ AQ, Q.T @ AQ
        self.H = np.block([[self.H, border], [border.T, (corner + corner.T) / 2]])
        self.S, self.AS = np.hstack([self.S, Q]), np.hstack([self.AS, AQ])

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
        theta, C = np.linalg.eigh(self.H)
        wanted = self.request.order(theta)
        self.values, self.vectors = theta[wanted], self.S @ C[:, wanted]
        R = self.AS @ C[:, wanted] - self.vectors * self.values
        self.residuals = np.linalg.norm(R, axis=0)
        floor = precision_floor(self.product.eps, self.product.norm)
        thresholds = self.request.thresholds(self.values, floor)
        self.converged = len(wanted) == self.request.k and bool(np.all(self.residuals <= thresholds))
        return R, self.residuals / np.maximum(thresholds, np.finfo(float).tiny)

    def _restart(self) -> None:
        """Replaces the basis by the Ritz vectors nearest to the requested end, about half of them."""
        theta, C = np.linalg.eigh(self.H)
        keep = replace(self.request, k=(self.request.k + self.size) // 2).order(theta)
        self.S, self.AS = self.S @ C[:, keep], self.AS @ C[:, keep]
        # Not diag(theta): the rounding errors of many restarts would add up to more than the precision floor.
        H = self.S.T @ self.AS
        self.H = (H + H.T) / 2
