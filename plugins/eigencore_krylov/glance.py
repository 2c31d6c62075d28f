"""Whether further copies of found eigenvalues hide: what a fresh random chain can exclude.

A chain of Lanczos vectors started from a random direction in the complement of the found pairs has the
orthonormal polynomials p_q. If a copy of theta were left, its unit eigenvector u would have
u'v_q = p_q(theta) u'v_1 with |u'v_q| <= 1; so |p_q(theta)| >= 1/delta means |u'v_1| <= delta, which for a
random start has probability eta. After J. van Dorsselaer, M. Hochstenbach and H. van der Vorst, Computing
probabilistic bounds for extreme eigenvalues of symmetric matrices, SIAM J. Matrix Anal. Appl. 22 (2000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eigencore.request import Request
    from eigencore.space import Floats
    from eigencore_krylov.basis import Basis

ETA = 0.1


@dataclass
class Glance:
    """A chain that is followed until copies at `points` are excluded, one is found, or `cap` is reached.

    `values` are those found before it; `previous` and `current` are p_{q-1} and p_q at the points, `beta`
    couples the chain's last two vectors.
    """

    request: Request
    values: Floats
    points: Floats
    floor: float
    delta: float
    cap: int
    previous: Floats
    current: Floats
    beta: float = 0.0
    steps: int = 0
    found: bool = False

    @classmethod
    def of(cls, values: Floats, request: Request, floor: float, *, n: int, cap: int) -> Glance | None:
        """None where no copy could hide: a further copy of any of the values would not change the answer."""
        points = np.array(
            [t for t in np.unique(values) if _differ(values, _joined(values, t, request), request)]
        )
        if len(points) == 0 or n <= request.k:
            return None
        from scipy.special import betaincinv

        free = n - request.k
        delta = math.sqrt(float(betaincinv(0.5, (free - 1) / 2, ETA))) if free > 1 else ETA
        zero, one = np.zeros(len(points)), np.ones(len(points))
        return cls(request, values, points, floor, delta, cap, zero, one)

    @property
    def excluded(self) -> bool:
        return not self.found and bool(np.all(np.abs(self.current) >= 1 / self.delta))

    @property
    def over(self) -> bool:
        return self.found or self.excluded or self.steps >= self.cap

    @property
    def settled(self) -> bool:
        """Nothing was found, so that looking is over."""
        return not self.found

    @property
    def notes(self) -> tuple[str, ...]:
        if self.found:
            return ()
        if self.excluded:
            return (f"copies excluded at {100 * (1 - ETA):.0f} %: none of a found eigenvalue is missing",)
        return (f"that no copy is missing is not shown: {self.steps} products looked for one",)

    def follow(self, basis: Basis, values: Floats) -> None:
        """Takes in one expansion of the chain: its last vector's row of T, and its new coupling."""
        self.steps += 1
        self.found = _differ(self.values, values, self.request, self.floor)
        alpha = basis.T[-1, -1]
        beta = float(basis.C[-1, -1]) if basis.pending else 0.0
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            following = ((self.points - alpha) * self.current - self.beta * self.previous) / beta
        # No direction left: the chain spans an invariant space, and what is not in it does not exist.
        following = np.where(np.isfinite(following), following, np.inf)
        self.previous, self.current, self.beta = self.current, following, beta


def _joined(values: Floats, copy: float, request: Request) -> Floats:
    both = np.append(values, copy)
    return both[request.order(both)]


def _differ(old: Floats, new: Floats, request: Request, floor: float = 0.0) -> bool:
    """Whether two answers, each in the request's order, differ by more than their tolerance allows."""
    allowed = 2 * request.thresholds(old, floor)
    return bool(np.any(np.abs(new - old) > allowed))
