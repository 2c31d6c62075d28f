"""Auto-PGD, untargeted and targeted: gradient ascent with momentum and step sizes halved automatically.

Croce and Hein 2020 (arXiv:2003.01690), algorithm 1. Every sample has its own step size, 2 eps at first. At
checkpoints with decreasing spacing the step size is halved if the loss rose in less than three quarters of
the steps since the last checkpoint (condition 1), or if neither the step size nor the best loss has changed
since then (condition 2); such a sample continues from its best iterate. This differs from the paper in:

1. A sample stops at its first misclassified iterate, which is kept.
2. The loss cross_entropy maximises the log-odds of logits of a fixed scale instead: a factor on the logits
   changes nothing, and the gradient does not vanish if the softmax saturates.

Both are components of AutoAttack, the ensemble of the same paper, and do not replace it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from eigencore import arrays
from eigencore.objectives import DLR
from eigencore.options import option
from eigencore_attacks.active_samples import ActiveSamples
from eigencore_attacks.losses import LOSSES, LossName, NegativeMargin, largest_others, towards
from eigencore_attacks.norm_ball import Norm, NormBall

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

FIRST_STEP = 2.0  # as a fraction of eps
MOMENTUM = 0.75  # weight of the new step; the previous step has weight 1 - MOMENTUM
MIN_RISING_SHARE = 0.75  # of the steps between two checkpoints; below it, the step size is halved


@dataclass(frozen=True)
class APGDOptions:
    """Options of the attack `apgd`."""

    norm: Norm = option(
        "Linf", help="norm of the ball", when="use L2 if a perturbation may be concentrated on few inputs"
    )
    steps: int = option(
        100, low=1, help="gradient steps from each start", when="raise it while the accuracy still falls"
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
class TargetedAPGDOptions:
    """Options of the attack `apgd_t`."""

    norm: Norm = option(
        "Linf", help="norm of the ball", when="use L2 if a perturbation may be concentrated on few inputs"
    )
    steps: int = option(
        100, low=1, help="gradient steps towards each target", when="raise it while the accuracy still falls"
    )
    targets: int = option(
        9,
        low=1,
        help="number of classes that are tried as targets, from the one with the largest logit; at most all "
        "others",
        when="lower it to save passes: each target takes all steps on the samples that are still classified "
        "correctly",
    )


def apgd(
    classifier: Classifier, x: Array, y: Array, options: APGDOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack `apgd`: Auto-PGD from random points of the ball.

    Args:
        classifier: the network under attack.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `APGDOptions`.
        eps: radius of the ball, in the units of the inputs.
        seed: seed of the random starts.

    Returns:
        Inputs (b, d) in the balls and within the bounds, misclassified if the attack succeeded.

    Raises:
        UsageError: the loss is dlr and there are fewer than three classes.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "apgd", eps=0.1, images=50, steps=20)
        print(result.accuracy)
    """
    ball, rng = NormBall(eps, options.norm, classifier.bounds), arrays.generator(seed, "apgd")
    active = ActiveSamples(classifier, x, y)
    for _ in range(options.restarts):
        start = ball.random_perturbations(rng, x.shape)
        ascend(classifier, lambda _: LOSSES[options.loss], ball, active, start, options.steps)
        if not active:
            break
    return active.results()


def apgd_t(
    classifier: Classifier, x: Array, y: Array, options: TargetedAPGDOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack `apgd_t`: Auto-PGD on the targeted difference of logits ratio, one target after the other.

    With two classes, for which the ratio is not defined, it is the margin. Arguments and result are those of
    `apgd`.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "apgd_t", eps=0.1, images=50, steps=20)
        print(result.accuracy)
    """
    ball, rng = NormBall(eps, options.norm, classifier.bounds), arrays.generator(seed, "apgd_t")
    count = min(options.targets, classifier.classes - 1)
    ratio = DLR if classifier.classes > 2 else NegativeMargin
    active = ActiveSamples(classifier, x, y, largest_others(classifier.logits(x), y, count))
    for i in range(count):
        start = ball.random_perturbations(rng, x.shape)
        ascend(classifier, partial(_towards_target, i, ratio), ball, active, start, options.steps)
        if not active:
            break
    return active.results()


def _towards_target(i: int, loss: Callable[..., Objective], active: ActiveSamples) -> Objective:
    assert active.targets is not None
    return towards(loss, active.targets[:, i])


class Ascent(NamedTuple):
    """The state of the ascent of b samples, a row each.

    Attributes:
        at, value, gradient: the iterate (b, d), and the loss (b,) and its gradient (b, d) there.
        previous: the previous iterate (b, d).
        best, best_value, best_gradient: the iterate of largest loss so far, and loss and gradient there.
        step: the step size as a fraction of eps (b, 1).
        rises: the number of steps since the last checkpoint in which the loss rose (b,).
        checkpoint_value: the largest loss at the last checkpoint (b,).
        halved: whether the step size was halved at the last checkpoint (b,).
    """

    at: Array
    value: Array
    gradient: Array
    previous: Array
    best: Array
    best_value: Array
    best_gradient: Array
    step: Array
    rises: Array
    checkpoint_value: Array
    halved: Array


def ascend(
    classifier: Classifier,
    loss: Callable[[ActiveSamples], Objective],
    ball: NormBall,
    active: ActiveSamples,
    start: Floats,
    steps: int,
) -> None:
    """Maximises a loss from random points of the balls; the results are recorded in `active`.

    Args:
        loss: the loss of the samples that are still active.
        start: perturbations of all samples of the batch, on the host.
    """
    at = ball.project(active.x + arrays.from_host(start[active.index], classifier), active.x)
    ascent = start_ascent(classifier.xp, at, *classifier.value_and_grad(loss(active), at, active.y))
    ascent = Ascent(*active.record(ascent.value, at, *ascent))
    last, checkpoints = 0, checkpoint_steps(steps)
    for k in range(steps):
        if not active:
            return
        at = next_iterate(ball, active.x, ascent, MOMENTUM if k else 1.0)
        ascent = with_iterate(
            classifier.xp, ascent, at, *classifier.value_and_grad(loss(active), at, active.y)
        )
        ascent = Ascent(*active.record(ascent.value, at, *ascent))
        if k + 1 in checkpoints:
            ascent, last = after_checkpoint(classifier.xp, ascent, k + 1 - last), k + 1


def start_ascent(xp: Any, at: Array, value: Array, gradient: Array) -> Ascent:
    """Returns the state at the first iterate."""
    zero = xp.zeros_like(value)
    step = xp.full_like(value, FIRST_STEP)[:, None]
    return Ascent(at, value, gradient, at, at, value, gradient, step, zero, value, zero > 0)


def next_iterate(ball: NormBall, centre: Array, ascent: Ascent, weight: float) -> Array:
    """Returns the next iterate: a gradient step of this weight and the previous step of the other weight."""
    target = ball.project(ascent.at + ascent.step * ball.steepest_step(ascent.gradient), centre)
    change = weight * (target - ascent.at) + (1 - weight) * (ascent.at - ascent.previous)
    return ball.project(ascent.at + change, centre)


def with_iterate(xp: Any, ascent: Ascent, at: Array, value: Array, gradient: Array) -> Ascent:
    """Returns the state after a step to the iterate `at`, with the loss and its gradient there."""
    better = value > ascent.best_value
    return ascent._replace(
        at=at,
        value=value,
        gradient=gradient,
        previous=ascent.at,
        best=xp.where(better[:, None], at, ascent.best),
        best_value=xp.where(better, value, ascent.best_value),
        best_gradient=xp.where(better[:, None], gradient, ascent.best_gradient),
        rises=ascent.rises + xp.astype(value > ascent.value, value.dtype),
    )


def after_checkpoint(xp: Any, ascent: Ascent, since: int) -> Ascent:
    """Returns the state after a checkpoint.

    Args:
        since: the number of steps since the previous checkpoint.
    """
    stalled = ~ascent.halved & (ascent.best_value == ascent.checkpoint_value)
    halved = (ascent.rises < MIN_RISING_SHARE * since) | stalled
    row = halved[:, None]
    return ascent._replace(
        at=xp.where(row, ascent.best, ascent.at),
        value=xp.where(halved, ascent.best_value, ascent.value),
        gradient=xp.where(row, ascent.best_gradient, ascent.gradient),
        step=xp.where(row, ascent.step / 2, ascent.step),
        rises=xp.zeros_like(ascent.rises),
        checkpoint_value=ascent.best_value,
        halved=halved,
    )


def checkpoint_steps(steps: int) -> list[int]:
    """Returns the numbers of steps after which the step sizes are reconsidered."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # Rounded first, because 0.22 * 100 is slightly above 22 in floating point.
    return sorted({math.ceil(round(share * steps, 9)) for share in shares[1:-1]})
