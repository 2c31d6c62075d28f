"""XTrace: every random vector tests the sketch of all others (Epperly, Tropp and Webber 2024).

Each of k vectors w_i tests the sketch Q_i of the others: with u = w_i - Q_i Q_i'w_i on the sphere of its
complement, of dimension d, the estimate tr(Q_i'A Q_i) + u'A u is unbiased, and XTrace is the mean over i.
This differs from the paper in the interval. The paper's standard error is that of independent estimates,
but they share their sketches, and intervals from it cover too little (73 to 93 % at nominal 95 %):

1. The variance of one estimate, given its sketch, is measured by residuals, as in `intervals`.
2. The covariance of two of them is the mean of D_ij D_ji exactly, where D_ij is what estimate i changes when
   w_j joins its sketch: without it, estimate i does not depend on w_j, and its mean over w_i is the trace
   whatever the sketch. All D_ij follow from the small matrices at hand, without a product. Their mean is
   added if it is positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore_spectrum.intervals import IntervalEstimate, mean_of_tests, variance_of_mean

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats, Space
    from eigencore_spectrum.sketch import Sketch

COLUMNS = 16  # how many vectors are tested at once, which limits memory


@dataclass(frozen=True)
class LeaveOneOut:
    """The tests of all sketches, each without one vector; everything is on the host.

    Attributes:
        n: the dimension of the space.
        H: Q'A Q (q, q).
        S: the directions s_i (q, k) that are left out, see `Sketch.left_out`.
        W: Q'w_i (q, k).
        squares, values: |u|^2 and u'A u (k,) for u = w_i - Q_i Q_i'w_i.
        coupling: Q'A u (q, k).
        outside: the squared norms (k,) of the part of A u - rho u outside Q_i, where rho = u'A u / |u|^2.
    """

    n: int
    H: Floats
    S: Floats
    W: Floats
    squares: Floats
    values: Floats
    coupling: Floats
    outside: Floats

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def dimensions(self) -> Floats:
        """The dimension (k,) of the complement of each Q_i."""
        return np.asarray(self.n - self.S.shape[0] + np.any(self.S != 0, axis=0), dtype=np.float64)

    @property
    def in_sketch(self) -> Floats:
        """tr(Q_i'A Q_i) (k,)."""
        return np.asarray(np.trace(self.H) - np.sum(self.S * (self.H @ self.S), axis=0))

    @property
    def estimates(self) -> Floats:
        """The estimates of the trace (k,)."""
        return np.asarray(self.in_sketch + self.dimensions / self.squares * self.values)

    @property
    def variance(self) -> float:
        """The mean variance of an estimate, given its sketch."""
        return float(np.mean(2 * self.dimensions / self.squares * self.outside))

    @property
    def covariance(self) -> float:
        """The mean covariance of two estimates."""
        k = self.count
        if k < 2:
            return 0.0
        S, SHS = self.S, self.S.T @ self.H @ self.S
        used, overlaps = np.any(S != 0, axis=0), S.T @ S
        # Without w_j, sketch i has no s_ij either: s_j less its part along s_i, divided by its norm.
        left = 1 - overlaps**2
        present = used[None, :] & (left > 1e-12) & ~np.eye(k, dtype=bool)
        norms = np.sqrt(np.where(present, left, 1.0))

        def along(X: Floats) -> Floats:
            """s_ij'x_i (k, k) for the columns x_i of a matrix (q, k)."""
            return np.asarray(((S.T @ X).T - overlaps * np.sum(S * X, axis=0)[:, None]) / norms)

        curvature = (
            np.diag(SHS)[None, :] - 2 * overlaps * SHS + overlaps**2 * np.diag(SHS)[:, None]
        ) / norms**2
        b, c = along(self.W), along(self.coupling)
        tested = self.values[:, None] + 2 * b * c + b * b * curvature
        scale = (self.dimensions[:, None] + 1) / (self.squares[:, None] + b * b)
        without = self.in_sketch[:, None] - curvature + scale * tested
        D = np.where(present, self.estimates[:, None] - without, 0.0)
        return float(np.sum(D * D.T) / (k * (k - 1)))

    @property
    def value(self) -> float:
        """The mean of the estimates."""
        return float(self.estimates.mean())

    @property
    def variance_of_mean(self) -> float:
        return variance_of_mean(self.variance, self.covariance, self.count)

    def estimate(self, confidence: float) -> IntervalEstimate:
        """The mean of the estimates, with its interval."""
        return mean_of_tests(self.estimates, self.variance, self.covariance, confidence)


def leave_one_out(sketch: Sketch, omega: Array, Z: Array | None, space: LinearOperator) -> LeaveOneOut:
    """The tests of all sketches from one set of random vectors.

    Args:
        sketch: A omega = Q R.
        omega: the random vectors w_i (n, k).
        Z: A Q (n, q), or None if q = 0.
        space: the operator.
    """
    S, Q = sketch.left_out(), sketch.Q
    n, k = int(space.shape[0]), omega.shape[1]
    if Q is None or Z is None:  # A omega is zero
        (squares,) = arrays.to_host_at_once(arrays.total(space.xp.sum(omega * omega, axis=0), space))
        none, zero = np.zeros((0, k)), np.zeros(k)
        return LeaveOneOut(n, np.zeros((0, 0)), S, none, squares, zero, none, zero)
    H, W = (
        arrays.to_host(arrays.total(Q.T @ Z, space)),
        arrays.to_host(arrays.total(Q.T @ omega, space)),
    )
    X = W - S * np.sum(S * W, axis=0)
    parts = [
        _tested(sketch, omega, Z, X, S, slice(begin, min(begin + COLUMNS, k)), space)
        for begin in range(0, k, COLUMNS)
    ]
    squares, values, coupling, outside = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return LeaveOneOut(n, (H + H.T) / 2, S, W, squares, values, coupling, outside)


def _tested(
    sketch: Sketch, omega: Array, Z: Array, X: Floats, S: Floats, columns: slice, space: Space
) -> tuple[Floats, Floats, Floats, Floats]:
    """|u|^2, u'A u, Q'A u and the squared norm outside Q_i of A u - rho u, for some of the vectors."""
    xp, Q = space.xp, sketch.Q
    assert Q is not None
    x, r = (arrays.from_host(one[:, columns], space) for one in (X, sketch.R))
    U = omega[:, columns] - Q @ x
    AU = Q @ r - Z @ x
    sums = arrays.total(xp.stack([xp.sum(U * U, axis=0), xp.sum(U * AU, axis=0)]), space)
    rest = AU - (sums[1, :] / sums[0, :]) * U
    coupled = arrays.total(xp.concat([Q.T @ AU, xp.sum(rest * rest, axis=0)[None, :]]), space)
    both, coupled = arrays.to_host_at_once(sums, coupled)
    coupling, whole = coupled[:-1], coupled[-1]
    s = S[:, columns]
    # The part of A u - rho u along Q_i is that of A u, because u is orthogonal to Q_i.
    inside = coupling - s * np.sum(s * coupling, axis=0)
    return both[0], both[1], coupling, np.maximum(whole - np.sum(inside * inside, axis=0), 0.0)
