"""The critical step: the smallest one along the optimizer's update at which the loss exceeds the present one.

With eta_c the critical step, 2 / eta_c is the critical sharpness (Kalra et al., A scalable measure of loss
landscape curvature for analyzing the training dynamics of LLMs, 2026, arXiv:2601.16979). On a quadratic with
Hessian H, along the update u = s g from the gradient g, it is s g'Hg / |g|^2.

Those authors grow and halve the step. Here the search follows phi(eta) = (loss(eta) - loss(0)) / eta, whose
value at 0 is the slope -g'u, and whose root is eta_c: on a quadratic, phi is linear, so that one loss gives
the root, and a second one confirms it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eigencore.errors import ProblemError
from eigencore.training import UpdateLine

RESOLUTION = 0.1  # the critical step is enclosed within so much of it, unless interpolation settles before
SETTLED = 0.1  # interpolation has, if another loss moves its root by no more than this
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
    """Finds the critical step by interpolation between two losses that enclose it.

    It ends when another loss moves the root by at most 10 %, or when high <= (1 + resolution) low. Where the
    loss exceeds the present one, falls below it and exceeds it again, it is one of these steps.

    Args:
        guess: the first step that is tried, such as `parabola_step(line, curvature)`.

    Raises:
        ProblemError: the loss never exceeds the present one, changes by no more than rounding errors, or is
            not finite.

    Example:
        from eigencore.pipeline.monitoring.critical_step import critical_step
        from eigencore.training import UpdateLine

        line = UpdateLine(1.0, slope=-2.0, length=1.0, rounding=0.0, at=lambda s: 1 - 2 * s + 5 * s**2)
        print(critical_step(line, 0.1).step)  # 0.4
    """
    if not (math.isfinite(line.loss) and math.isfinite(line.slope)):
        raise ProblemError(f"the loss is {line.loss:g} and its slope along the update {line.slope:g}")
    if line.slope >= 0:
        return CriticalStep(0.0, 0.0, 0.0, 0)
    search = _Enclosure(line, resolution)
    while not (search.is_enclosed or search.is_settled):
        if search.passes >= MOST_PASSES:
            raise search.failure()
        search.probe(guess)
        guess = search.next_guess()
    if -line.slope * search.high * resolution < line.rounding:
        raise ProblemError("the loss changes along the update by no more than its rounding errors")
    root = search.low if search.root is None else search.root
    return CriticalStep(root, search.low, search.high, search.passes)


def parabola_step(line: UpdateLine, curvature: float) -> float:
    """The critical step of a parabola with this curvature c along u / |u|: -2 slope / (c |u|^2).

    From one batch to the next, c changes less than the critical step, which also depends on the gradient.
    """
    return -2 * line.slope / (curvature * line.length**2)


def curvature_along(line: UpdateLine, step: float) -> float:
    """The curvature along u / |u| of the parabola with this critical step."""
    return -2 * line.slope / (step * line.length**2)


class _Enclosure:
    """The enclosure of the root of phi: phi(low) <= 0 < phi(high)."""

    def __init__(self, line: UpdateLine, resolution: float):
        self._line, self._resolution = line, resolution
        self.low, self.high, self.passes = 0.0, math.inf, 0
        self._phi = {0.0: line.slope}  # by step, where it is finite
        self._before: float | None = None  # the root before the last loss

    @property
    def is_enclosed(self) -> bool:
        return self.high <= (1 + self._resolution) * self.low

    @property
    def is_settled(self) -> bool:
        """Whether there is a loss on both sides, and the last one confirmed the root."""
        before, root = self._before, self.root
        if before is None or root is None or self.low == 0 or math.isinf(self.high):
            return False
        return abs(root - before) <= SETTLED * root

    def probe(self, step: float) -> None:
        self.passes, self._before = self.passes + 1, self.root
        phi = (self._line.at(step) - self._line.loss) / step
        if math.isfinite(phi):
            self._phi[step] = phi
        if phi <= 0:
            self.low = step
        else:  # also if the loss is not a number
            self.high = step

    @property
    def root(self) -> float | None:
        """Where phi is zero, by interpolation between the ends; None if that is not possible."""
        ends = [step for step in (self.low, self.high) if step in self._phi]
        others = sorted(self._phi.keys() - ends, key=lambda step: abs(step - self.low))
        for points in (sorted([*ends, *others[:1]]), sorted(ends)):
            found = _root([(step, self._phi[step]) for step in points], self.low, self.high)
            if found is not None:
                return found
        return None

    def next_guess(self) -> float:
        """Just below the root, or else just above it, so that both ends come close to it."""
        root, margin = self.root, 0.45 * self._resolution
        if math.isinf(self.high):
            return GROWTH * self.low if root is None else min(root * (1 + margin), GROWTH * self.low)
        # Bisect where phi is far from a parabola, as it is over several orders of magnitude.
        far = self.passes > 5 and self.passes % 2 == 0
        least = self.high / GROWTH**2
        if far or root is None or self.low < root < least:
            return math.sqrt(max(self.low, least / GROWTH**2) * self.high)
        if self.low < root * (1 - 1.1 * margin):
            return max(root * (1 - margin), self.low + 0.1 * (root - self.low))
        return min(root * (1 + margin), self.high - 0.1 * (self.high - root))

    def failure(self) -> ProblemError:
        if math.isinf(self.high):
            return ProblemError(
                "the loss does not exceed the present one along the update, up to a learning rate of "
                f"{self.low:.2g}"
            )
        return ProblemError(
            f"the critical step is between {self.low:.3g} and {self.high:.3g}; {self.passes} forward passes "
            "did not enclose it further"
        )


def _root(points: Sequence[tuple[float, float]], low: float, high: float) -> float | None:
    """The root in (low, high) of the line through two points, or the parabola through three; None if none."""
    if len(points) < 2:
        return None
    (x, f), (y, g), *rest = points
    slope = (g - f) / (y - x)
    if not rest:
        roots = [x - f / slope] if slope else []
    else:
        z, h = rest[0]
        bend = ((h - g) / (z - y) - slope) / (z - x)
        # f + slope (t - x) + bend (t - x) (t - y), as a polynomial of t - x
        linear = slope - bend * (y - x)
        inside = linear**2 - 4 * bend * f
        if inside < 0:
            return None
        q = -(linear + math.copysign(math.sqrt(inside), linear)) / 2
        roots = [x + part for part in ([f / q] if q else []) + ([q / bend] if bend else [])]
    return min((root for root in roots if low <= root < high), default=None)
