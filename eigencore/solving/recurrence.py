"""Where an eigenvalue can hide from a Lanczos run: the polynomial that has multiplied its random start.

The part of the j-th Lanczos vector along a unit eigenvector u with eigenvalue t is p(t) times that of the
start vector, also through thick restarts, with log|p(t)| = sum log|t - z| - sum log beta over the Ritz values
z, current and dropped, and over the couplings beta. No part exceeds 1, so that |p(t)| >= 1/delta implies
|u'v_0| <= delta. For a start that is uniform on the sphere, this has the probability eta (see
`smallest_part`). So an eigenvalue that the run has not found is where |p| < 1/delta, except with probability
eta. After J. van Dorsselaer, M. Hochstenbach and H. van der Vorst, Computing probabilistic bounds for extreme
eigenvalues of symmetric matrices, SIAM J. Matrix Anal. Appl. 22 (2000) 837-852, which has no restarts.

All zeros of p are real. Hence log|p| is concave between neighbouring zeros and increases beyond the outermost
ones: an interval without zeros is excluded if both its ends are. Points of a grid would not prove that.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Evidence

if TYPE_CHECKING:
    from eigencore.space import Floats

BISECTIONS = 50  # halvings of an interval
# A coupling below this many rounding units of ||A|| may be rounding error, and then counts as this much: it
# does not show that nothing is left. In float32, a random vector of many entries may have so small a part
# along an eigenvector that the product is as small, although the eigenvalue is far above the precision floor.
ROUNDING = 100


def smallest_part(n: int, eta: float) -> float:
    """The bound delta with P(|u'x| <= delta) = eta, for a fixed unit u and x uniform on the sphere in R^n.

    Example:
        from eigencore.solving.recurrence import smallest_part

        print(smallest_part(1000, 0.01))
    """
    if n < 2:
        return 0.5  # |u'x| is 1
    from scipy.special import betaincinv

    return max(math.sqrt(float(betaincinv(0.5, (n - 1) / 2, eta))), np.finfo(float).tiny)


class Recurrence:
    """The polynomial p of a run, from the evidence of its snapshots.

    Args:
        bound: delta, the bound of |u'v_0|; 0.0 if nothing is known of the start, so that nothing is excluded.

    Attributes:
        running: whether p still describes the run. A run that goes on with other directions no longer adds to
            what is excluded, but what is excluded stays so.
    """

    def __init__(self, bound: float):
        self.running = bound > 0
        self._log_bound = math.log(bound) if bound > 0 else -math.inf
        self._log_couplings = 0.0
        self._current: Floats = np.zeros(0)
        self._dropped: list[Floats] = []

    def add(self, evidence: Evidence | None, rounding: float = 0.0) -> None:
        """Takes the evidence of the next snapshot into account.

        Args:
            rounding: the size below which a coupling may be rounding error.
        """
        if evidence is None or evidence.coupling is None:
            self.running = False
        if not self.running or evidence is None or evidence.coupling is None:
            return
        self._current = np.asarray(evidence.ritz)
        if len(evidence.dropped):
            self._dropped.append(np.asarray(evidence.dropped))
        # 1.0 without an expansion, whatever the size of ||A||
        coupling = evidence.coupling if evidence.coupling == 1.0 else max(evidence.coupling, rounding)
        self._log_couplings += math.log(coupling) if coupling > 0 else -math.inf

    def open_beyond(self, threshold: float, sign: int, resolution: float) -> Floats:
        """The intervals beyond a threshold in which an eigenvalue may be hidden.

        Args:
            threshold: T; the end of the spectrum with sign * eigenvalue > T is examined.
            sign: 1 for the upper end, -1 for the lower one.
            resolution: the distance from a Ritz value below which p is rounding error.

        Returns:
            Disjoint intervals (m, 2) in ascending order of sign * eigenvalue, within (T, infinity).
        """
        zeros = np.sort(sign * np.concatenate([self._current, *self._dropped]))
        level = self._log_couplings - self._log_bound
        if not len(zeros) or level == math.inf or (level == -math.inf and self._log_bound == -math.inf):
            return np.array([[threshold, math.inf]])
        inside = zeros[zeros > threshold]
        # Between neighbouring zeros, what is excluded is one interval around the maximum of |p|, if any.
        left = np.concatenate([zeros[zeros <= threshold][-1:], inside])
        first = -math.inf if len(left) == len(inside) else left[0]
        gaps = [(first, *inside[:1])] if len(inside) else []
        gaps += list(pairwise(inside))
        excluded = [self._excluded_between(zeros, a, b, level, threshold) for a, b in gaps]
        excluded.append(self._excluded_above(zeros, max(zeros[-1], threshold), level))
        return _complement(threshold, excluded, inside, resolution)

    def _excluded_between(
        self, zeros: Floats, a: float, b: float, level: float, threshold: float
    ) -> tuple[float, float] | None:
        """The interval within (a, b), and beyond the threshold, in which |p| >= 1/delta; None if empty."""
        low, high = max(a, threshold), b
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            return None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            with np.errstate(divide="ignore"):  # the middle may be a zero of p
                slope = np.sum(1 / (middle - zeros))
            if slope > 0:
                low = middle
            else:
                high = middle
        peak = (low + high) / 2
        if not self._passes(zeros, peak, level):
            return None
        return self._end(zeros, peak, max(a, threshold), level), self._end(zeros, peak, b, level)

    def _excluded_above(self, zeros: Floats, last: float, level: float) -> tuple[float, float]:
        """The interval above the last zero, or the threshold, in which |p| >= 1/delta."""
        step = max(abs(last), float(np.ptp(zeros)), np.finfo(float).tiny)
        while not self._passes(zeros, last + step, level):
            step *= 2
        return self._end(zeros, last + step, last, level), math.inf

    def _end(self, zeros: Floats, inside: float, outside: float, level: float) -> float:
        """Where |p| = 1/delta between a point at which |p| is larger and one at which it may be smaller."""
        if self._passes(zeros, outside, level):
            return outside
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            if self._passes(zeros, middle, level):
                inside = middle
            else:
                outside = middle
        return inside

    def _passes(self, zeros: Floats, t: float, level: float) -> bool:
        distances = np.abs(t - zeros)
        return bool(np.all(distances > 0)) and float(np.sum(np.log(distances))) >= level


def _complement(
    threshold: float, excluded: list[tuple[float, float] | None], zeros: Floats, resolution: float
) -> Floats:
    """What is left of (threshold, infinity), joined where it overlaps; all around a zero is left."""
    known = [interval for interval in excluded if interval is not None]
    starts = [threshold, *(high for _, high in known)]
    ends = [*(low for low, _ in known), math.inf]
    left = [(low, high) for low, high in zip(starts, ends, strict=True) if high > low]
    left += [(max(threshold, zero - resolution), zero + resolution) for zero in zeros]
    joined: list[list[float]] = []
    for low, high in sorted(left):
        if low == math.inf:
            continue
        if joined and low <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    return np.array(joined).reshape(-1, 2)
