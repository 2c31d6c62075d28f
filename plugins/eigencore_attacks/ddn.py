"""DDN: the smallest L2 perturbation, its direction and its norm decoupled.

Rony et al. 2019 (arXiv:1811.09600), algorithm 1. The direction follows the gradient with steps that shrink
along a cosine; the norm shrinks by the factor 1 - gamma from an adversarial iterate, and grows by 1 + gamma
from any other. The smallest adversarial iterate is kept. This differs from the paper in:

1. Inputs are not rounded to 256 levels.
2. For the cross-entropy the log-odds are climbed: the same way up, and not zero where the softmax saturates.
3. The last iterate is looked at, too, and the way to the nearest is bisected: a norm that shrinks by gamma a
   step ends up to gamma too far, and farther from boundaries that are near.

A gradient that is zero is replaced by chance, as in the authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore_attacks.balls import directions, lengths
from eigencore_attacks.losses import LogOdds

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Space

LAST = 0.01  # the last step, in parts of the first
BISECTIONS = 10  # a forward pass each


@dataclass(frozen=True)
class DDNOptions:
    steps: int = option(
        100,
        low=1,
        help="gradient steps",
        when="1000 on adversarially trained networks, or where some stay unbroken",
    )
    gamma: float = option(
        0.05,
        low=1e-4,
        high=0.5,
        help="by which part the norm changes at a step",
        when="try 0.1 on adversarially trained networks; less needs more steps",
    )
    init_norm: float = option(
        1.0,
        low=1e-6,
        help="the norm to begin with, in ranges from the lowest to the highest input (1 where none is known)",
        when="raise it where images are large and few samples are broken",
    )


def ddn(classifier: Classifier, x: Array, y: Array, options: DDNOptions, /, *, eps: None, seed: int) -> Array:
    """The attack: see `eigencore.interfaces.Attack`. Who is never misclassified keeps x."""
    xp, loss, rng = classifier.xp, LogOdds(), np.random.default_rng(seed)
    low, high = classifier.bounds or (-math.inf, math.inf)
    unit = high - low if classifier.bounds else 1.0
    farthest = lengths(xp.maximum(x - low, high - x))
    radius = xp.full_like(farthest, options.init_norm * unit)
    at, best, shortest = x, x, xp.full_like(farthest, math.inf)
    for i in range(options.steps):
        value, gradient = classifier.value_and_grad(loss, at, y)
        best, shortest = shorter(x, at, value, best, shortest)
        radius = xp.minimum(radius * (1 - options.gamma * xp.sign(value)[:, None]), farthest)
        step = unit * (LAST + (1 - LAST) * (1 + math.cos(math.pi * i / options.steps)) / 2)
        change = at - x + step * uphill(classifier, gradient, rng)
        at = xp.clip(x + radius * directions(change), low, high)
    best, _ = shorter(x, at, loss.value(classifier.logits(at), y), best, shortest)
    return xp.clip(nearer(classifier, x, y, best), low, high)


def shorter(x: Array, at: Array, value: Array, best: Array, shortest: Array) -> tuple[Array, Array]:
    """The misclassified iterate nearest to x so far (b, d), and its distance (b, 1)."""
    xp, length = arrays.namespace(x), lengths(at - x)
    better = (value[:, None] > 0) & (length < shortest)
    return xp.where(better, at, best), xp.where(better, length, shortest)


def nearer(classifier: Classifier, x: Array, y: Array, best: Array) -> Array:
    """The way from x to a misclassified `best` (b, d), bisected for where it first is."""
    xp, loss, way = classifier.xp, LogOdds(), best - x
    broken, unbroken = xp.ones_like(x[:, :1]), xp.zeros_like(x[:, :1])
    for _ in range(BISECTIONS):
        between = (broken + unbroken) / 2
        there = loss.value(classifier.logits(x + between * way), y)[:, None] > 0
        broken, unbroken = xp.where(there, between, broken), xp.where(there, unbroken, between)
    return x + broken * way


def uphill(space: Space, gradient: Array, rng: np.random.Generator) -> Array:
    """The direction of each gradient (b, d); one by chance where that is zero."""
    xp = space.xp
    none = xp.all(gradient == 0, axis=1, keepdims=True)
    if bool(xp.any(none)):
        gradient = xp.where(none, arrays.random_normal(rng, gradient.shape, space), gradient)
    return directions(gradient)
