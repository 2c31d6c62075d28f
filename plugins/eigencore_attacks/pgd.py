"""Projected gradient descent in a ball around each sample, from random starts; one step of it is FGSM.

Madry et al. 2018 (arXiv:1706.06083); for the single step Goodfellow et al. 2015 (arXiv:1412.6572). This
differs from the papers in:

1. A sample is done with at its first misclassified iterate, which is kept; others keep that of largest loss.
2. Steps shrink, unless their size is given: the long ones find the way, the short ones its end.
3. For the cross-entropy the log-odds are climbed: the same way up, and not zero where the softmax saturates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore_attacks.balls import Ball, Norm
from eigencore_attacks.losses import LOSSES, Loss
from eigencore_attacks.survivors import Survivors

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

LONGEST, SHORTEST = 1.0, 0.01  # steps, in parts of eps


@dataclass(frozen=True)
class PGDOptions:
    norm: Norm = option("Linf", help="of the ball", when="L2 where perturbations may be concentrated")
    steps: int = option(
        40, low=1, help="gradient steps from each start", when="raise it while accuracy falls"
    )
    step: float | Literal["auto"] = option(
        "auto",
        low=1e-6,
        high=2,
        help="the length of a step in parts of eps; auto: from 1 down to .01",
        when="to compare with others' PGD; steps * step well above 1, or it can't cross the ball",
    )
    restarts: int = option(
        1,
        low=1,
        help="random starts; only who is not broken is started again",
        when="raise it on networks whose gradients mislead",
    )
    loss: Loss = option(
        "cross_entropy", help="what is climbed", when="margin or dlr where logits are very large"
    )


@dataclass(frozen=True)
class FGSMOptions:
    norm: Norm = option("Linf", help="of the ball", when="L2 where perturbations may be concentrated")
    loss: Loss = option("cross_entropy", help="what is climbed", when="to see how much the loss matters")


def pgd(
    classifier: Classifier, x: Array, y: Array, options: PGDOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack: see `eigencore.interfaces.Attack`. UsageError: dlr of fewer than three classes."""
    ball = Ball(eps, options.norm, classifier.bounds)
    rng = np.random.default_rng(seed)
    starts = (ball.chance(rng, x.shape) for _ in range(options.restarts))
    return climb(classifier, LOSSES[options.loss], ball, x, y, starts, step_sizes(options))


def fgsm(
    classifier: Classifier, x: Array, y: Array, options: FGSMOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack: one step of the whole eps from the sample itself, so nothing is left to the seed."""
    ball = Ball(eps, options.norm, classifier.bounds)
    return climb(classifier, LOSSES[options.loss], ball, x, y, [np.zeros(x.shape)], [1.0])


def step_sizes(options: PGDOptions) -> list[float]:
    """In parts of eps."""
    if options.step != "auto":
        return [options.step] * options.steps
    turns = (math.pi * i / options.steps for i in range(options.steps))
    return [SHORTEST + (LONGEST - SHORTEST) * (1 + math.cos(turn)) / 2 for turn in turns]


def climb(
    classifier: Classifier,
    loss: Objective,
    ball: Ball,
    x: Array,
    y: Array,
    starts: Iterable[Floats],
    steps: Sequence[float],
) -> Array:
    """From each of the changes in `starts` (b, d) in turn, with steps in parts of eps."""
    left = Survivors(classifier, x, y)
    for start in starts:
        at = ball.project(left.x + arrays.from_host(start[left.index], classifier), left.x)
        for step in steps:
            value, gradient = classifier.value_and_grad(loss, at, left.y)
            at, gradient = left.look(value, at, at, gradient)
            if not left:
                return left.inputs()
            at = ball.project(at + step * ball.step(gradient), left.x)
        left.look(loss.value(classifier.logits(at), left.y), at)
        if not left:
            break
    return left.inputs()
