"""DDN: the smallest L2 perturbation, with its direction and its norm decoupled.

Rony et al. 2019 (arXiv:1811.09600), algorithm 1. The direction follows the gradient with step sizes that
decrease along a cosine; the norm shrinks by the factor 1 - gamma after an adversarial iterate and grows by
1 + gamma after any other. The smallest adversarial iterate is kept. This differs from the paper in:

1. Inputs are not rounded to 256 levels.
2. The log-odds of logits of a fixed scale are maximised instead of the cross-entropy: a factor on the
   logits changes nothing, and the gradient does not vanish if the softmax saturates.
3. The last iterate is evaluated, too, and the segment from the sample to its nearest adversarial iterate is
   bisected: a norm that shrinks by a factor 1 - gamma per step can end too large by a relative gamma, and by
   more if the boundary is near.

4. The initial norm and the step sizes are multiples of the range of the inputs: that of the bounds or, if
   there are none, of the samples.

A zero gradient is replaced by a random direction, as in the authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore.problems.sharing import clip_to_bounds, input_range
from eigencore_attacks.losses import LOSSES
from eigencore_attacks.nearest import Nearest
from eigencore_attacks.norm_ball import lengths, unit_rows

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Space

LAST_STEP = 0.01  # as a fraction of the first step


@dataclass(frozen=True)
class DDNOptions:
    """Options of the attack `ddn`."""

    steps: int = option(
        100,
        low=1,
        help="gradient steps",
        when="use 1000 on adversarially trained networks, or if some samples are not fooled",
    )
    gamma: float = option(
        0.05,
        low=1e-4,
        high=0.5,
        help="relative change of the norm per step",
        when="try 0.1 on adversarially trained networks; smaller values need more steps",
    )
    init_norm: float = option(
        1.0,
        low=1e-6,
        help="initial norm, as a multiple of the range of the inputs",
        when="raise it if images are large and few samples are fooled",
    )


def ddn(classifier: Classifier, x: Array, y: Array, options: DDNOptions, /, *, eps: None, seed: int) -> Array:
    """The attack `ddn`: the smallest L2 perturbation it finds for each sample.

    Args:
        classifier: the network under attack.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `DDNOptions`.
        eps: None, because the attack chooses the norm itself.
        seed: seed of the random directions that replace zero gradients.

    Returns:
        Inputs (b, d) within the bounds; a sample that is never misclassified keeps its row of x.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "ddn", images=50)
        print(result.distance)
    """
    xp, loss, rng = classifier.xp, LOSSES["cross_entropy"], arrays.generator(seed, "ddn")
    bounds, largest = classifier.bounds, xp.full_like(x[:, :1], math.inf)
    unit = input_range(x, bounds)
    if bounds is not None:
        low, high = bounds
        largest = lengths(xp.maximum(x - low, high - x), "L2")
    radius = xp.full_like(largest, options.init_norm * unit)
    at, nearest = x, Nearest(x, y, "L2")
    for i in range(options.steps):
        value, gradient = classifier.value_and_grad(loss, at, y)
        nearest.record(at, value)
        radius = xp.minimum(radius * (1 - options.gamma * xp.sign(value)[:, None]), largest)
        step = unit * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * i / options.steps)) / 2)
        change = at - x + step * ascent_direction(classifier, gradient, rng)
        at = clip_to_bounds(x + radius * unit_rows(change), bounds)
    nearest.evaluate(classifier, at)
    return nearest.bisected(classifier)


def ascent_direction(space: Space, gradient: Array, rng: np.random.Generator) -> Array:
    """Returns the direction of each gradient (b, d), and a random direction where the gradient is zero."""
    xp = space.xp
    zero = xp.all(gradient == 0, axis=1, keepdims=True)
    if bool(xp.any(zero)):
        gradient = xp.where(zero, arrays.random_normal(rng, gradient.shape, space), gradient)
    return unit_rows(gradient)
