"""What the verdict says of radii and curvatures, for columns whose relation to the distance is known."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from eigencore_robustness.associations import Associations, associations
from eigencore_robustness.statistics.added_information import Finding
from eigencore_robustness.under_attack.gates import Gate, GateOutcome
from eigencore_robustness.verdict import SHORT, CautiousRadiusCheck, added, other_radii, remarks, verdict

N = 400


def found(n: int = N, **changes: np.ndarray) -> Associations:
    """Returns the associations of a network whose cautious radius knows most of what r1 misses."""
    rng = np.random.default_rng(0)
    hidden, missed, other, a, b = rng.standard_normal((5, n))
    r1 = np.exp(0.3 * hidden)
    distance = r1 * np.exp(0.1 * missed + 0.02 * other)
    columns = {
        "loss": np.exp(0.5 * a - hidden),
        "gradient_norm": np.exp(0.5 * b - hidden),
        "margin": np.exp(hidden),
        "r1": r1,
        "r1_in_box": r1 * np.exp(0.001 * a),
        "r_cautious": 0.8 * r1 * np.exp(0.1 * missed),
        "lambda_max": np.exp(a - 2 * hidden),
    }
    return associations({**columns, **changes}, distance, seed=0)


def test_a_radius_that_corrects_r1_is_said_to_add_and_by_how_much():
    study = found()
    (calibrated, gain) = (
        study.estimators["r_cautious"].calibration.error,
        study.estimators["r_cautious"].error_gain,
    )
    assert other_radii(study) == (
        f"The error is {100 * calibrated.estimate:.1f} % for the cautious radius ({100 * gain.estimate:.1f} "
        f"points [{100 * gain.low:.1f}, {100 * gain.high:.1f}] less)."
    )
    assert calibrated.estimate == pytest.approx(np.expm1(0.6745 * 0.02), rel=0.2)
    share = study.added["r_cautious"].share
    assert share.low < 1 - 0.02**2 / (0.1**2 + 0.02**2) < share.high
    assert added(study).startswith(
        "Beyond smooth functions of loss, gradient norm and r1, the cautious radius "
        f"({100 * share.estimate:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}] of the variance they "
        "leave open) adds information"
    )


def test_columns_that_add_nothing_are_redundant():
    text = added(found(n=2000))
    assert text.endswith("r1 within bounds and lambda_max over the input are redundant.")


def test_without_bounds_the_radius_within_them_is_not_tested():
    study = found(r1_in_box=np.exp(0.3 * np.random.default_rng(0).standard_normal((5, N))[0]))
    assert set(study.estimators) == {"r1", "r_cautious"}
    assert "bounds" not in added(study)


def test_too_few_samples_for_flexible_controls_are_named():
    text = added(found(n=60))
    assert text == (
        "What curvature adds beyond r1 is not tested (fewer than 100 samples with a known distance: the "
        "controls cannot be fitted flexibly)."
    )
    assert "less" in other_radii(found(n=60))


# -- the verdict in two lines ------------------------------------------------------------------------------

MEASURES = ("r1_in_box", "r_cautious", "r2", "lambda_max", "nu", "weight_curvature")


def concluding(study: Associations, findings: tuple[Finding, ...]) -> Associations:
    """Returns associations of all measures with these findings."""
    one, ranks = study.added["r_cautious"], study.ranks["r_cautious"]
    return replace(
        study,
        ranks={**study.ranks, **dict.fromkeys(MEASURES, ranks)},
        added={name: replace(one, finding=finding) for name, finding in zip(MEASURES, findings, strict=True)},
    )


def test_the_verdict_names_what_adds_information_and_what_is_redundant():
    study = found(n=1000)
    rho = study.ranks["r1"]
    assert verdict((), 1000, study) == (
        f"r1 ranks the distances with rho {rho.estimate:.2f} [{rho.low:.2f}, {rho.high:.2f}]. Beyond loss, "
        "gradient norm and r1, the cautious radius adds information; 2 others are redundant."
    )


def test_every_verdict_has_two_lines_and_claims_what_was_found():
    study = found()
    for findings in product(Finding, repeat=6):
        text = verdict((), N, concluding(study, findings))
        assert len(textwrap.wrap(text, 80, subsequent_indent="  ")) <= 2, text
        adds, _, rest = text.partition("gradient norm and r1, ")[2].partition(" information")
        adding, redundant = findings.count(Finding.ADDS), findings.count(Finding.REDUNDANT)
        if not adding:
            assert adds == "nothing is shown to add"
        elif " of 6 measures" in adds:
            assert adds.startswith(f"{adding} of 6 measures")
        else:
            assert named(adds) == {
                name for name, own in zip(MEASURES, findings, strict=True) if own is Finding.ADDS
            }
        assert (redundant > 0) == ("redundant" in rest)
        assert not named(rest) or len(named(rest)) == redundant


def named(text: str) -> set[str]:
    return {name for name in MEASURES if re.search(rf"\b{re.escape(SHORT[name])}(?!\w)", text)}


def test_a_verdict_of_failed_gates_has_two_lines():
    study = found()
    for failed in range(1, 12):
        gates = [Gate(f"gate number {i}", GateOutcome.FAIL, "") for i in range(failed)]
        text = verdict(gates, N, study)
        assert text.startswith("No conclusion about the network: ")
        assert f" {failed} gates failed" in text or "gate number 0 " in text
        assert len(textwrap.wrap(text, 80, subsequent_indent="  ")) <= 2


def test_too_few_samples_are_said_in_two_lines():
    for n in (7, 60):
        text = verdict((), n, found(n=60))
        assert len(textwrap.wrap(text, 80, subsequent_indent="  ")) <= 2
    assert "is not tested (fewer than 100 samples" in text


def test_the_remarks_have_the_intervals_and_the_limits():
    study = found()
    texts = remarks(study, CautiousRadiusCheck(5, N, flat=False))
    assert other_radii(study) in texts
    assert added(study) in texts
    assert f"exceeds the distance of 5 of {N} samples" in " ".join(texts)
    assert texts[-1] == "These are associations across the samples of one network, not across networks."
