"""What must hold before anything is claimed: each gate passes, warns or fails, and says what it saw.

After the checklist of Carlini et al. 2019 (arXiv:1902.06705): an attack that is too weak, or gradients that
are hidden, make a network look robust and any correlation with its distances empty.
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

HALF_A_POINT = 0.005 + 1e-9  # a share of 1 in 200 is not exactly that


class Outcome(StrEnum):
    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Gate:
    """`seen` is what was seen; where it did not pass, also what that means."""

    name: str
    outcome: Outcome
    seen: str


def deterministic(first: Array, second: Array) -> Gate:
    """The logits (N, c) of the same inputs, twice."""
    xp = arrays.namespace(first)
    change = float(xp.max(xp.abs(first - second)))
    if change == 0:
        return Gate("deterministic", Outcome.PASS, "the same logits twice, in evaluation mode")
    return Gate(
        "deterministic",
        Outcome.FAIL,
        f"logits change by up to {change:.2g} from one pass to the next: attacks of a random network must "
        "average over its randomness, and these don't",
    )


def logits_are_no_probabilities(logits: Array) -> Gate:
    """A softmax inside the network hides gradients: its loss saturates twice."""
    xp = arrays.namespace(logits)
    off = float(xp.max(xp.abs(xp.sum(logits, axis=1) - 1)))
    if float(xp.min(logits)) >= 0 and off < 1e-3:
        return Gate("logits", Outcome.FAIL, "outputs are probabilities: give the network without its softmax")
    return Gate("logits", Outcome.PASS, "outputs are no probabilities")


def gradients_are_there(norms: Floats) -> Gate:
    """Norms (n,) of the gradients that the attack follows, in its own precision."""
    share = float(np.mean(norms == 0))
    seen = f"{100 * share:.1f} % of input gradients are exactly zero"
    if share == 0:
        return Gate("gradients", Outcome.PASS, "no input gradient is zero")
    if share <= 0.01:
        return Gate("gradients", Outcome.WARN, seen)
    return Gate("gradients", Outcome.FAIL, f"{seen}: they are masked, and attacks that follow them are blind")


def falls_with_eps(attacks: Sequence[AttackResult], chance: float) -> Gate:
    """`attacks` with rising eps; `chance` is the accuracy of a constant answer."""
    accuracies = [attack.accuracy for attack in attacks]
    told = ", ".join(f"{100 * a:.1f} %" for a in accuracies)
    if any(after > before + HALF_A_POINT for before, after in pairwise(accuracies)):
        return Gate("falls with eps", Outcome.FAIL, f"accuracy rises with a larger eps: {told}")
    last, largest = accuracies[-1], attacks[-1].eps
    if last <= HALF_A_POINT:
        return Gate("falls with eps", Outcome.PASS, f"down to {100 * last:.1f} % at eps {largest:g}")
    outcome = Outcome.WARN if last <= chance else Outcome.FAIL
    return Gate(
        "falls with eps",
        outcome,
        f"{100 * last:.1f} % survive eps {largest:g}: the attack is too weak there, or eps too small to tell",
    )


def more_steps_change_little(attacks: Sequence[AttackResult], twice: Sequence[AttackResult]) -> Gate:
    """Each attack beside the same with twice the steps; what counts is where most changes."""
    n = len(attacks[0].success)
    losses = [
        int(twice.success.sum() - once.success.sum()) for once, twice in zip(attacks, twice, strict=True)
    ]
    lost = max(losses)
    once = attacks[losses.index(lost)]
    seen = f"twice the steps break {lost} of {n} more at eps {once.eps:g}"
    if lost <= max(1, HALF_A_POINT * n):
        return Gate("steps", Outcome.PASS, seen)
    return Gate(
        "steps",
        Outcome.WARN if lost <= 4 * max(1, HALF_A_POINT * n) else Outcome.FAIL,
        f"{seen}: not converged",
    )


def noise_is_weaker(noise_accuracy: float, attack: AttackResult, draws: int) -> Gate:
    """The accuracy under the worst of some random corners of the ball for each sample, against the attack."""
    seen = (
        f"at eps {attack.eps:g} {draws} draws leave {100 * noise_accuracy:.1f} %, "
        f"the attack {100 * attack.accuracy:.1f} %"
    )
    if attack.accuracy <= noise_accuracy + HALF_A_POINT:
        return Gate("noise", Outcome.PASS, seen)
    return Gate("noise", Outcome.FAIL, f"{seen}: noise is stronger, so the attack does not work")


def samples_are_held_out(held_out: bool) -> Gate:
    if held_out:
        return Gate("samples", Outcome.PASS, "of the validation data")
    return Gate(
        "samples",
        Outcome.WARN,
        "of the data of the loss, since no validation data are given: fitted, perhaps",
    )


def bounds_are_known(bounds: tuple[float, float] | None) -> Gate:
    if bounds is not None:
        return Gate("bounds", Outcome.PASS, f"inputs stay from {bounds[0]:g} to {bounds[1]:g}")
    return Gate(
        "bounds", Outcome.WARN, "none are known: perturbed inputs may be no inputs at all; set Problem.bounds"
    )


def eigenpairs_converged(eigen: EigenResult, input_share: float) -> Gate:
    """Those over the weights, and the share of the samples' over the input that did."""
    found, wanted = int(np.sum(eigen.converged)), eigen.k
    seen = f"converged: {found} of {wanted} over weights, {100 * input_share:.1f} % over inputs"
    passed = found == wanted and input_share == 1
    return Gate("eigenpairs", Outcome.PASS if passed else Outcome.WARN, seen)


def worst(gates: Sequence[Gate]) -> Outcome:
    order = [Outcome.PASS, Outcome.WARN, Outcome.FAIL]
    return max((gate.outcome for gate in gates), key=order.index)
