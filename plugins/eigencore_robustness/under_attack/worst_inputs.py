"""Inputs of nearly the largest loss in a ball around each sample, and the problem that has them as its data.

The attack `pgd` stops a sample at its first misclassified iterate, which is what the accuracy under attack
needs. The robust loss is the maximum over the ball, of misclassified samples as well (Madry et al. 2018,
arXiv:1706.06083, equation 2.1), so that the ascent continues here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.news import counter, report
from eigencore.objectives import CrossEntropy, LabelOdds
from eigencore.problems.sharing import clip_to_bounds
from eigencore_robustness.precision import highest_precision
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext, Bound, Classifier, Problem
    from eigencore.space import Array, Floats

STEPS = 20  # from a random point; the steps decrease from eps to a hundredth of it
LAST_STEP = 0.01
SAME_LOSS = 1e-3  # relative difference of the loss of a problem that was put together again


def worst_inputs(
    classifier: Classifier, x: Array, y: Array, eps: float, batch: int, seed: int
) -> tuple[Array, Floats]:
    """Inputs (N, d) of nearly the largest cross-entropy within eps (Linf) and the bounds, and that loss (N,).

    Args:
        classifier: the network.
        x, y: samples (N, d) and labels (N,).

    Returns:
        The inputs, each at least as bad as its sample, and the loss there, on the host.
    """
    xp, found, done = classifier.xp, [], counter(report, "worst inputs", x.shape[0], "samples")
    for at, rows, labels in batches(x, y, batch):
        draws = arrays.generator(seed, "worst inputs", at).uniform(-eps, eps, rows.shape)
        best, worst = rows, LabelOdds().value(classifier.logits(rows), labels)
        moved = clip_to_bounds(rows + arrays.from_host(draws, classifier), classifier.bounds)
        for step in (*_steps(eps), 0.0):
            odds, gradient = classifier.value_and_grad(LabelOdds(), moved, labels)
            higher = odds > worst
            best, worst = xp.where(higher[:, None], moved, best), xp.where(higher, odds, worst)
            moved = xp.minimum(xp.maximum(moved + step * xp.sign(gradient), rows - eps), rows + eps)
            moved = clip_to_bounds(moved, classifier.bounds)
        done(at + rows.shape[0])
        found.append((best, arrays.to_host(CrossEntropy().value(classifier.logits(best), labels))))
    inputs, losses = zip(*found, strict=True)
    return xp.concat(inputs), np.concatenate(losses)


def _steps(eps: float) -> list[float]:
    angles = (math.pi * i / STEPS for i in range(STEPS))
    return [eps * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(angle)) / 2) for angle in angles]


def robust_problem(context: AnalysisContext, eps: float, batch: int) -> Bound:
    """The run's problem at the worst inputs of its data, held fixed, bound as the run bound its own.

    Its loss is the robust loss over the data, and its gradient that of the robust loss (Danskin 1966). Its
    Hessian leaves out that the worst inputs move with the weights.

    Raises:
        ProblemError: the data can't be replaced: batches (x, y) do not give the loss of the problem.
    """
    bound, problem = context.bound, context.problem
    if bound is None or problem is None:
        raise ProblemError("the run was given a bound problem, whose data are not known")
    own = context.bind(replace(problem, validation=None))
    x, y = own.classifier().samples()
    same = context.bind(_with_data(problem, own.classifier(), x, y, batch)).loss()
    loss = bound.loss()
    if not abs(same - loss) <= SAME_LOSS * abs(loss):
        raise ProblemError(
            f"the loss of batches (inputs, labels) is {same:.6g}, and that of the problem {loss:.6g}"
        )
    precise = own.classifier(highest_precision(own))
    inputs, _ = worst_inputs(precise, *precise.samples(), eps, batch, context.seed)
    inputs = own.classifier().xp.astype(inputs, x.dtype)
    return context.bind(_with_data(problem, own.classifier(), inputs, y, batch))


def _with_data(problem: Problem, classifier: Classifier, x: Array, y: Array, batch: int) -> Problem:
    """The problem with batches of these samples (N, d) as its data."""
    inputs = classifier.xp.reshape(x, (-1, *classifier.shape))
    data = [(rows, labels) for _, rows, labels in batches(inputs, y, batch)]
    return replace(problem, data=data, validation=None)
