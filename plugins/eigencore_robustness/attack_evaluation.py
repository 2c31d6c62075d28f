"""The accuracy under attack at several radii, and the gates that decide whether the attack can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy
from eigencore.problems.sharing import clip_to_bounds
from eigencore_robustness import gates
from eigencore_robustness.gates import Gate
from eigencore_robustness.samples import batches, classified_correctly

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.results import AttackResult
    from eigencore.space import Array, Floats

ATTACK, NORM = "pgd", "Linf"
NOISE_DRAWS = 10  # random corners of the ball


@dataclass(frozen=True)
class AttackEvaluation:
    """Attacks in the order of increasing eps, without their adversarial inputs, and the gates."""

    attacks: tuple[AttackResult, ...]
    gates: tuple[Gate, ...]


def evaluate_attack(
    attack: Callable[..., AttackResult],
    classifier: Classifier,
    samples: tuple[Array, Array],
    radii: Sequence[float],
    batch: int,
    seed: int,
) -> AttackEvaluation:
    """Attacks all samples at all radii, and evaluates the gates of the attack.

    The attack is compared with the same attack at twice the steps and with noise, at the radii at which these
    can change the accuracy most.
    """

    def run(eps: float, **options: Any) -> AttackResult:
        result = attack(
            ATTACK,
            eps=eps,
            samples=samples,
            batch=batch,
            seed=seed,
            classifier=classifier,
            norm=NORM,
            **options,
        )
        return replace(result, inputs=None)

    attacks = tuple(run(eps) for eps in radii)
    # Noise can change most at the radius at which half of the samples are fooled. More steps can change the
    # result at every radius at which some samples are fooled and some are not.
    middle = min(attacks, key=lambda one: abs(one.accuracy - attacks[0].correct.mean() / 2))
    undecided = [one for one in attacks if 0 < one.accuracy < one.correct.mean()] or [middle]
    twice = [run(one.eps or 0.0, steps=2 * one.options["steps"]) for one in undecided]
    x, y = samples
    logits = _logits(classifier, x, y, batch)
    noise = _accuracy_under_noise(classifier, x, y, middle.eps or 0.0, batch, seed)
    return AttackEvaluation(
        attacks,
        (
            gates.logits_are_deterministic(logits, _logits(classifier, x, y, batch)),
            gates.outputs_are_logits(logits),
            gates.bounds_are_known(classifier.bounds),
            gates.gradients_are_nonzero(_gradient_norms(classifier, x, y, batch)),
            gates.accuracy_falls_with_eps(attacks, 1 / classifier.classes),
            gates.attack_has_converged(undecided, twice),
            gates.attack_beats_noise(noise, middle, NOISE_DRAWS),
        ),
    )


def _logits(classifier: Classifier, x: Array, y: Array, batch: int) -> Array:
    return classifier.xp.concat([classifier.logits(rows) for _, rows, _ in batches(x, y, batch)])


def _gradient_norms(classifier: Classifier, x: Array, y: Array, batch: int) -> Floats:
    """Returns the norms for the correctly classified samples; the attack follows no other gradients."""
    found = []
    for _, rows, labels in batches(x, y, batch):
        _, gradient = classifier.value_and_grad(CrossEntropy(), rows, labels)
        norms = arrays.to_host(classifier.xp.linalg.vector_norm(gradient, axis=1))
        found.append(norms[classified_correctly(classifier, rows, labels)])
    return np.concatenate(found)


def _accuracy_under_noise(
    classifier: Classifier, x: Array, y: Array, eps: float, batch: int, seed: int
) -> float:
    """Returns the share of samples classified correctly at all NOISE_DRAWS random corners of their ball."""
    rng = np.random.default_rng([seed, NOISE_DRAWS])
    survived = []
    for _, rows, labels in batches(x, y, batch):
        correct = classified_correctly(classifier, rows, labels)
        for _ in range(NOISE_DRAWS):
            signs = arrays.from_host(rng.choice([-1.0, 1.0], size=rows.shape), classifier)
            noisy = clip_to_bounds(rows + eps * signs, classifier.bounds)
            correct &= classified_correctly(classifier, noisy, labels)
        survived.append(correct)
    return float(np.concatenate(survived).mean())
