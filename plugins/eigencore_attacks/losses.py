"""Losses to climb: each is above zero just where its sample is misclassified.

So one pass tells both how an attack goes on and whom it has broken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from eigencore.arrays import namespace
from eigencore.interfaces import Objective
from eigencore.objectives import DLR, Margin, at, but, one_hot, softmax
from eigencore.space import Array

Loss: TypeAlias = Literal["cross_entropy", "margin", "dlr"]

# A lead within this many rounding units of the largest logit may be none in another batch.
HAIR = 16


@dataclass(frozen=True)
class LogOdds:
    """log((1 - p_y) / p_y), p the softmax, and 1 + log(c - 1) less where the sample is classified as y.

    The cross-entropy rises with it, and in the same direction for each sample; but its gradient rounds to
    zero where a sample is classified with confidence, and this one's does not. What is taken off puts all
    that are classified rightly below zero: none of them has odds above c - 1.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        xp = namespace(logits)
        label = one_hot(logits, y)
        others, own = but(logits, label), at(logits, label)
        top = xp.max(others, axis=1)
        odds = top + xp.log(xp.sum(xp.exp(others - top[:, None]), axis=1)) - own
        hair = HAIR * float(xp.finfo(logits.dtype).eps) * xp.max(xp.abs(logits), axis=1)
        return xp.where(top - own > hair, odds, odds - (1 + math.log(logits.shape[1] - 1)))

    def grad(self, logits: Array, y: Array, /) -> Array:
        """q - e_y, q the softmax of the other logits."""
        xp = namespace(logits)
        label = one_hot(logits, y)
        return softmax(but(logits, label)) - xp.astype(label, logits.dtype)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(diag(q) - q q') v."""
        q = softmax(but(logits, one_hot(logits, y)))
        return q * (v - namespace(logits).sum(q * v, axis=1, keepdims=True))


@dataclass(frozen=True)
class Lead:
    """The largest other logit less that of the label: minus the margin."""

    def value(self, logits: Array, y: Array, /) -> Array:
        return -Margin().value(logits, y)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return -Margin().grad(logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return -Margin().hvp(logits, y, v)


LOSSES: dict[str, Objective] = {"cross_entropy": LogOdds(), "margin": Lead(), "dlr": DLR()}
