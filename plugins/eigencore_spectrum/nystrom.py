"""XNysTrace (Epperly, Tropp and Webber 2024): the trace of semidefinite operators by one product per vector.

The Nystrom approximation of A from random vectors W is Y G^-1 Y' with Y = A W and G = W'Y. A_i is the one
without vector i; A - A_i is zero on the other vectors. So with u_i, the part of w_i outside their span, the
estimate tr A_i + d_i u_i'(A - A_i)u_i / |u_i|^2, with the dimension d_i of the complement of that span, is
unbiased, and XNysTrace is the mean over i. It takes no further product: with Z = Y G^-1 and g = G^-1,

    A - A_i = A - Y G^-1 Y' + z_i z_i' / g_ii  and  (A - A_i) u_i = z_i / g_ii.

This differs from the paper in the interval, as in `leave_one_out`: the variance of a test is measured by its
residual, and the covariance of two tests is the mean of D_ij D_ji, where D_ij is what test i changes when
vector j is left out, which the same small matrices yield.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from eigencore import arrays
from eigencore.errors import CapabilityError
from eigencore_spectrum.intervals import IntervalEstimate, mean_of_tests

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space

SHIFT = 10.0  # rounding units of the norm that are added to A, so that the factorisation of G exists


@dataclass(frozen=True)
class NystromTests:
    """The tests of k Nystrom approximations, each without one vector; everything is on the host.

    Attributes:
        dimension: the dimension d of the space of the vectors.
        shift: what was added to A.
        trace: the trace of Y G^-1 Y'.
        g: G^-1 (k, k).
        ZZ: Z'Z (k, k).
        c: (W'W)^-1 (k, k).
        square: an estimate of the squared Frobenius norm of A.
    """

    dimension: int
    shift: float
    trace: float
    g: Floats
    ZZ: Floats
    c: Floats
    square: float

    @property
    def count(self) -> int:
        return len(self.g)

    @property
    def estimates(self) -> Floats:
        """The estimates of the trace of A (k,)."""
        g, ZZ, c = np.diag(self.g), np.diag(self.ZZ), np.diag(self.c)
        tests = (self.dimension - self.count + 1) * c / g
        return np.asarray(self.trace - ZZ / g + tests - self.shift * self.dimension)

    @property
    def variance(self) -> float:
        """The mean variance of an estimate, given the other vectors."""
        g, ZZ, c = np.diag(self.g), np.diag(self.ZZ), np.diag(self.c)
        left = self.dimension - self.count + 1
        residuals = np.maximum(ZZ / g**2 - c / g**2, 0.0)
        return float(np.mean(2 * left * c * residuals))

    @property
    def covariance(self) -> float:
        """The mean covariance of two estimates."""
        k = self.count
        if k < 2 or not self.square:
            return 0.0
        own, other = np.diag(self.g)[:, None], np.diag(self.g)[None, :]
        determinant = own * other - self.g**2
        apart = ~np.eye(k, dtype=bool) & (determinant > 1e-12 * own * other)
        determinant = np.where(apart, determinant, 1.0)
        # The inverse of g for the pair i, j is that of A without both vectors.
        both = np.diag(self.ZZ)[:, None] * other - 2 * self.g * self.ZZ + np.diag(self.ZZ)[None, :] * own
        outside = np.diag(self.c)[:, None] - self.c**2 / np.diag(self.c)[None, :]  # 1 / |u_i|^2 without w_j
        tests = (self.dimension - k + 2) * outside * other / determinant
        without = self.trace - both / determinant + tests - self.shift * self.dimension
        D = np.where(apart, self.estimates[:, None] - without, 0.0)
        return float(np.sum(D * D.T) / (k * (k - 1)))

    def estimate(self, confidence: float) -> IntervalEstimate:
        """The mean of the estimates, with its interval."""
        return mean_of_tests(self.estimates, self.variance, self.covariance, confidence)


def nystrom_tests(W: Array, Y: Array, dimension: int, space: Space) -> NystromTests:
    """The tests from random vectors W (n, k) and their products Y = A W (n, k).

    Args:
        dimension: d, if the vectors are from a subspace.

    Raises:
        CapabilityError: the operator is not positive semidefinite.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore_spectrum.nystrom import nystrom_tests

        A, rng = np.diag(1 / np.arange(1.0, 101.0) ** 2), np.random.default_rng(0)
        W = rng.standard_normal((100, 20))
        found = nystrom_tests(W, A @ W, 100, as_operator(A)).estimate(0.95)
        assert found.low < np.trace(A) < found.high
    """
    C, G, YY = (arrays.to_host(arrays.total(one, space)) for one in (W.T @ W, W.T @ Y, Y.T @ Y))
    norm = math.sqrt(float(np.max(np.diag(YY) / np.diag(C))))
    if not norm:  # A W is zero, and with it every test
        zero = np.zeros_like(C)
        return NystromTests(dimension, 0.0, 0.0, g=np.eye(len(C)), ZZ=zero, c=zero, square=0.0)
    shift, G = SHIFT * arrays.eps(space) * norm, (G + G.T) / 2
    try:
        L = np.linalg.cholesky(G + shift * C)
    except np.linalg.LinAlgError:
        least = float(np.min(np.linalg.eigvalsh(G)))
        raise CapabilityError(
            "xnystrace is for positive semidefinite operators, and this one has negative eigenvalues: "
            f"w'Aw is {least:.3g} for a combination w of the random vectors",
            hint="Choose the method xtrace or adaptive; or a kind that is semidefinite, such as ggn.",
        ) from None
    inverse: Floats = solve_triangular(L, np.eye(len(L)), lower=True)
    F = (Y + shift * W) @ arrays.from_host(inverse.T, space)
    FF = arrays.to_host(arrays.total(F.T @ F, space))
    return NystromTests(
        dimension=dimension,
        shift=shift,
        trace=float(np.trace(FF)),
        g=inverse.T @ inverse,
        ZZ=inverse.T @ FF @ inverse,
        c=np.asarray(np.linalg.inv(C), dtype=np.float64),
        square=dimension * float(np.mean(np.diag(YY) / np.diag(C))),
    )
