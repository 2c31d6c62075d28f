"""The accuracy under attacks at several radii, and the gates that say whether they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore_robustness.samples import batches, evenly_spaced
from eigencore_robustness.under_attack import attack_gates, gates
from eigencore_robustness.under_attack.gates import Gate
from eigencore_robustness.under_attack.gradient_watch import GradientWatch
from eigencore_robustness.under_attack.line_integrals import integral_error
from eigencore_robustness.under_attack.smallest_perturbations import (
    SmallestPerturbations,
    smallest_perturbations,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.results import AttackResult
    from eigencore_robustness.under_attack.attacker import Attacker

    Mask = npt.NDArray[np.bool_]

FIXED, GRADIENT_FREE, NORM = "pgd", "square", "Linf"
QUERIES = 500  # of the attack without gradients
LOOKED_AT = 100  # samples of a gate that would cost more than the attacks if it looked at all


@dataclass(frozen=True)
class AttackEvaluation:
    """What withstands several attacks.

    Attributes:
        correct: whether each sample (N,) is classified correctly without a perturbation.
        radii: the radii, in increasing order.
        withstood: whether each sample (radii, N) is classified correctly after all attacks at a radius.
        fixed: the results of PGD at each radius.
        smallest: the smallest perturbations in the same norm.
        gates: the gates of the attacks.
    """

    correct: Mask
    radii: tuple[float, ...]
    withstood: Mask
    fixed: tuple[AttackResult, ...]
    smallest: SmallestPerturbations
    gates: tuple[Gate, ...]


def evaluate_attacks(attacker: Attacker, radii: Sequence[float]) -> AttackEvaluation:
    """Attacks all samples at all radii (increasing), and evaluates the gates of the attacks.

    PGD is run at each radius, the attacks that search for the smallest perturbation once. What they leave is
    attacked by PGD with twice the steps, and at one radius without gradients.
    """
    watch = GradientWatch(attacker.classifier)
    fixed = tuple(attacker.run(FIXED, eps=eps, norm=NORM, classifier=watch) for eps in radii)
    smallest = smallest_perturbations(attacker, NORM)
    correct = fixed[0].correct
    withstood = np.stack(
        [~one.success & (smallest.distance > eps) for one, eps in zip(fixed, radii, strict=True)]
    )
    # The radius at which about half of the samples are fooled tells attacks apart best.
    middle = int(np.argmin(np.abs(withstood.mean(axis=1) - correct.mean() / 2)))
    found = (
        *_gates_of_network(attacker),
        attack_gates.gradients_are_nonzero(watch.zero_share),
        _gradients_are_those_of_the_margin(attacker, correct, radii[middle]),
        attack_gates.smallest_agree_with_fixed(smallest, fixed),
        _more_steps_fool_few(attacker, fixed, withstood, middle),
        _gradients_are_not_needed(attacker, radii[middle], withstood[middle]),
    )
    # What fools the network at one radius is within every larger one.
    withstood = np.logical_and.accumulate(withstood, axis=0)
    falls = attack_gates.accuracy_falls_with_eps(
        fixed, float(withstood[-1].mean()), 1 / attacker.classifier.classes
    )
    return AttackEvaluation(correct, tuple(radii), withstood, fixed, smallest, (*found, falls))


def _gates_of_network(attacker: Attacker) -> tuple[Gate, ...]:
    classifier = attacker.classifier
    first, second = (
        classifier.xp.concat(
            [classifier.logits(rows) for _, rows, _ in batches(attacker.x, attacker.y, attacker.batch)]
        )
        for _ in range(2)
    )
    return (
        gates.logits_are_deterministic(first, second),
        gates.outputs_are_logits(first),
        gates.bounds_are_known(classifier.bounds),
    )


def _gradients_are_those_of_the_margin(attacker: Attacker, correct: Mask, eps: float) -> Gate:
    chosen = evenly_spaced(np.flatnonzero(correct), min(LOOKED_AT, attacker.batch))
    x, y = (arrays.rows(part, chosen) for part in (attacker.x, attacker.y))
    return attack_gates.margins_are_integrals(
        integral_error(attacker.classifier, x, y, eps, attacker.seed), eps
    )


def _more_steps_fool_few(
    attacker: Attacker, fixed: Sequence[AttackResult], withstood: Mask, middle: int
) -> Gate:
    """Attacks what was withstood (radii, N) with twice the steps; what that fools is withstood no more."""
    # At every radius at which some samples are fooled and some are not, more steps may fool more.
    undecided = [i for i, left in enumerate(withstood) if 0 < left.sum() < fixed[i].correct.sum()]
    gains = {}
    for i in undecided or [middle]:
        eps, left = fixed[i].eps or 0.0, np.flatnonzero(withstood[i])
        gains[eps] = 0
        if len(left):
            twice = attacker.run(FIXED, left, eps=eps, norm=NORM, steps=2 * fixed[i].options["steps"])
            withstood[i, left] = ~twice.success
            gains[eps] = int(twice.success.sum())
    return attack_gates.more_steps_fool_few(gains, withstood.shape[1])


def _gradients_are_not_needed(attacker: Attacker, eps: float, withstood: Mask) -> Gate:
    """Attacks what was withstood (N,) without gradients; what that fools is withstood no more."""
    left = np.flatnonzero(withstood)
    tried = evenly_spaced(left, LOOKED_AT)
    fooled = np.zeros(len(tried), dtype=bool)
    if len(tried):
        fooled = attacker.run(GRADIENT_FREE, tried, eps=eps, norm=NORM, queries=QUERIES).success
        withstood[tried] = ~fooled
    return attack_gates.gradients_are_not_needed(
        int(fooled.sum()), len(tried), len(left), len(withstood), eps
    )
