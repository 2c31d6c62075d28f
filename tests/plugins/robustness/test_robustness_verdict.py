"""What the verdict says of radii and curvatures, for columns whose relation to the distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore_robustness.associations import Associations, associations
from eigencore_robustness.verdict import added, other_radii

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
