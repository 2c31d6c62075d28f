"""The search for repeated eigenvalues: what a new random chain of Lanczos vectors can exclude.

A chain of Lanczos vectors v_q, started from a random direction in the complement of the found pairs, has the
orthonormal polynomials p_q. If theta were a repeated eigenvalue with a missing unit eigenvector u, then
u'v_q = p_q(theta) u'v_1 with |u'v_q| <= 1. So |p_q(theta)| >= 1/delta implies |u'v_1| <= delta, which has
probability eta for a random start. After J. van Dorsselaer, M. Hochstenbach and H. van der Vorst, Computing
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

ETA = 0.1  # the probability of excluding a repeated eigenvalue that exists


@dataclass
class RepeatedSearch:
    """A chain that is followed until repeats are excluded, a repeat is found, or `max_steps` is reached.

    Attributes:
        request: the wanted pairs and their tolerance.
        values: the wanted Ritz values when the search began.
        points: the values for which a repeated eigenvalue would change the answer.
        floor: the precision floor, the residual norm due to rounding alone.
        delta: the bound of |u'v_1| in the docstring of the module.
        max_steps: the largest number of products to spend.
        previous, current: p_{q-1} and p_q at the points.
        beta: the coupling of the chain's last two vectors.
        steps: the number of products so far.
        found: whether the search has changed the wanted values.
    """

    request: Request
    values: Floats
    points: Floats
    floor: float
    delta: float
    max_steps: int
    previous: Floats
    current: Floats
    beta: float = 0.0
    steps: int = 0
    found: bool = False

    @classmethod
    def begin(
        cls, values: Floats, request: Request, floor: float, *, n: int, max_steps: int
    ) -> RepeatedSearch | None:
        """Returns a new search, or None if no repeat of any of the values would change the answer."""
        points = np.array(
            [t for t in np.unique(values) if _differ(values, _with_repeat(values, t, request), request)]
        )
        if len(points) == 0 or n <= request.k:
            return None
        from scipy.special import betaincinv

        free = n - request.k
        delta = math.sqrt(float(betaincinv(0.5, (free - 1) / 2, ETA))) if free > 1 else ETA
        zero, one = np.zeros(len(points)), np.ones(len(points))
        return cls(request, values, points, floor, delta, max_steps, zero, one)

    @property
    def excluded(self) -> bool:
        """Whether repeats are excluded at probability 1 - ETA."""
        return not self.found and bool(np.all(np.abs(self.current) >= 1 / self.delta))

    @property
    def finished(self) -> bool:
        return self.found or self.excluded or self.steps >= self.max_steps

    @property
    def settled(self) -> bool:
        """Whether no repeat was found, so that no further search is needed."""
        return not self.found

    @property
    def notes(self) -> tuple[str, ...]:
        if self.found:
            return ()
        if self.excluded:
            return (f"repeated eigenvalues excluded at {100 * (1 - ETA):.0f} %",)
        return (
            f"repeated eigenvalues not excluded: none found in {self.steps} products, "
            "which are too few to exclude them",
        )

    def record_step(self, basis: Basis, values: Floats) -> None:
        """Updates the search after one expansion of the chain.

        Args:
            basis: the basis after the expansion; the last diagonal entry of its T and its newest coupling are
                read.
            values: the wanted Ritz values after the expansion.
        """
        self.steps += 1
        self.found = _differ(self.values, values, self.request, self.floor)
        alpha = basis.T[-1, -1]
        beta = float(basis.C[-1, -1]) if basis.pending else 0.0
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            following = ((self.points - alpha) * self.current - self.beta * self.previous) / beta
        # Without a new direction, the chain spans an invariant space, and no repeat is missing outside it.
        following = np.where(np.isfinite(following), following, np.inf)
        self.previous, self.current, self.beta = self.current, following, beta


def _with_repeat(values: Floats, repeat: float, request: Request) -> Floats:
    """Returns the answer to the request if `repeat` were one more eigenvalue."""
    both = np.append(values, repeat)
    return both[request.order(both)]


def _differ(old: Floats, new: Floats, request: Request, floor: float = 0.0) -> bool:
    """Whether two answers, each in the request's order, differ by more than their tolerance allows."""
    allowed = 2 * request.thresholds(old, floor)
    return bool(np.any(np.abs(new - old) > allowed))
