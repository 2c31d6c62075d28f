"""Losses that the attacks maximise: each is positive if and only if its sample is misclassified.

One forward pass therefore gives both the direction of the next step and the samples that are misclassified.
None of them depends on the scale of the logits, except for a factor of its value and gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from eigencore.arrays import namespace
from eigencore.interfaces import Objective
from eigencore.objectives import DLR, LabelOdds, Margin, at, but, one_hot
from eigencore.space import Array

LossName: TypeAlias = Literal["cross_entropy", "margin", "dlr"]

# A lead of at most this many rounding units of a logit may vanish in a batch of another size, so it counts as
# a tie.
TIE_TOLERANCE = 16

# The lead of the largest logit over the median of the others that `ScaleFree` gives every sample. From 5 to
# 16, the median distances of `ddn` on demo:digits, demo:mnist and demo:mnist-robust are within 3 % of one
# another, and so are they without any change of the logits.
LEAD = 8.0


def tie_tolerance(one: Array, other: Array) -> Array:
    """Returns the difference of two logits (b,) up to which they are tied.

    Further logits do not matter: a class may be excluded by a huge negative one.
    """
    xp = namespace(one)
    size = xp.maximum(xp.abs(one), xp.abs(other))
    return TIE_TOLERANCE * float(xp.finfo(one.dtype).eps) * size


@dataclass(frozen=True)
class LogOdds:
    """log((1 - p_y) / p_y) with the softmax p, minus 1 + log(c - 1) if the sample is classified as y.

    It increases with the cross-entropy, and its gradient has the same direction for each sample; but the
    gradient of the cross-entropy rounds to zero if a sample is classified with confidence, and this
    gradient does not. The subtracted term makes the loss of every correctly classified sample negative,
    because none of them has odds above c - 1.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        odds, margin = LabelOdds().value(logits, y), Margin().value(logits, y)
        own = at(logits, one_hot(logits, y))
        misclassified = -margin > tie_tolerance(own - margin, own)
        return namespace(logits).where(misclassified, odds, odds - (1 + math.log(logits.shape[1] - 1)))

    def grad(self, logits: Array, y: Array, /) -> Array:
        return LabelOdds().grad(logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return LabelOdds().hvp(logits, y, v)


@dataclass(frozen=True)
class ScaleFree:
    """An objective of logits that are multiplied by a factor, so that it does not depend on their scale.

    The factor of a sample gives its largest logit the lead LEAD over the median of the others (the lower one,
    if there are two). Derivatives treat it as constant: a gradient that could enlarge the lead would rather
    do so than approach the boundary.
    """

    objective: Objective

    def value(self, logits: Array, y: Array, /) -> Array:
        return self.objective.value(logits * self._factor(logits), y)

    def grad(self, logits: Array, y: Array, /) -> Array:
        factor = self._factor(logits)
        return factor * self.objective.grad(logits * factor, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        factor = self._factor(logits)
        return factor * self.objective.hvp(logits * factor, y, factor * v)

    def _factor(self, logits: Array) -> Array:
        xp, classes = namespace(logits), logits.shape[1]
        if classes == 2:
            # The lead is then the margin itself, and would hide how far the sample is from the boundary.
            return xp.ones_like(logits[:, :1])
        ascending = xp.sort(logits, axis=1)
        lead = (ascending[:, -1] - ascending[:, (classes - 2) // 2])[:, None]
        return LEAD / xp.where(lead > 0, lead, xp.full_like(lead, LEAD))


@dataclass(frozen=True)
class NegativeMargin:
    """The largest other logit, or that of a target, minus the logit of the label: minus the margin.

    Attributes:
        target: the class that each sample is to be classified as (b,); None: any.
    """

    target: Array | None = None

    def value(self, logits: Array, y: Array, /) -> Array:
        xp, margin = namespace(logits), Margin(self.target).value(logits, y)
        own = at(logits, one_hot(logits, y))
        tie = tie_tolerance(own, own - margin)
        return xp.where(-margin > tie, -margin, -margin - tie)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return -Margin(self.target).grad(logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return -Margin(self.target).hvp(logits, y, v)


@dataclass(frozen=True)
class UntilMisclassified:
    """A loss towards a target, and for a misclassified sample another loss.

    A loss towards a target may be negative for a sample that is misclassified as a third class.
    """

    targeted: Objective
    misclassified: Objective

    def value(self, logits: Array, y: Array, /) -> Array:
        return self._chosen("value", logits, y)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return self._chosen("grad", logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return self._chosen("hvp", logits, y, v)

    def _chosen(self, what: str, logits: Array, y: Array, *v: Array) -> Array:
        one, other = (getattr(loss, what)(logits, y, *v) for loss in (self.misclassified, self.targeted))
        misclassified = NegativeMargin().value(logits, y) > 0
        return namespace(logits).where(misclassified if one.ndim == 1 else misclassified[:, None], one, other)


def towards(loss: Callable[..., Objective], target: Array) -> Objective:
    """Returns `loss(target)`, towards a class of each sample (b,), until the sample is misclassified."""
    return UntilMisclassified(loss(target), loss())


def largest_others(logits: Array, y: Array, count: int) -> Array:
    """Returns the classes of the `count` largest logits other than that of the label (b, count)."""
    xp = namespace(logits)
    order = xp.argsort(but(logits, one_hot(logits, y)), axis=1, descending=True)
    return xp.astype(order[:, :count], y.dtype)


LOSSES: dict[str, Objective] = {
    "cross_entropy": ScaleFree(LogOdds()),
    "margin": NegativeMargin(),
    "dlr": DLR(),
}
