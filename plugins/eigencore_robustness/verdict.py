"""The verdict in two lines, and the sentences that say more; they claim no more than the numbers support.

They never say that curvature causes anything, that a radius is certified, or that an attack found the true
distance.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from eigencore_robustness.associations import FIRST_ORDER, Associations
from eigencore_robustness.statistics.added_information import ENOUGH, FEWER, Finding
from eigencore_robustness.statistics.intervals import MINIMUM, Interval
from eigencore_robustness.under_attack.gates import Gate, GateOutcome

NAMES = {
    "r1_in_box": "r1 within bounds",
    "r_cautious": "the cautious radius",
    "r2": "the second-order radius r2",
    "lambda_max": "lambda_max over the input",
    "nu": "nu over the input",
    "weight_curvature": "v_1'H v_1 over the weights",
}
SHORT = {
    "r1_in_box": "r1 within bounds",
    "r_cautious": "the cautious radius",
    "r2": "r2",
    "lambda_max": "lambda_max",
    "nu": "nu",
    "weight_curvature": "v_1'H v_1",
}
COLUMNS, LINES = 80, 2  # of a verdict on a terminal
# Verbs for one subject, and for several.
VERBS = {
    Finding.ADDS: ("adds information", "add information"),
    Finding.REDUNDANT: ("is redundant", "are redundant"),
    Finding.INCONCLUSIVE: ("is not shown to add any", "are not shown to add any"),
}
LIMITS = "These are associations across the samples of one network, not across networks."


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


def verdict(gates: Sequence[Gate], n: int, found: Associations) -> str:
    """Returns the verdict on a study with n samples whose smallest perturbation is known, in two lines."""
    failed = [gate.name for gate in gates if gate.outcome is GateOutcome.FAIL]
    if failed:
        about = "the distances show what this attack could not do, not what the network withstands."
        which = f"gate{'s' * (len(failed) > 1)} {listed(failed)} failed"
        count = f"{len(failed)} gates failed"
        return _first_that_fits(
            [f"No conclusion about the network: {text}; {about}" for text in (which, count)]
        )
    if n < MINIMUM:
        return (
            f"Only {n} sample{'s' * (n != 1)} fooled: no inference is made below {MINIMUM}. "
            "The numbers describe these samples and no others."
        )
    ranks = found.ranks[FIRST_ORDER]
    if ranks.estimate is None:
        return first_order(found)
    first = f"r1 ranks the distances with rho {interval(ranks)}."
    return _first_that_fits([f"{first} {text}".strip() for text in _findings(found)])


def remarks(found: Associations, cautious: CautiousRadiusCheck) -> tuple[str, ...]:
    """Returns the sentences that explain a verdict, with all intervals, and what limits it."""
    sentences = first_order(found), other_radii(found), added(found), cautious_radius_holds(cautious), LIMITS
    return tuple(filter(None, sentences))


def _findings(found: Associations) -> list[str]:
    """Returns which measures add information and which are redundant, each version shorter than the last."""
    if any(one.partial.reason == FEWER for one in found.added.values()):
        return [f"What curvature adds is not tested (fewer than {ENOUGH} samples with a known distance)."]
    tested = {name: one for name, one in found.added.items() if found.ranks[name].estimate is not None}
    if not tested:
        return [""]
    by_share = sorted(tested, key=lambda name: -(tested[name].share.estimate or 0.0))
    adding = [SHORT[name] for name in by_share if tested[name].finding is Finding.ADDS]
    redundant = [SHORT[name] for name in by_share if tested[name].finding is Finding.REDUNDANT]

    def sentence(adds: str, rest: str) -> str:
        verb = VERBS[Finding.ADDS][len(adding) > 1] if adding else "is shown to add information"
        is_redundant = f"; {rest} {VERBS[Finding.REDUNDANT][len(redundant) > 1]}" if redundant else ""
        return f"Beyond loss, gradient norm and r1, {adds} {verb}{is_redundant}."

    adds, counted = listed(adding) if adding else "nothing", f"{len(adding)} of {len(tested)} measures"
    rest = listed(redundant) if redundant else ""
    others = f"{len(redundant)} {'other' if adding else 'measure'}{'s' * (len(redundant) > 1)}"
    return [
        sentence(adds, rest),
        sentence(adds, others),
        sentence(counted, str(len(redundant))) if adding else sentence(adds, others),
    ]


def _first_that_fits(texts: Sequence[str]) -> str:
    """Returns the first text that takes no more than two lines of a terminal; the last one if none does."""
    fitting = (text for text in texts if len(textwrap.wrap(text, COLUMNS, subsequent_indent="  ")) <= LINES)
    return next(fitting, texts[-1])


def first_order(found: Associations) -> str:
    """Returns the sentence on r1 as an estimate of the distance."""
    ranks, calibrated = found.ranks[FIRST_ORDER], found.estimators[FIRST_ORDER].calibration
    ratio, error = calibrated.ratio.estimate, calibrated.error.estimate
    if ranks.estimate is None or ratio is None or error is None:
        return f"The first-order estimate r1 cannot be assessed: {ranks.reason or calibrated.ratio.reason}."
    text = f"The first-order radius r1 has Spearman's rho {interval(ranks)} with the distance"
    if abs(ratio - 1) >= 0.05:
        verb = "overstates" if ratio > 1 else "understates"
        text += f", {verb} it by {100 * abs(ratio - 1):.0f} %"
    return f"{text} and errs by {100 * error:.1f} % (median, after rescaling)."


def other_radii(found: Associations) -> str:
    """Returns the sentence on the radii whose error after rescaling is shown to be less than that of r1."""
    better = []
    for name, one in found.estimators.items():
        error, gain = one.calibration.error.estimate, one.error_gain
        if error is None or gain is None or gain.estimate is None or gain.low is None or gain.high is None:
            continue
        if gain.low > 0:
            points = f"{100 * gain.estimate:.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
            better.append(f"{100 * error:.1f} % for {NAMES[name]} ({points} less)")
    return f"The error is {listed(better)}." if better else ""


def added(found: Associations) -> str:
    """Returns what radii and curvatures add to smooth functions of loss, gradient norm and r1."""
    tested = [(name, one) for name, one in found.added.items() if found.ranks[name].estimate is not None]
    tested.sort(key=lambda pair: -(pair[1].share.estimate or 0.0))
    findings, unit = [], " of the variance they leave open"
    for finding, verbs in VERBS.items():
        subjects = []
        for name, one in tested:
            if one.finding is finding and one.partial.reason != FEWER:
                evidence = _evidence(one.share, unit) if finding is Finding.ADDS else ""
                subjects.append(NAMES[name] + evidence)
                unit = "" if evidence else unit
        if subjects:
            findings.append(f"{listed(subjects)} {verbs[len(subjects) > 1]}")
    sentences = []
    if findings:
        sentences.append(f"Beyond smooth functions of loss, gradient norm and r1, {'; '.join(findings)}.")
    if any(one.partial.reason == FEWER for one in found.added.values()):
        sentences.append(f"What curvature adds beyond r1 is not tested ({FEWER}).")
    return " ".join(sentences)


def cautious_radius_holds(cautious: CautiousRadiusCheck) -> str:
    """Returns the sentence on the cautious radius."""
    if cautious.flat:
        return (
            "Margins have no curvature almost everywhere (piecewise linear), so there is no cautious radius."
        )
    return (
        f"The cautious radius, which certifies nothing, exceeds the distance of {cautious.below} of "
        f"{cautious.fooled} samples."
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


def _evidence(share: Interval, unit: str) -> str:
    """Returns a share with its interval, as in " (38 % [27, 46])"; empty if there is none."""
    if share.estimate is None or share.low is None or share.high is None:
        return ""
    return f" ({100 * share.estimate:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]{unit})"


def listed(words: Sequence[str]) -> str:
    """Returns words with commas and a last "and"."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
