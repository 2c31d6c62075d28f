"""A short Lanczos chain in the complement of known pairs: it shows that nothing was missed, or what was.

The chain multiplies a random vector x by B = (I - V V') A (I - V V'). As in `recurrence`, |p_q(t)| >= 1/delta
for one of its polynomials p_q shows that no eigenvalue of B is t, except with probability eta; p_q increases
beyond its largest zero, so that none is above t. A ratio p_q / p_{q-1} of the wrong sign shows that a zero,
a Ritz value of B, lies beyond t; then so does an eigenvalue. Rounding makes the vectors of the chain lose
their orthogonality, but this changes no verdict, because the two conditions exclude each other. Three
vectors are held, and one for each end: the sum of p_q(t) v_q, which is the Ritz vector if t is a Ritz value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.solving.recurrence import BISECTIONS, ROUNDING

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats


@dataclass
class ChainEnd:
    """One end of the spectrum: is an eigenvalue of sign * B beyond the threshold?

    Attributes:
        sign: 1 for the upper end, -1 for the lower one.
        threshold: t.
        ratio: p_q(t) / p_{q-1}(t).
        log_p, largest: log|p_q(t)|, and the largest of it so far; less if a coupling was rounding error.
        total: the sum of p_q(t) v_q so far, divided by exp(scale).
        found: whether a Ritz value lies beyond t.
        excluded: whether no eigenvalue does.
    """

    sign: int
    threshold: float
    ratio: float = math.inf
    log_p: float = 0.0
    largest: float = 0.0
    total: Array = None
    found: bool = False
    excluded: bool = False


@dataclass
class Chain:
    """Lanczos on the complement of V, a product at a time.

    Attributes:
        operator: A, of shape (n, n); its products are counted.
        V: orthonormal vectors (n, k).
        start: a random vector (n,).
        ends: what is asked.
        bound: delta in the docstring of the module.
        norm: a lower bound of ||A||.
    """

    operator: LinearOperator
    V: Array
    start: Array
    ends: tuple[ChainEnd, ...]
    bound: float
    norm: float
    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)  # betas[q] is the coupling of v_q and v_{q+1}

    def __post_init__(self) -> None:
        x = self._outside(self._outside(self.start))
        self._v, self._before = x / arrays.norm(x, self.operator), None
        for end in self.ends:
            end.total = 1.0 * self._v

    @property
    def finished(self) -> bool:
        """Whether an eigenvalue was found at one end, or excluded at every end."""
        return self.found or all(end.excluded for end in self.ends)

    @property
    def found(self) -> bool:
        return any(end.found for end in self.ends)

    @property
    def _rounding(self) -> float:
        """The size below which a coupling may be rounding error."""
        return ROUNDING * arrays.eps(self.operator) * self.norm

    def step(self) -> None:
        """Makes one product, and examines each end.

        Raises:
            NotFiniteError: the product is not finite.
        """
        w, before = self.operator.matvec(self._v), self.betas[-1] if self.betas else 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not finite show in beta
            w = self._outside(w)
            along = arrays.total(self._v @ w, self.operator)
            w = w - along * self._v
            if self._before is not None:
                w = w - before * self._before
            w = self._outside(w)
        # The only transfer to the host in a step.
        alpha, quick = (
            float(one) for one in arrays.to_host_at_once(along, arrays.quick_norm(w, self.operator))
        )
        beta = arrays.safe_norm(quick, w, self.operator)
        if not math.isfinite(beta):
            raise NotFiniteError("a product is not finite")
        self.alphas.append(alpha)
        self.betas.append(beta)
        self.norm = max(self.norm, abs(alpha), beta)
        if beta > 0:
            self._before, self._v = self._v, w / beta
        for end in self.ends:
            self._examine(end, alpha, before, beta)

    def _examine(self, end: ChainEnd, alpha: float, before: float, beta: float) -> None:
        numerator = end.threshold - end.sign * alpha - before / end.ratio
        if numerator < 0 or (numerator == 0 and beta > 0):
            end.found, end.excluded = True, False
            return
        end.ratio = numerator / beta if beta > 0 else math.inf
        if end.excluded:
            return
        if beta == 0:  # the space is exhausted
            end.excluded = True
            return
        # If beta is rounding error, the part along an eigenvector may have changed by as much. The next
        # vector then is rounding error, too, and serves as well as any other.
        end.log_p += math.log(numerator / max(beta, self._rounding))
        end.largest = max(end.largest, end.log_p)
        end.excluded = end.largest >= -math.log(self.bound)
        # The Lanczos vectors of -B have alternating signs.
        size = math.exp(end.log_p) * (end.sign if len(self.alphas) % 2 else 1)
        end.total = end.total + size * self._v

    def missed(self) -> Array:
        """Directions (n, b) of norm 1 with a large part along missed eigenvectors, one for each such end."""
        columns = [end.total / arrays.norm(end.total, self.operator) for end in self.ends if end.found]
        return self.operator.xp.stack(columns, axis=1)

    def smallest_excluded(self, end: ChainEnd) -> float:
        """The smallest t beyond which no eigenvalue of sign * B is, by the products so far."""
        values = np.sort(end.sign * self._ritz_values())
        couplings = [max(beta, self._rounding) for beta in self.betas]
        level = sum(math.log(beta) for beta in couplings if beta > 0) - math.log(self.bound)
        low, step = float(values[-1]), max(self.norm, np.finfo(float).tiny)

        def passes(t: float) -> bool:
            return bool(np.all(t > values)) and float(np.sum(np.log(t - values))) >= level

        while not passes(low + step):
            step *= 2
        high = low + step
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if passes(middle) else (middle, high)
        return high

    def _ritz_values(self) -> Floats:
        off = np.array(self.betas[: len(self.alphas) - 1])
        return np.linalg.eigvalsh(np.diag(self.alphas) + np.diag(off, 1) + np.diag(off, -1))

    def _outside(self, x: Array) -> Array:
        """x less its part in the span of V."""
        return x - self.V @ arrays.total(self.V.T @ x, self.operator)
