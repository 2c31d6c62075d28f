"""DeepFool towards several classes: the smallest perturbation, by projections onto linearised boundaries.

Moosavi-Dezfooli et al. 2016 (arXiv:1511.04599), algorithm 2. The boundary to a class is replaced by the plane
on which the linearised difference of two logits is zero, and the iterate moves to the nearest point of that
plane. Nothing depends on the scale of the logits or of the inputs, and no step size has to be chosen. This
differs from the paper in:

1. The paper ends at the first misclassified iterate, which is not the nearest one. The iterates continue
   along the boundary, towards its point nearest to the sample: each is a mean of its own projection and of
   that of the sample, as in the attack FAB of Croce and Hein 2020 (arXiv:1907.02044).
2. The paper linearises the boundaries to all classes in every step and takes the nearest plane, which needs a
   gradient per class and step. Here each of a few classes is the target of all steps once: those with the
   largest logits at the sample. The first target is not fixed, it is the class of the largest other logit.
3. Projections respect the bounds of the inputs: the nearest point of a plane is that within the bounds.
4. The segment from the sample to its nearest misclassified iterate is bisected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore.options import option
from eigencore.problems.sharing import clip_to_bounds
from eigencore_attacks.half_space import shortest_step
from eigencore_attacks.losses import NegativeMargin, largest_others, towards
from eigencore_attacks.nearest import Nearest
from eigencore_attacks.norm_ball import Norm

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array

OVERSHOOT = 1.02  # of a projection, so that it crosses the boundary; that of the paper
RETURN = 0.3  # the weight of the sample's own projection, once an iterate of it was misclassified


@dataclass(frozen=True)
class DeepFoolOptions:
    """Options of the attack `deepfool`."""

    norm: Norm = option(
        "L2", help="norm of the perturbation", when="use Linf to compare with attacks in Linf balls"
    )
    steps: int = option(
        20,
        low=1,
        help="gradient steps towards each target",
        when="use 50 or more on adversarially trained networks",
    )
    targets: int = option(
        3,
        low=1,
        help="number of classes that are tried as targets, from the one with the largest logit",
        when="raise it if there are many classes; each target takes all steps",
    )


def deepfool(
    classifier: Classifier, x: Array, y: Array, options: DeepFoolOptions, /, *, eps: None, seed: int
) -> Array:
    """The attack `deepfool`: the smallest perturbation that it finds for each sample.

    Args:
        classifier: the network under attack.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `DeepFoolOptions`.
        eps: None, because the attack chooses the norm itself.
        seed: without effect; nothing is random.

    Returns:
        Inputs (b, d) within the bounds; a sample that is never misclassified keeps its row of x.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "deepfool", images=50)
        print(result.distance)
    """
    nearest = Nearest(x, y, options.norm)
    project(classifier, NegativeMargin(), nearest, options.steps)
    count = min(options.targets, classifier.classes - 1)
    if count > 1:
        others = largest_others(classifier.logits(x), y, count)
        for i in range(1, count):
            project(classifier, towards(NegativeMargin, others[:, i]), nearest, options.steps)
    return nearest.bisected(classifier)


def project(classifier: Classifier, loss: Objective, nearest: Nearest, steps: int) -> None:
    """Takes steps from the samples to the boundary on which the loss is zero, and along it."""
    xp, bounds, x, norm = classifier.xp, classifier.bounds, nearest.x, nearest.norm
    at, crossed = x, xp.zeros_like(nearest.found)
    for _ in range(steps):
        value, gradient = classifier.value_and_grad(loss, at, nearest.y)
        nearest.record(at, value)
        value = value[:, None]
        crossed = crossed | (value > 0)
        # The loss at the sample, if it were linear; a plane that the sample has crossed is not approached.
        value_at_x = value + xp.sum(gradient * (x - at), axis=1, keepdims=True)
        from_x = x + OVERSHOOT * shortest_step(x, gradient, xp.clip(-value_at_x, 0, None), norm, bounds)
        towards_boundary = xp.where(value > 0, -gradient, gradient)
        onwards = at + OVERSHOOT * shortest_step(at, towards_boundary, xp.abs(value), norm, bounds)
        at = xp.where(crossed, RETURN * from_x + (1 - RETURN) * onwards, onwards)
        at = clip_to_bounds(at, bounds)
    nearest.evaluate(classifier, at)
