"""Auto-PGD: projected gradient ascent with momentum, whose steps are halved where they have stopped paying.

Croce and Hein 2020 (arXiv:2003.01690), algorithm 1. Every sample has a step size of its own, 2 eps at first.
At checkpoints that lie ever closer it is halved where the loss rose in less than three quarters of the steps
since the last one (condition 1), or where neither step size nor best loss have changed since (condition 2);
such a sample goes on from its best iterate. This differs from the paper in:

1. A sample is done with at its first misclassified iterate, which is kept.
2. For the cross-entropy the log-odds are climbed: the same way up, and not zero where the softmax saturates.

It is one part of what the paper calls AutoAttack, and no substitute for all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore_attacks.balls import Ball, Norm
from eigencore_attacks.losses import LOSSES, Loss
from eigencore_attacks.survivors import Survivors

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array, Floats

LONGEST = 2.0  # step, in parts of eps
MOMENTUM = 0.75  # the part of a new step; the rest is of the one before
PAYS = 0.75  # the share of steps in which the loss must rise


@dataclass(frozen=True)
class APGDOptions:
    norm: Norm = option("Linf", help="of the ball", when="L2 where perturbations may be concentrated")
    steps: int = option(
        100, low=1, help="gradient steps from each start", when="raise it while accuracy falls"
    )
    restarts: int = option(
        1,
        low=1,
        help="random starts; only who is not broken is started again",
        when="raise it on networks whose gradients mislead",
    )
    loss: Loss = option(
        "cross_entropy", help="what is climbed", when="dlr for a second opinion: it ignores the logits' scale"
    )


def apgd(
    classifier: Classifier, x: Array, y: Array, options: APGDOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack: see `eigencore.interfaces.Attack`. UsageError: dlr of fewer than three classes."""
    loss, ball = LOSSES[options.loss], Ball(eps, options.norm, classifier.bounds)
    rng = np.random.default_rng(seed)
    left = Survivors(classifier, x, y)
    for _ in range(options.restarts):
        start = ball.chance(rng, x.shape)
        ascend(classifier, loss, ball, left, start[left.index], options.steps)
        if not left:
            break
    return left.inputs()


class Run(NamedTuple):
    """An ascent of b samples, a row each.

    Attributes:
        at, value, gradient: the iterate (b, d), and the loss (b,) and its gradient (b, d) there.
        previous: the iterate before.
        best, highest, steepest: the iterate of largest loss so far, and loss and gradient there.
        length: of a step in parts of eps (b, 1).
        rises: steps since the last checkpoint in which the loss rose (b,).
        highest_then, halved: at that checkpoint the largest loss, and whether the step was halved (b,).
    """

    at: Array
    value: Array
    gradient: Array
    previous: Array
    best: Array
    highest: Array
    steepest: Array
    length: Array
    rises: Array
    highest_then: Array
    halved: Array


def ascend(
    classifier: Classifier, loss: Objective, ball: Ball, left: Survivors, start: Floats, steps: int
) -> None:
    """One run from the change `start` (b, d); what it finds is in `left`."""
    at = ball.project(left.x + arrays.from_host(start, classifier), left.x)
    run = begun(classifier.xp, at, *classifier.value_and_grad(loss, at, left.y))
    run = Run(*left.look(run.value, at, *run))
    last, looks = 0, checkpoints(steps)
    for k in range(steps):
        if not left:
            return
        at = advanced(ball, left.x, run, MOMENTUM if k else 1.0)
        run = arrived(classifier.xp, run, at, *classifier.value_and_grad(loss, at, left.y))
        run = Run(*left.look(run.value, at, *run))
        if k + 1 in looks:
            run, last = checked(classifier.xp, run, k + 1 - last), k + 1


def begun(xp: Any, at: Array, value: Array, gradient: Array) -> Run:
    none = xp.zeros_like(value)
    length = xp.full_like(value, LONGEST)[:, None]
    return Run(at, value, gradient, at, at, value, gradient, length, none, value, none > 0)


def advanced(ball: Ball, centre: Array, run: Run, fresh: float) -> Array:
    """The next iterate: `fresh` parts of a gradient step, the others of the step before."""
    there = ball.project(run.at + run.length * ball.step(run.gradient), centre)
    moved = fresh * (there - run.at) + (1 - fresh) * (run.at - run.previous)
    return ball.project(run.at + moved, centre)


def arrived(xp: Any, run: Run, at: Array, value: Array, gradient: Array) -> Run:
    better = value > run.highest
    return run._replace(
        at=at,
        value=value,
        gradient=gradient,
        previous=run.at,
        best=xp.where(better[:, None], at, run.best),
        highest=xp.where(better, value, run.highest),
        steepest=xp.where(better[:, None], gradient, run.steepest),
        rises=run.rises + xp.astype(value > run.value, value.dtype),
    )


def checked(xp: Any, run: Run, since: int) -> Run:
    """A checkpoint, `since` steps after the last one: whose steps don't pay has them halved."""
    stuck = ~run.halved & (run.highest == run.highest_then)
    halved = (run.rises < PAYS * since) | stuck
    row = halved[:, None]
    return run._replace(
        at=xp.where(row, run.best, run.at),
        value=xp.where(halved, run.highest, run.value),
        gradient=xp.where(row, run.steepest, run.gradient),
        length=xp.where(row, run.length / 2, run.length),
        rises=xp.zeros_like(run.rises),
        highest_then=run.highest,
        halved=halved,
    )


def checkpoints(steps: int) -> list[int]:
    """After how many steps the step sizes are looked at."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # Rounded first: 0.22 * 100 is a little above 22.
    return sorted({math.ceil(round(share * steps, 9)) for share in shares[1:-1]})
