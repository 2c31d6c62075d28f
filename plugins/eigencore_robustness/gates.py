"""Gates: conditions for a conclusion. Each passes, warns or fails, and reports what was observed.

After the checklist of Carlini et al. 2019 (arXiv:1902.06705): a network looks robust if the attack is too
weak or the gradients are masked, and correlations with its distances are then meaningless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.results import AttackResult, EigenResult
    from eigencore.space import Array, Floats

HALF_A_POINT = 0.005 + 1e-9  # with a margin for rounding: a share of 1 in 200 is not exactly .005


class GateOutcome(StrEnum):
    """The outcome of a gate."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Gate:
    """A condition and its outcome.

    Attributes:
        observed: what was observed and, unless the gate passed, what that means.
    """

    name: str
    outcome: GateOutcome
    observed: str


def logits_are_deterministic(first: Array, second: Array) -> Gate:
    """Whether two passes over the same inputs give the same logits (N, c)."""
    xp = arrays.namespace(first)
    change = float(xp.max(xp.abs(first - second)))
    if change == 0:
        return Gate("deterministic", GateOutcome.PASS, "two passes in evaluation mode agree exactly")
    return Gate(
        "deterministic",
        GateOutcome.FAIL,
        f"logits change by up to {change:.2g} between two passes: attacks on a random network must average "
        "over its randomness, and these attacks do not",
    )


def outputs_are_logits(logits: Array) -> Gate:
    """Whether the outputs (N, c) are logits; a softmax in the network saturates and so masks gradients."""
    xp = arrays.namespace(logits)
    deviation = float(xp.max(xp.abs(xp.sum(logits, axis=1) - 1)))
    if float(xp.min(logits)) >= 0 and deviation < 1e-3:
        return Gate(
            "logits", GateOutcome.FAIL, "outputs are probabilities: remove the softmax from the network"
        )
    return Gate("logits", GateOutcome.PASS, "outputs are logits")


def gradients_are_nonzero(norms: Floats) -> Gate:
    """Whether the gradients that the attack follows have nonzero norms (n,), in the attack's precision."""
    share = float(np.mean(norms == 0))
    observed = f"{100 * share:.1f} % of the input gradients are exactly zero"
    if share == 0:
        return Gate("gradients", GateOutcome.PASS, "no input gradient is exactly zero")
    if share <= 0.01:
        return Gate("gradients", GateOutcome.WARN, observed)
    return Gate(
        "gradients",
        GateOutcome.FAIL,
        f"{observed}: they are masked and give gradient-based attacks no direction",
    )


def accuracy_falls_with_eps(attacks: Sequence[AttackResult], constant_accuracy: float) -> Gate:
    """Whether the accuracy falls as eps increases, and down to zero at the largest eps.

    Args:
        attacks: the results in the order of increasing eps.
        constant_accuracy: the accuracy of a constant prediction.
    """
    name = "falls with eps"
    accuracies = [attack.accuracy for attack in attacks]
    if any(after > before + HALF_A_POINT for before, after in pairwise(accuracies)):
        listed = ", ".join(f"{100 * accuracy:.1f} %" for accuracy in accuracies)
        return Gate(name, GateOutcome.FAIL, f"the accuracy rises with eps: {listed}")
    last, largest = accuracies[-1], attacks[-1].eps
    if last <= HALF_A_POINT:
        return Gate(name, GateOutcome.PASS, f"the accuracy falls to {100 * last:.1f} % at eps {largest:g}")
    return Gate(
        name,
        GateOutcome.WARN if last <= constant_accuracy else GateOutcome.FAIL,
        f"the accuracy is still {100 * last:.1f} % at eps {largest:g}: the attack is too weak, or the "
        "largest eps is too small to show that it works",
    )


def attack_has_converged(attacks: Sequence[AttackResult], twice: Sequence[AttackResult]) -> Gate:
    """Whether doubling the steps fools hardly any more samples, at the eps at which the gain is largest.

    Args:
        attacks: the results of the attack.
        twice: the results of the same attacks with twice the steps.
    """
    n = len(attacks[0].success)
    gains = [
        int(twice.success.sum() - once.success.sum()) for once, twice in zip(attacks, twice, strict=True)
    ]
    gain = max(gains)
    eps = attacks[gains.index(gain)].eps
    observed = f"twice the steps fool {gain} more of {n} at eps {eps:g}"
    if gain <= max(1, HALF_A_POINT * n):
        return Gate("steps", GateOutcome.PASS, observed)
    return Gate(
        "steps",
        GateOutcome.WARN if gain <= 4 * max(1, HALF_A_POINT * n) else GateOutcome.FAIL,
        f"{observed}: the attack has not converged",
    )


def attack_beats_noise(noise_accuracy: float, attack: AttackResult, draws: int) -> Gate:
    """Whether the attack is at least as strong as noise.

    Args:
        noise_accuracy: the accuracy under the worst of `draws` random corners of the ball.
        attack: the result of the attack at the same eps.
        draws: the number of random corners for each sample.
    """
    observed = (
        f"eps {attack.eps:g}: {100 * attack.accuracy:.1f} % survive PGD, "
        f"{100 * noise_accuracy:.1f} % survive noise"
    )
    if attack.accuracy <= noise_accuracy + HALF_A_POINT:
        return Gate("noise", GateOutcome.PASS, observed)
    return Gate(
        "noise",
        GateOutcome.FAIL,
        f"{observed} ({draws} random corners of the ball): noise is stronger, so the attack does not work",
    )


def samples_are_held_out(held_out: bool) -> Gate:
    """Whether the samples come from the validation data."""
    if held_out:
        return Gate("samples", GateOutcome.PASS, "from the validation data")
    return Gate(
        "samples",
        GateOutcome.WARN,
        "from the data of the loss, because no validation data are given: the network may have been trained "
        "on them",
    )


def bounds_are_known(bounds: tuple[Array, Array] | None) -> Gate:
    """Whether the problem states the bounds (d,) of the entries of an input."""
    if bounds is not None:
        low, high = (_range(bound) for bound in bounds)
        return Gate("bounds", GateOutcome.PASS, f"inputs stay between {low} and {high}")
    return Gate(
        "bounds", GateOutcome.WARN, "unknown, so perturbed inputs may not be valid inputs; set Problem.bounds"
    )


def eigenpairs_converged(eigen: EigenResult, input_share: float, which: str = "over weights") -> Gate:
    """Whether all eigenpairs converged: those of the operator, and this share of those over the inputs."""
    converged, k = int(np.sum(eigen.converged)), eigen.k
    observed = f"{converged} of {k} converged {which}, {100 * input_share:.1f} % over inputs"
    passed = converged == k and input_share == 1
    return Gate("eigenpairs", GateOutcome.PASS if passed else GateOutcome.WARN, observed)


def _range(bound: Array) -> str:
    """Returns the number that all entries (d,) are equal to, or the least and the largest of them."""
    least, most = float(arrays.namespace(bound).min(bound)), float(arrays.namespace(bound).max(bound))
    return f"{least:g}" if least == most else f"{least:.3g}..{most:.3g}"


def worst_outcome(gates: Sequence[Gate]) -> GateOutcome:
    """Returns the worst outcome of the gates."""
    order = [GateOutcome.PASS, GateOutcome.WARN, GateOutcome.FAIL]
    return max((gate.outcome for gate in gates), key=order.index)
