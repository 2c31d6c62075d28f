"""The critical step: the smallest one along the optimizer's update at which the loss exceeds the present one.

With eta_c the critical step, 2 / eta_c is the critical sharpness (Kalra et al., A scalable measure of loss
landscape curvature for analyzing the training dynamics of LLMs, 2026, arXiv:2601.16979). On a quadratic with
Hessian H, along the update u = s g from the gradient g, it is s g'Hg / |g|^2.

Those authors grow and halve the step. Here the search follows phi(eta) = (loss(eta) - loss(0)) / eta, whose
value at 0 is the slope -g'u, and whose root is eta_c: on a quadratic, phi is linear, so that one loss gives
the root, and two more enclose it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from eigencore.errors import ProblemError
from eigencore.training import UpdateLine

RESOLUTION = 0.05  # the critical step is enclosed within so much of it
MOST_PASSES = 24
GROWTH = 8.0  # of the step, at most, while the loss still falls


@dataclass(frozen=True)
class CriticalStep:
    """The critical step, and where it certainly is if the loss exceeds the present one only once.

    Attributes:
        step: eta_c; 0 if the loss rises along the update from the beginning.
        low, high: losses at these steps were at most, and more than, the present one.
        passes: the number of losses that were computed, one forward pass each.
    """

    step: float
    low: float
    high: float
    passes: int

    @property
    def sharpness(self) -> tuple[float, float, float]:
        """2 / eta_c, and the ends of the interval that it is in."""
        value, low, high = (2 / x if x > 0 else math.inf for x in (self.step, self.high, self.low))
        return value, low, high


def critical_step(line: UpdateLine, guess: float, resolution: float = RESOLUTION) -> CriticalStep:
    """Encloses the critical step: high <= (1 + resolution) low.

    Where the loss exceeds the present one, falls below it and exceeds it again, it is one of these steps.

    Args:
        guess: the first step that is tried, such as the critical step found before.

    Raises:
        ProblemError: the loss never exceeds the present one, changes by no more than rounding errors, or is
            not finite.

    Example:
        from eigencore.pipeline.monitoring.critical_step import critical_step
        from eigencore.training import UpdateLine

        line = UpdateLine(loss=1.0, slope=-2.0, rounding=1e-12, at=lambda s: 1.0 - 2.0 * s + 5.0 * s**2)
        print(critical_step(line, 0.1).step)  # 0.4
    """
    if not (math.isfinite(line.loss) and math.isfinite(line.slope)):
        raise ProblemError(f"the loss is {line.loss:g} and its slope along the update {line.slope:g}")
    if line.slope >= 0:
        return CriticalStep(0.0, 0.0, 0.0, 0)
    search = _Search(line, resolution)
    while not search.is_enclosed:
        if search.passes >= MOST_PASSES:
            raise search.failure()
        search.probe(guess)
        guess = search.next_guess()
    if -line.slope * search.high * resolution < line.rounding:
        raise ProblemError("the loss changes along the update by no more than its rounding errors")
    return CriticalStep(search.root, search.low, search.high, search.passes)


class _Search:
    """The enclosure of the root of phi: phi(low) <= 0 < phi(high)."""

    def __init__(self, line: UpdateLine, resolution: float):
        self._line, self._resolution = line, resolution
        self.low, self.high, self.passes = 0.0, math.inf, 0
        self._before = (0.0, line.slope)  # the lower end before the present one
        self._at_low, self._at_high = line.slope, math.nan

    @property
    def is_enclosed(self) -> bool:
        return self.high <= (1 + self._resolution) * self.low

    def probe(self, step: float) -> None:
        self.passes += 1
        phi = (self._line.at(step) - self._line.loss) / step
        if phi <= 0:
            self._before = self.low, self._at_low
            self.low, self._at_low = step, phi
        else:  # also if the loss is not finite
            self.high, self._at_high = step, phi

    @property
    def root(self) -> float:
        """Where the line through phi at both ends is zero; the lower end if phi is infinite at the upper."""
        if not math.isfinite(self._at_high):
            return self.low
        return self.low + (self.high - self.low) * self._at_low / (self._at_low - self._at_high)

    def next_guess(self) -> float:
        if math.isinf(self.high):
            return self._beyond()
        root = self.root
        stuck = self.passes > 5 and self.passes % 2 == 0  # phi is far from linear: bisect in between
        if stuck or not self.low < root < self.high:
            return math.sqrt(self.low * self.high) if self.low else self.high / GROWTH
        # Just below the root, or else just above it, so that both ends come close.
        margin = 0.45 * self._resolution
        below, above = root * (1 - margin), root * (1 + margin)
        if self.low < root * (1 - 1.1 * margin):
            return max(below, self.low + 0.1 * (root - self.low))
        return min(above, self.high - 0.1 * (self.high - root))

    def _beyond(self) -> float:
        """A step above the lower end, just above the root if phi rises towards it."""
        (x, phi), guess = self._before, GROWTH * self.low
        rise = (self._at_low - phi) / (self.low - x) if self.low > x else 0.0
        if rise > 0:
            root = self.low - self._at_low / rise
            guess = min(guess, root * (1 + 0.45 * self._resolution))
        return max(guess, self.low * (1 + 0.9 * self._resolution))

    def failure(self) -> ProblemError:
        if math.isinf(self.high):
            return ProblemError(
                f"the loss does not exceed the present one along the update, up to {self.low:.2g} times the "
                "step for a learning rate of 1"
            )
        return ProblemError(
            f"the critical step is between {self.low:.3g} and {self.high:.3g}; {self.passes} forward passes "
            "did not enclose it further"
        )
