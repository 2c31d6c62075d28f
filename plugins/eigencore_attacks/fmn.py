"""FMN: the smallest L2 or Linf perturbation, by steps in a ball whose radius adapts.

Pintor et al. 2021 (arXiv:2102.12827), algorithm 1. Until a sample has a misclassified iterate, the radius of
its ball is the distance at which its loss would be zero if it were linear; afterwards it shrinks by the
factor 1 - gamma after a misclassified iterate, and grows by 1 + gamma after any other. Both the steps and
gamma decrease along a cosine. This differs from the paper in:

1. The loss is the log-odds of logits of a fixed scale, not the difference of two logits, which prefers the
   class that leads at the sample: on demo:digits and demo:mnist, its perturbations were 2 to 5 % larger.
2. The steps are the steepest ones of the norm, with lengths in units of the radius. The paper's have an L2
   length of 1 for every norm and every range of the inputs.
3. Until a sample is misclassified, its radius never shrinks, and grows by at least 1 + gamma.
4. After the search from the sample itself, there are others from random points of the ball that the smallest
   perturbation so far spans. They find other local minima: on demo:digits, demo:mnist-robust and an
   adversarially trained network for digits, two searches of 50 steps found smaller perturbations than one of
   500 steps did.
5. The last iterates are evaluated, too, and the segment from the sample to its nearest misclassified iterate
   is bisected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.options import option
from eigencore.problems.sharing import clip_to_bounds, input_range
from eigencore_attacks.losses import LOSSES
from eigencore_attacks.nearest import Nearest
from eigencore_attacks.norm_ball import Norm, dual_lengths, projected, random_perturbations, steepest

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array

FIRST_STEP, LAST_STEP = 2.0, 0.02  # as multiples of the radius
LAST_GAMMA = 0.001


@dataclass(frozen=True)
class FMNOptions:
    """Options of the attack `fmn`."""

    norm: Norm = option(
        "L2", help="norm of the perturbation", when="use Linf to compare with attacks in Linf balls"
    )
    steps: int = option(
        50,
        low=1,
        help="gradient steps of each search",
        when="raise it if some samples are not fooled",
    )
    restarts: int = option(
        4,
        low=1,
        help="number of searches: the first starts from the sample, the others from random points near it",
        when="raise it while the median distance still falls, above all on adversarially trained networks",
    )
    gamma: float = option(
        0.05,
        low=1e-3,
        high=0.5,
        help="relative change of the radius in the first step; it decreases to .001",
        when="raise it to .1 with fewer steps, or if some samples are not fooled",
    )


def fmn(classifier: Classifier, x: Array, y: Array, options: FMNOptions, /, *, eps: None, seed: int) -> Array:
    """The attack `fmn`: the smallest perturbation that it finds for each sample.

    Args:
        classifier: the network under attack.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `FMNOptions`.
        eps: None, because the attack chooses the radius itself.
        seed: seed of the random starts.

    Returns:
        Inputs (b, d) within the bounds; a sample that is never misclassified keeps its row of x.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "fmn", images=50, norm="Linf")
        print(result.distance)
    """
    xp, norm = classifier.xp, options.norm
    nearest, rng = Nearest(x, y, norm), arrays.generator(seed, "fmn")
    search(classifier, nearest, x, xp.zeros_like(nearest.distance), options)
    unit = input_range(x, classifier.bounds)
    for _ in range(1, options.restarts):
        radius = xp.where(nearest.found, nearest.distance, xp.full_like(nearest.distance, unit))
        change = radius * arrays.from_host(random_perturbations(rng, x.shape, norm), classifier)
        search(classifier, nearest, clip_to_bounds(x + change, classifier.bounds), radius, options)
    return nearest.bisected(classifier)


def search(classifier: Classifier, nearest: Nearest, at: Array, radius: Array, options: FMNOptions) -> None:
    """Takes the steps from iterates (b, d) in balls of a radius (b, 1), and keeps the nearest ones."""
    xp, loss, x, y, norm = classifier.xp, LOSSES["cross_entropy"], nearest.x, nearest.y, nearest.norm
    for i in range(options.steps):
        decrease = (1 + math.cos(math.pi * i / options.steps)) / 2
        gamma = LAST_GAMMA + (options.gamma - LAST_GAMMA) * decrease
        value, gradient = classifier.value_and_grad(loss, at, y)
        nearest.record(at, value)
        value = value[:, None]
        slope = dual_lengths(gradient, norm)
        ahead = xp.where(slope > 0, -value / xp.where(slope > 0, slope, xp.ones_like(slope)), 0 * slope)
        reach = xp.maximum(radius, nearest.distances(at) + ahead) * (1 + gamma)
        adapted = xp.minimum(radius * (1 - gamma * xp.sign(value)), nearest.distance)
        radius = xp.where(nearest.found, adapted, reach)
        step = LAST_STEP + (FIRST_STEP - LAST_STEP) * decrease
        at = projected(at + step * radius * steepest(gradient, norm), x, radius, norm, classifier.bounds)
    nearest.evaluate(classifier, at)
