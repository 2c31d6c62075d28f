"""Two or three sentences that claim no more than the numbers do.

They never say that curvature causes anything, that a radius is certified, or that an attack found the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore_robustness.associations import FIRST_ORDER, Associations
from eigencore_robustness.gates import Gate, Outcome
from eigencore_robustness.statistics import MINIMUM, Interval, Standing

if TYPE_CHECKING:
    from eigencore_robustness.statistics import Added

WORDS = {
    "lambda_max": "lambda_max of the loss over the input",
    "nu": "nu of the margin over the input",
    "weight_curvature": "v_1'H v_1 over the weights",
}
# For one, and for more than one.
VERBS = {
    Standing.REDUNDANT: ("repeats", "repeat"),
    Standing.ADDS: ("goes with the distance beyond", "go with the distance beyond"),
    Standing.COLLINEAR: ("can't be told apart from", "can't be told apart from"),
    Standing.OPEN: ("is not shown to add to", "are not shown to add to"),
}
LIMITS = "These are associations across the samples of one network; they say nothing about another."


@dataclass(frozen=True)
class Cautious:
    """How the cautious radius did: `below` of `broken` samples lie closer; `flat`: there is none."""

    below: int
    broken: int
    flat: bool


def verdict(gates: Sequence[Gate], n: int, found: Associations, cautious: Cautious) -> str:
    """`n` is how many correctly classified samples there were."""
    failed = [gate.name for gate in gates if gate.outcome is Outcome.FAIL]
    if failed:
        return (
            f"No conclusion about the network: {_listed(failed)} failed (see the gates), so the distances "
            "say what this attack could not do, not what the network withstands."
        )
    if n < MINIMUM:
        return (
            f"Only {n} correctly classified samples: no inference below {MINIMUM}. "
            "The numbers describe these samples and no others."
        )
    sentences = [first_order(found), curvature(found), radius(cautious), LIMITS]
    return " ".join(sentence for sentence in sentences if sentence)


def first_order(found: Associations) -> str:
    ranks, calibrated = found.ranks[FIRST_ORDER], found.estimators[FIRST_ORDER].calibration
    ratio, error = calibrated.ratio.estimate, calibrated.error.estimate
    if ranks.estimate is None or ratio is None or error is None:
        return f"First order can't be judged: {ranks.reason or calibrated.ratio.reason}."
    told = f"First order (r1) ranks the distances with rho = {interval(ranks)}"
    if abs(ratio - 1) < 0.05:
        return f"{told} and is typically {100 * error:.1f} % off."
    way = "more" if ratio > 1 else "less"
    return (
        f"{told}; typically it claims {100 * abs(ratio - 1):.0f} % {way} than the attack needed, "
        f"and with that factor granted is {100 * error:.1f} % off."
    )


def curvature(found: Associations) -> str:
    """What each top eigenvalue says beside loss, gradient norm and r1."""
    by_standing: dict[Standing, list[str]] = {standing: [] for standing in Standing}
    for name, one in found.added.items():
        if found.ranks[name].estimate is not None:
            by_standing[one.standing].append(f"{WORDS[name]}{_evidence(one)}")
    sentences, these = [], "loss, gradient norm and r1"
    for standing, words in by_standing.items():
        if words:
            end = ": redundant" if standing is Standing.REDUNDANT else ""
            sentences.append(f"{_listed(words)} {VERBS[standing][len(words) > 1]} {these}{end}.")
            these = "them"
    return " ".join(sentences)


def radius(cautious: Cautious) -> str:
    if cautious.flat:
        return "The margin has no curvature almost everywhere (piecewise linear): no cautious radius."
    return (
        f"The attack got below the cautious radius on {cautious.below} of {cautious.broken} samples; "
        "it is a quadratic model's and certifies nothing."
    )


def interval(of: Interval) -> str:
    if of.estimate is None:
        return "-"
    if of.low is None or of.high is None:
        return _two(of.estimate)
    return f"{_two(of.estimate)} [{_two(of.low)}, {_two(of.high)}]"


def _two(x: float) -> str:
    # Adding zero turns -0.0 into 0.0.
    return f"{round(x, 2) + 0.0:.2f}"


def _evidence(one: Added) -> str:
    """What the word rests on: the variance inflation, or the partial correlation and what it predicts."""
    if one.standing in (Standing.REDUNDANT, Standing.COLLINEAR):
        return "" if one.vif is None else f" (VIF {one.vif:.0f})"
    gain = "" if one.r2.gain is None else f", R2 gain {round(one.r2.gain, 3) + 0.0:.3f}"
    return f" (partial rho {interval(one.partial)}{gain})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
