"""The verdict: a few sentences that claim no more than the numbers support.

They never say that curvature causes anything, that a radius is certified, or that an attack found the true
distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore_robustness.associations import FIRST_ORDER, Associations
from eigencore_robustness.gates import Gate, GateOutcome
from eigencore_robustness.statistics.added_information import Finding
from eigencore_robustness.statistics.intervals import MINIMUM, Interval

if TYPE_CHECKING:
    from eigencore_robustness.statistics.added_information import AddedInformation

DESCRIPTIONS = {
    "lambda_max": "lambda_max of the loss over the input",
    "nu": "nu of the margin over the input",
    "weight_curvature": "v_1'H v_1 over the weights",
}
# Verbs for one subject, and for several.
VERBS = {
    Finding.REDUNDANT: ("is redundant given", "are redundant given"),
    Finding.ADDS: ("correlates with the distance beyond", "correlate with the distance beyond"),
    Finding.COLLINEAR: ("cannot be separated from", "cannot be separated from"),
    Finding.INCONCLUSIVE: (
        "is not shown to add information beyond",
        "are not shown to add information beyond",
    ),
}
LIMITS = "These are associations across the samples of one network and say nothing about other networks."


@dataclass(frozen=True)
class CautiousRadiusCheck:
    """How the cautious radius compares with the distances.

    Attributes:
        below: the number of fooled samples whose distance is below their cautious radius.
        fooled: the number of fooled samples.
        flat: whether the margins are flat, so that there is no cautious radius.
    """

    below: int
    fooled: int
    flat: bool


def verdict(gates: Sequence[Gate], n: int, found: Associations, cautious: CautiousRadiusCheck) -> str:
    """Returns the verdict on a study with n correctly classified samples."""
    failed = [gate.name for gate in gates if gate.outcome is GateOutcome.FAIL]
    if failed:
        return (
            f"No conclusion about the network (failed gate{'s' * (len(failed) > 1)}: {', '.join(failed)}): "
            "the distances show what this attack could not do, not what the network withstands."
        )
    if n < MINIMUM:
        return (
            f"Only {n} correctly classified sample{'s' * (n != 1)}: no inference is made below {MINIMUM}. "
            "The numbers describe these samples and no others."
        )
    sentences = [first_order(found), curvature(found), radius(cautious), LIMITS]
    return " ".join(sentence for sentence in sentences if sentence)


def first_order(found: Associations) -> str:
    """Returns the sentence on r1 as an estimate of the distance."""
    ranks, calibrated = found.ranks[FIRST_ORDER], found.estimators[FIRST_ORDER].calibration
    ratio, error = calibrated.ratio.estimate, calibrated.error.estimate
    if ranks.estimate is None or ratio is None or error is None:
        return f"The first-order estimate r1 cannot be assessed: {ranks.reason or calibrated.ratio.reason}."
    start = f"The first-order estimate r1 correlates with the distance (Spearman rho = {interval(ranks)})"
    end = f"its median error after rescaling is {100 * error:.1f} %."
    if abs(ratio - 1) < 0.05:
        return f"{start}; {end}"
    verb = "overstates" if ratio > 1 else "understates"
    return f"{start} and typically {verb} it by {100 * abs(ratio - 1):.0f} %; {end}"


def curvature(found: Associations) -> str:
    """Returns a sentence per finding on what the top eigenvalues add to loss, gradient norm and r1."""
    by_finding: dict[Finding, list[str]] = {finding: [] for finding in Finding}
    for name, one in found.added.items():
        if found.ranks[name].estimate is not None:
            by_finding[one.finding].append(f"{DESCRIPTIONS[name]}{_evidence(one)}")
    sentences, controls = [], "loss, gradient norm and r1"
    for finding, subjects in by_finding.items():
        if subjects:
            sentences.append(f"{_listed(subjects)} {VERBS[finding][len(subjects) > 1]} {controls}.")
            controls = "the same three quantities"
    return " ".join(sentences)


def radius(cautious: CautiousRadiusCheck) -> str:
    """Returns the sentence on the cautious radius."""
    if cautious.flat:
        return (
            "Margins have no curvature almost everywhere (piecewise linear), so there is no cautious radius."
        )
    return (
        f"The distance is below the cautious radius for {cautious.below} of {cautious.fooled} samples; this "
        "radius belongs to a quadratic model of the margin and certifies nothing."
    )


def interval(of: Interval) -> str:
    """Returns the text of an estimate with its interval, to two decimals."""
    if of.estimate is None:
        return "-"
    if of.low is None or of.high is None:
        return _two_decimals(of.estimate)
    return f"{_two_decimals(of.estimate)} [{_two_decimals(of.low)}, {_two_decimals(of.high)}]"


def _two_decimals(x: float) -> str:
    # Adding zero turns -0.0 into 0.0.
    return f"{round(x, 2) + 0.0:.2f}"


def _evidence(one: AddedInformation) -> str:
    """Returns what the finding rests on: the VIF, or the partial correlation and the gain in R2."""
    if one.finding in (Finding.REDUNDANT, Finding.COLLINEAR):
        return "" if one.vif is None else f" (VIF {one.vif:.0f})"
    gain = "" if one.r2.gain is None else f", R2 gain {round(one.r2.gain, 3) + 0.0:.3f}"
    return f" (partial rho {interval(one.partial)}{gain})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
