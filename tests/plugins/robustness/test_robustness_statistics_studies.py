"""False claims, coverage and power of the statistics in hundreds of small studies with known truth.

Bounds are binomial and far in the tail: with fixed seeds they hold unless something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigencore_robustness.statistics.added_information import AddedInformation, Finding, added_information
from eigencore_robustness.statistics.calibration import calibration
from eigencore_robustness.statistics.rank_correlation import (
    minimum_detectable_correlation,
    partial_spearman,
    spearman,
)
from kit.effort import cases_to_try

pytestmark = pytest.mark.slow

RESAMPLES = 400
Study = dict[str, np.ndarray]


def rare(n: int, p: float) -> int:
    """Returns the count that n trials of probability p exceed with probability .001."""
    return int(stats.binom.ppf(0.999, n, p))


def study(rng: np.random.Generator, n: int) -> Study:
    """Returns a distance and three controls correlated with it as loss, gradient norm and r1 are."""
    hidden, a, b, c, own = rng.standard_normal((5, n))
    return {
        "d": np.exp(0.3 * hidden + 0.15 * own),
        "loss": np.exp(0.5 * a - hidden),
        "gradient": np.exp(0.5 * b - hidden),
        "r1": np.exp(0.3 * hidden + 0.15 * c),
        "own": own,
    }


def controls(of: Study) -> Study:
    return {name: of[name] for name in ("loss", "gradient", "r1")}


# -- noise -------------------------------------------------------------------------------------------------


def even(rng: np.random.Generator, of: Study) -> Study:
    return {f"noise {i}": rng.standard_normal(len(of["d"])) for i in range(3)}


def uneven(rng: np.random.Generator, of: Study) -> Study:
    """Returns noise whose spread varies with a control, and makes the spread of d vary with it."""
    spread = stats.rankdata(of["loss"]) / len(of["loss"])
    of["d"] *= np.exp(0.4 * spread * rng.standard_normal(len(spread)))
    return {f"noise {i}": spread * rng.standard_normal(len(spread)) for i in range(3)}


@pytest.mark.parametrize("noise", [even, uneven])
def test_noise_leads_to_a_claim_in_about_a_twentieth_of_studies(noise: Callable[..., Study]):
    studies, claims, unadjusted = cases_to_try(250), 0, 0
    for seed in range(studies):
        rng = np.random.default_rng([seed, 1])
        of = study(rng, 60)
        columns = noise(rng, of)
        found = added_information(columns, of["d"], controls(of), seed=seed, resamples=RESAMPLES)
        claims += any(one.finding is Finding.ADDS for one in found.values())
        unadjusted += any(one.partial.excludes_zero for one in found.values())
    assert claims <= rare(studies, 0.05)
    assert claims >= 0.01 * studies  # a rule that never claims would pass the bound above
    assert unadjusted > rare(studies, 0.05)  # the adjustment matters, and this test detects it


def test_the_interval_of_noise_excludes_zero_in_about_a_twentieth_of_studies():
    def pair(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((2, 60))

    studies = cases_to_try(300)
    excluded = sum(
        spearman(*pair(seed), seed=seed, resamples=RESAMPLES).excludes_zero for seed in range(studies)
    )
    assert rare(studies, 0.02) <= excluded <= rare(studies, 0.06)


# -- planted effects ---------------------------------------------------------------------------------------


def plant(rng: np.random.Generator, of: Study) -> np.ndarray:
    """Returns a column with information on the distance that no control has, and much noise."""
    return np.exp(0.6 * of["own"] + rng.standard_normal(len(of["own"])) + 0.3 * np.log(of["loss"]))


def truth(statistic: Callable[[np.random.Generator, Study], float | None]) -> float:
    rng = np.random.default_rng(99)
    value = statistic(rng, study(rng, 300_000))
    assert value is not None
    return value


def plain_partial(x: np.ndarray, d: np.ndarray, given: list[np.ndarray]) -> float:
    """Returns the partial correlation without an interval, which a large sample does not need."""
    ranks = [stats.rankdata(column) for column in (x, d, *given)]
    inverse = np.linalg.inv(np.corrcoef(ranks))
    return float(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))


def test_a_planted_effect_is_found_and_its_interval_covers_the_truth():
    studies, n = cases_to_try(150), 120
    true = truth(lambda rng, of: plain_partial(plant(rng, of), of["d"], list(controls(of).values())))
    found: list[AddedInformation] = []
    for seed in range(studies):
        rng = np.random.default_rng([seed, 2])
        of = study(rng, n)
        columns = {"planted": plant(rng, of), "noise": rng.standard_normal(n)}
        found.append(
            added_information(columns, of["d"], controls(of), seed=seed, resamples=RESAMPLES)["planted"]
        )
    claims = sum(one.finding is Finding.ADDS for one in found)
    missed = sum(not one.partial.low <= true <= one.partial.high for one in found)
    assert claims >= 0.95 * studies
    assert missed <= rare(studies, 0.06)
    assert missed >= rare(studies, 0.01) / 2


def test_the_intervals_of_spearman_and_of_the_calibrated_error_cover_the_truth():
    studies, n = cases_to_try(200), 100
    rho = truth(lambda _, of: float(stats.spearmanr(of["r1"], of["d"]).statistic))
    # d / r1 is lognormal with deviation .15 sqrt 2; half of a normal lies within .6745 deviations.
    error = np.expm1(stats.norm.ppf(0.75) * 0.15 * np.sqrt(2))
    missed = {"rho": 0, "error": 0, "ratio": 0}
    for seed in range(studies):
        of = study(np.random.default_rng([seed, 3]), n)
        correlation = spearman(of["r1"], of["d"], seed=seed, resamples=RESAMPLES)
        of_r1 = calibration(of["r1"], of["d"], seed=seed, resamples=RESAMPLES)
        for name, interval, true in (
            ("rho", correlation, rho),
            ("error", of_r1.error, error),
            ("ratio", of_r1.ratio, 1.0),
        ):
            missed[name] += not interval.low <= true <= interval.high
    for count in missed.values():
        assert 0.02 * studies <= count <= rare(studies, 0.06)


# -- redundant columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("n", [80, 300])
def test_a_column_that_repeats_the_loss_is_redundant(jitter: float, n: int):
    studies, findings = cases_to_try(50), []
    for seed in range(studies):
        rng = np.random.default_rng([seed, 4])
        of = study(rng, n)
        repeat = of["loss"] ** 0.7 * np.exp(jitter * rng.standard_normal(n))
        found = added_information({"repeat": repeat}, of["d"], controls(of), seed=seed, resamples=RESAMPLES)
        findings.append(found["repeat"].finding)
    assert findings.count(Finding.REDUNDANT) >= 0.95 * studies
    assert Finding.ADDS not in findings


def test_noise_is_never_redundant():
    rng = np.random.default_rng(5)
    for seed in range(50):
        of = study(rng, 60)
        found = added_information(even(rng, of), of["d"], controls(of), seed=seed, resamples=100)
        assert all(one.finding is not Finding.REDUNDANT for one in found.values())


# -- power -------------------------------------------------------------------------------------------------


def test_the_minimum_detectable_correlation_is_detected_in_four_studies_of_five():
    studies, n = cases_to_try(250), 150
    rho = minimum_detectable_correlation(n, controls=1)
    # Of a normal pair with correlation r, Spearman's is 6 / pi asin(r / 2).
    r = 2 * np.sin(np.pi * rho / 6)
    claims = 0
    for seed in range(studies):
        rng = np.random.default_rng([seed, 6])
        x, other, control = rng.standard_normal((3, n))
        d = np.exp(r * x + np.sqrt(1 - r**2) * other)
        found: Any = added_information({"x": x}, d, {"control": control}, seed=seed, resamples=RESAMPLES)["x"]
        claims += found.finding is Finding.ADDS
    assert stats.binom.ppf(0.001, studies, 0.78) <= claims <= rare(studies, 0.82)


def test_the_interval_of_noise_covers_zero_given_collinear_controls():
    studies, missed = cases_to_try(150), 0
    for seed in range(studies):
        rng = np.random.default_rng([seed, 7])
        of = study(rng, 60)
        given = [of["loss"], of["loss"] ** 2, of["loss"] * np.exp(0.001 * rng.standard_normal(60))]
        noise = rng.standard_normal(60)
        missed += partial_spearman(noise, of["d"], given, seed=seed, resamples=RESAMPLES).excludes_zero
    assert missed <= rare(studies, 0.06)
