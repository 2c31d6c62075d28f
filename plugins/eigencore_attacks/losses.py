"""Losses that the attacks maximise: each is positive if and only if its sample is misclassified.

One forward pass therefore gives both the direction of the next step and the samples that are misclassified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from eigencore.arrays import namespace
from eigencore.interfaces import Objective
from eigencore.objectives import DLR, Margin, at, but, one_hot, softmax
from eigencore.space import Array

LossName: TypeAlias = Literal["cross_entropy", "margin", "dlr"]

# A lead of at most this many rounding units of the largest logit may vanish in a batch of another size, so it
# counts as a tie.
TIE_TOLERANCE = 16


@dataclass(frozen=True)
class LogOdds:
    """log((1 - p_y) / p_y) with the softmax p, minus 1 + log(c - 1) if the sample is classified as y.

    It increases with the cross-entropy, and its gradient has the same direction for each sample; but the
    gradient of the cross-entropy rounds to zero if a sample is classified with confidence, and this
    gradient does not. The subtracted term makes the loss of every correctly classified sample negative,
    because none of them has odds above c - 1.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        xp = namespace(logits)
        label = one_hot(logits, y)
        others, own = but(logits, label), at(logits, label)
        top = xp.max(others, axis=1)
        odds = top + xp.log(xp.sum(xp.exp(others - top[:, None]), axis=1)) - own
        tie = TIE_TOLERANCE * float(xp.finfo(logits.dtype).eps) * xp.max(xp.abs(logits), axis=1)
        return xp.where(top - own > tie, odds, odds - (1 + math.log(logits.shape[1] - 1)))

    def grad(self, logits: Array, y: Array, /) -> Array:
        """q - e_y, where q is the softmax of the other logits."""
        xp = namespace(logits)
        label = one_hot(logits, y)
        return softmax(but(logits, label)) - xp.astype(label, logits.dtype)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(diag(q) - q q') v."""
        q = softmax(but(logits, one_hot(logits, y)))
        return q * (v - namespace(logits).sum(q * v, axis=1, keepdims=True))


@dataclass(frozen=True)
class NegativeMargin:
    """The largest other logit minus the logit of the label: the margin with its sign reversed."""

    def value(self, logits: Array, y: Array, /) -> Array:
        return -Margin().value(logits, y)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return -Margin().grad(logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return -Margin().hvp(logits, y, v)


LOSSES: dict[str, Objective] = {"cross_entropy": LogOdds(), "margin": NegativeMargin(), "dlr": DLR()}
