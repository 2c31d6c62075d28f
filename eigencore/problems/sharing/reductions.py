"""Whether the loss of some samples is the mean or the sum of the losses of each, up to rounding.

A backend computes the loss of some samples at once and that of each, and the gradients of both, and puts what
it finds into `LossGaps`. If losses are equal or zero, gradients still decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from eigencore.errors import ProblemError

_SMALLEST_TOLERANCE = 1e-6  # parts of a float64 model may compute in float32
_LOGITS = 64  # the loss of a confident classification is a difference of logits of order ten


def rounding_tolerance(eps: float) -> float:
    """The largest relative difference of losses or gradients that rounding explains; eps is its unit."""
    return max(math.sqrt(eps), _SMALLEST_TOLERANCE)


def loss_scale(size: float, eps: float) -> float:
    """What differences of losses of this size are divided by: a part of their rounding errors is absolute."""
    return size + _LOGITS * math.sqrt(eps)


@dataclass(frozen=True)
class LossGaps:
    """How far the loss of some samples and its gradient are from the mean and the sum of those of each.

    Attributes:
        value: the loss; the mean over the samples of a loss that has a number for each.
        size: the mean of the absolute losses of the samples.
        mean, total: the mean and the sum of the losses of the samples.
        norm: the norm of the gradient of the mean.
        mean_gap, sum_gap: the norm of the difference between the gradient and that of the mean or the sum.

    Example:
        import numpy as np
        from eigencore.problems.sharing import LossGaps, decide_reduction

        # The loss (w - x)**2 / 2 at w = 0 of the samples x = 1 and x = 2, as a mean.
        losses, gradients = np.array([0.5, 2.0]), np.array([-1.0, -2.0])
        value, gradient = losses.mean(), gradients.mean()
        gaps = LossGaps(
            value, losses.mean(), losses.mean(), losses.sum(), 1.5, 0.0, abs(gradient - gradients.sum())
        )
        print(gaps.fitting(2, 2.0**-52), decide_reduction(gaps.fitting(2, 2.0**-52), "infer", 2))
    """

    value: float
    size: float
    mean: float
    total: float
    norm: float
    mean_gap: float
    sum_gap: float

    def fitting(self, count: float, eps: float) -> set[str]:
        """Which of "mean" and "sum" the loss is, up to rounding.

        Args:
            count: the number of the samples, or the sum of their weights.
            eps: the rounding unit of the losses.
        """
        tolerance = rounding_tolerance(eps)
        allowed = tolerance * loss_scale(self.size, eps)
        is_mean = abs(self.value - self.mean) <= allowed and self.mean_gap <= tolerance * self.norm
        is_sum = abs(self.value - self.total) <= allowed * count
        is_sum = is_sum and self.sum_gap <= tolerance * self.norm * count
        return {rule for rule, holds in (("mean", is_mean), ("sum", is_sum)) if holds}


def decide_reduction(fitting: set[str], reduction: str, count: float) -> str:
    """The reduction of a loss, "mean" or "sum".

    Args:
        fitting: which of the two the loss is on all samples that were compared; at least one.
        reduction: `Problem.reduction`.
        count: the number of samples whose losses were compared with that of all at once.

    Raises:
        ProblemError: it is not the one that was declared, or can't be determined.
    """
    if reduction == "infer" and len(fitting) > 1 and count > 1:
        raise ProblemError(
            "whether the loss is a mean or a sum over samples can't be determined: it is zero, and so is its "
            "gradient",
            hint="Set reduction='mean' or reduction='sum'.",
        )
    if reduction == "infer":
        return "mean" if "mean" in fitting else "sum"
    if reduction not in fitting:
        raise ProblemError(
            f"reduction is {reduction!r}, but the loss is the {min(fitting)} of the losses of its samples",
            hint="Leave reduction out.",
        )
    return reduction
