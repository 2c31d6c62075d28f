"""Projected gradient descent in a ball around each sample, from random starts; FGSM is a single step of it.

Madry et al. 2018 (arXiv:1706.06083); for the single step Goodfellow et al. 2015 (arXiv:1412.6572). This
differs from the papers in:

1. A sample stops at its first misclassified iterate, which is kept; for the other samples the iterate of
   largest loss is kept.
2. The step size decreases unless it is given: long steps approach the maximum, short steps refine it.
3. The loss cross_entropy maximises the log-odds of logits of a fixed scale instead: a factor on the logits
   changes nothing, and the gradient does not vanish if the softmax saturates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore_attacks.active_samples import ActiveSamples
from eigencore_attacks.losses import LOSSES, LossName
from eigencore_attacks.norm_ball import Norm, NormBall

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

FIRST_STEP, LAST_STEP = 1.0, 0.01  # as fractions of eps


@dataclass(frozen=True)
class PGDOptions:
    """Options of the attack `pgd`."""

    norm: Norm = option(
        "Linf", help="norm of the ball", when="use L2 if a perturbation may be concentrated on few inputs"
    )
    steps: int = option(
        40, low=1, help="gradient steps from each start", when="raise it while the accuracy still falls"
    )
    step: float | Literal["auto"] = option(
        "auto",
        low=1e-6,
        high=2,
        help="step size as a fraction of eps; auto decreases it from 1 to .01",
        when="set it to compare with other implementations of PGD; keep steps * step well above 1, "
        "or the attack cannot cross the ball",
    )
    restarts: int = option(
        1,
        low=1,
        help="number of random starts; only samples that are still classified correctly are restarted",
        when="raise it if the gradients of the network are misleading",
    )
    loss: LossName = option(
        "cross_entropy",
        help="loss to maximise",
        when="try each of them: the one that leaves the fewest samples counts",
    )


@dataclass(frozen=True)
class FGSMOptions:
    """Options of the attack `fgsm`."""

    norm: Norm = option(
        "Linf", help="norm of the ball", when="use L2 if a perturbation may be concentrated on few inputs"
    )
    loss: LossName = option(
        "cross_entropy", help="loss to maximise", when="change it to see how much the loss matters"
    )


def pgd(
    classifier: Classifier, x: Array, y: Array, options: PGDOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack `pgd`: projected gradient descent from random points of the ball.

    Args:
        classifier: the network under attack.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `PGDOptions`.
        eps: radius of the ball, in the units of the inputs.
        seed: seed of the random starts.

    Returns:
        Inputs (b, d) in the balls and within the bounds, misclassified if the attack succeeded.

    Raises:
        UsageError: the loss is dlr and there are fewer than three classes.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "pgd", eps=0.1, images=50, steps=20)
        print(result.accuracy)
    """
    ball = NormBall(eps, options.norm, classifier.bounds)
    rng = arrays.generator(seed, "pgd")
    starts = (ball.random_perturbations(rng, x.shape) for _ in range(options.restarts))
    return maximise(classifier, LOSSES[options.loss], ball, x, y, starts, step_sizes(options))


def fgsm(
    classifier: Classifier, x: Array, y: Array, options: FGSMOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack `fgsm`: a single step of length eps from the sample itself.

    Nothing is random, so the seed has no effect. Arguments, result and errors are those of `pgd`.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "fgsm", eps=0.1, images=50)
        print(result.accuracy)
    """
    ball = NormBall(eps, options.norm, classifier.bounds)
    return maximise(classifier, LOSSES[options.loss], ball, x, y, [np.zeros(x.shape)], [1.0])


def step_sizes(options: PGDOptions) -> list[float]:
    """Returns the size of each step as a fraction of eps."""
    if options.step != "auto":
        return [options.step] * options.steps
    angles = (math.pi * i / options.steps for i in range(options.steps))
    return [LAST_STEP + (FIRST_STEP - LAST_STEP) * (1 + math.cos(angle)) / 2 for angle in angles]


def maximise(
    classifier: Classifier,
    loss: Objective,
    ball: NormBall,
    x: Array,
    y: Array,
    starts: Iterable[Floats],
    steps: Sequence[float],
) -> Array:
    """Maximises the loss in the balls around x (b, d) by projected gradient steps.

    Args:
        starts: perturbations (b, d) to start from, one after the other.
        steps: the size of each step as a fraction of eps.

    Returns:
        The inputs (b, d) of `ActiveSamples.results`.
    """
    active = ActiveSamples(classifier, x, y)
    for start in starts:
        at = ball.project(active.x + arrays.from_host(start[active.index], classifier), active.x)
        for step in steps:
            value, gradient = classifier.value_and_grad(loss, at, active.y)
            at, gradient = active.record(value, at, at, gradient)
            if not active:
                return active.results()
            at = ball.project(at + step * ball.steepest_step(gradient), active.x)
        active.record(loss.value(classifier.logits(at), active.y), at)
        if not active:
            break
    return active.results()
