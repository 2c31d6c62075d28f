"""The accuracy under attack at a few radii, and what tells whether the attack is worth its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.objectives import CrossEntropy
from eigencore_robustness import gates
from eigencore_robustness.gates import Gate
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.results import AttackResult
    from eigencore.space import Array, Floats

ATTACK, NORM = "pgd", "Linf"
CORNERS = 10  # random corners of the ball


@dataclass(frozen=True)
class Strength:
    """Attacks with rising eps, their adversarial inputs left out, and what the gates saw."""

    attacks: tuple[AttackResult, ...]
    gates: tuple[Gate, ...]


def strength(
    attack: Callable[..., AttackResult],
    classifier: Classifier,
    samples: tuple[Array, Array],
    radii: Sequence[float],
    batch: int,
    seed: int,
) -> Strength:
    """Attacks all samples at all radii; then with twice the steps, and with noise, where it tells most."""

    def run(eps: float, **options: Any) -> AttackResult:
        found = attack(
            ATTACK,
            eps=eps,
            samples=samples,
            batch=batch,
            seed=seed,
            classifier=classifier,
            norm=NORM,
            **options,
        )
        return replace(found, inputs=None)

    attacks = tuple(run(eps) for eps in radii)
    # Noise has most to change where as many are broken as not; more steps, wherever some are and some not.
    telling = min(attacks, key=lambda one: abs(one.accuracy - attacks[0].correct.mean() / 2))
    undecided = [one for one in attacks if 0 < one.accuracy < one.correct.mean()] or [telling]
    twice = [run(one.eps or 0.0, steps=2 * one.options["steps"]) for one in undecided]
    x, y = samples
    logits = _logits(classifier, x, y, batch)
    noise = _accuracy_under_noise(classifier, x, y, telling.eps or 0.0, batch, seed)
    return Strength(
        attacks,
        (
            gates.deterministic(logits, _logits(classifier, x, y, batch)),
            gates.logits_are_no_probabilities(logits),
            gates.bounds_are_known(classifier.bounds),
            gates.gradients_are_there(_gradient_norms(classifier, x, y, batch)),
            gates.falls_with_eps(attacks, 1 / classifier.classes),
            gates.more_steps_change_little(undecided, twice),
            gates.noise_is_weaker(noise, telling, CORNERS),
        ),
    )


def _logits(classifier: Classifier, x: Array, y: Array, batch: int) -> Array:
    return classifier.xp.concat([classifier.logits(rows) for _, rows, _ in batches(x, y, batch)])


def _gradient_norms(classifier: Classifier, x: Array, y: Array, batch: int) -> Floats:
    """Of the correctly classified ones: the attack follows no others."""
    found = []
    for _, rows, labels in batches(x, y, batch):
        _, gradient = classifier.value_and_grad(CrossEntropy(), rows, labels)
        norms = arrays.to_host(classifier.xp.linalg.vector_norm(gradient, axis=1))
        found.append(norms[right(classifier, rows, labels)])
    return np.concatenate(found)


def _accuracy_under_noise(
    classifier: Classifier, x: Array, y: Array, eps: float, batch: int, seed: int
) -> float:
    """The share of samples that are right at every one of CORNERS random corners of their Linf ball."""
    rng = np.random.default_rng([seed, CORNERS])
    survived = []
    for _, rows, labels in batches(x, y, batch):
        still = right(classifier, rows, labels)
        for _ in range(CORNERS):
            signs = arrays.from_host(rng.choice([-1.0, 1.0], size=rows.shape), classifier)
            noisy = rows + eps * signs
            if classifier.bounds is not None:
                noisy = classifier.xp.clip(noisy, *classifier.bounds)
            still &= right(classifier, noisy, labels)
        survived.append(still)
    return float(np.concatenate(survived).mean())


def right(classifier: Classifier, x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """Which inputs (b, d) are classified as their labels (b,)."""
    predicted = arrays.to_host(classifier.xp.argmax(classifier.logits(x), axis=1))
    return np.asarray(predicted == arrays.to_host(y))
