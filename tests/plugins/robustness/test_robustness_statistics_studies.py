"""False claims, coverage and power of the statistics in hundreds of small studies with known truth.

Bounds are binomial and far in the tail: with fixed seeds they hold unless something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from eigencore_robustness.statistics.added_information import AddedInformation, Finding, added_information
from eigencore_robustness.statistics.calibration import calibration
from eigencore_robustness.statistics.rank_correlation import minimum_detectable_correlation, spearman
from kit.effort import cases_to_try

pytestmark = pytest.mark.slow

RESAMPLES = 300
CONTROLS = ("loss", "gradient", "r1")
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
    return {name: of[name] for name in CONTROLS}


def adds(columns: Study, of: Study, seed: int) -> dict[str, AddedInformation]:
    return added_information(columns, of["d"], controls(of), seed=seed, resamples=RESAMPLES)


# -- noise -------------------------------------------------------------------------------------------------


def even(rng: np.random.Generator, of: Study) -> Study:
    return {f"noise {i}": rng.standard_normal(len(of["d"])) for i in range(3)}


def uneven(rng: np.random.Generator, of: Study) -> Study:
    """Returns noise whose spread varies with a control, and makes the spread of d vary with it."""
    spread = stats.rankdata(of["loss"]) / len(of["loss"])
    of["d"] *= np.exp(0.4 * spread * rng.standard_normal(len(spread)))
    return {f"noise {i}": spread * rng.standard_normal(len(spread)) for i in range(3)}


@pytest.mark.parametrize("noise", [even, uneven])
def test_noise_leads_to_a_claim_in_at_most_a_twentieth_of_studies(noise: Callable[..., Study]):
    studies, claims, unadjusted = cases_to_try(200), 0, 0
    for seed in range(studies):
        rng = np.random.default_rng([seed, 1])
        of = study(rng, 120)
        found = adds(noise(rng, of), of, seed)
        claims += any(one.finding is Finding.ADDS for one in found.values())
        unadjusted += any(one.partial.excludes_zero for one in found.values())
    assert claims <= rare(studies, 0.05)
    assert unadjusted > rare(studies, 0.05)  # intervals alone would lead to more


def test_the_interval_of_noise_excludes_zero_in_about_a_twentieth_of_studies():
    def pair(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((2, 60))

    studies = cases_to_try(300)
    excluded = sum(
        spearman(*pair(seed), seed=seed, resamples=RESAMPLES).excludes_zero for seed in range(studies)
    )
    assert rare(studies, 0.02) <= excluded <= rare(studies, 0.06)


# -- columns that depend on the controls -------------------------------------------------------------------


def network(rng: np.random.Generator, n: int) -> Study:
    """Returns log-odds of the label, and the controls that a network with such log-odds has."""
    log_odds = np.abs(rng.normal(5, 3, n)) + 0.05
    slope = np.exp(rng.normal(0, 0.25, n))
    loss = np.log1p(np.exp(-log_odds))
    gradient = slope * np.exp(0.1 * rng.standard_normal(n)) / (1 + np.exp(log_odds))
    return {"log_odds": log_odds, "loss": loss, "gradient": gradient, "r1": log_odds / slope / 10}


def dependent(rng: np.random.Generator, of: Study) -> Study:
    """Returns columns that are functions of the controls, and noise."""
    m, log_r1 = of["log_odds"], np.log(of["r1"])
    noise = rng.standard_normal((5, len(m)))
    logs = {
        "curvature": -m + log_r1 / 2 + 0.1 * noise[0],
        "curved": np.log1p(3 * np.exp(-m)) + 0.1 * noise[1],
        "product": np.log(of["loss"]) * log_r1 / 3 + 0.1 * noise[2],
        "uneven": np.sqrt(m) + 0.02 * m * noise[3],
        "noisy": -m + noise[4],
    }
    return {name: np.exp(log) for name, log in logs.items()}


def one_at_a_time(columns: Study, of: Study, seed: int) -> list[Finding]:
    """Returns the findings for columns that are families of their own."""
    return [adds({name: x}, of, seed)[name].finding for name, x in columns.items()]


@pytest.mark.parametrize("b", [0.6, -0.5, 2.0])
@pytest.mark.parametrize(("n", "usual"), [(120, 20), (360, 15), (2000, 3)])
def test_columns_that_depend_on_the_controls_lead_to_no_claim(b: float, n: int, usual: int):
    """The distance is r1 (1 + b exp(-log-odds)), alone and with noise: linear controls miss this factor."""
    found: list[Finding] = []
    for seed in range(cases_to_try(usual)):
        for noise in (0.0, 0.05):
            rng = np.random.default_rng([seed, 8])
            of = network(rng, n)
            error = np.exp(noise * rng.standard_normal(n))
            of["d"] = of["r1"] * (1 + b * np.exp(-of["log_odds"])) * error
            found += one_at_a_time(dependent(rng, of), of, seed)
    assert found.count(Finding.ADDS) <= rare(len(found), 0.05)
    if n == 2000:
        assert found.count(Finding.REDUNDANT) >= 0.95 * len(found)


@pytest.mark.parametrize("jitter", [0.0, 0.01, 0.05])
def test_a_column_that_repeats_the_loss_is_redundant(jitter: float):
    studies, findings = cases_to_try(40), []
    for seed in range(studies):
        rng = np.random.default_rng([seed, 4])
        of = study(rng, 1000)
        repeat = of["loss"] ** 0.7 * np.exp(jitter * rng.standard_normal(1000))
        findings.append(adds({"repeat": repeat}, of, seed)["repeat"].finding)
    assert findings.count(Finding.REDUNDANT) >= 0.95 * studies
    assert Finding.ADDS not in findings


# -- planted effects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "power"), [(0.05, 0.7), (0.2, 0.98), (0.45, 1.0)])
def test_a_planted_share_is_found_and_its_interval_covers_the_truth(share: float, power: float):
    """The column is collinear with the controls, and holds a part of what they leave open."""
    studies, n = cases_to_try(120), 360
    found = []
    for seed in range(studies):
        rng = np.random.default_rng([seed, 2])
        of = network(rng, n)
        own, other = rng.standard_normal((2, n))
        left_open = 0.1 * (np.sqrt(share) * own + np.sqrt(1 - share) * other)
        of["d"] = of["r1"] * (1 + 0.6 * np.exp(-of["log_odds"])) * np.exp(left_open)
        x = of["loss"] ** 0.3 * of["r1"] ** -0.5 * np.exp(0.1 * own)
        found.append(adds({"planted": x}, of, seed)["planted"])
    assert min(one.vif for one in found) > 10
    assert sum(one.finding is Finding.ADDS for one in found) >= power * studies
    missed = sum(not one.share.low <= share <= one.share.high for one in found)
    assert rare(studies, 0.01) / 2 <= missed <= rare(studies, 0.06)


def truth(statistic: Callable[[Study], float]) -> float:
    return statistic(study(np.random.default_rng(99), 300_000))


def test_the_intervals_of_spearman_and_of_the_calibrated_error_cover_the_truth():
    studies, n = cases_to_try(200), 100
    rho = truth(lambda of: float(stats.spearmanr(of["r1"], of["d"]).statistic))
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


# -- power -------------------------------------------------------------------------------------------------


def test_the_minimum_detectable_correlation_is_detected_in_four_studies_of_five():
    studies, n = cases_to_try(250), 150
    rho = minimum_detectable_correlation(n)
    # Of a normal pair with correlation r, Spearman's is 6 / pi asin(r / 2).
    r = 2 * np.sin(np.pi * rho / 6)
    detected = 0
    for seed in range(studies):
        x, other = np.random.default_rng([seed, 6]).standard_normal((2, n))
        d = np.exp(r * x + np.sqrt(1 - r**2) * other)
        detected += spearman(x, d, seed=seed, resamples=RESAMPLES).excludes_zero
    assert stats.binom.ppf(0.001, studies, 0.78) <= detected <= rare(studies, 0.82)


def test_the_interval_of_noise_covers_zero_given_collinear_controls():
    studies, missed = cases_to_try(150), 0
    for seed in range(studies):
        rng = np.random.default_rng([seed, 7])
        of = study(rng, 120)
        of |= {"gradient": of["loss"] ** 2, "r1": of["loss"] * np.exp(0.001 * rng.standard_normal(120))}
        missed += adds({"x": rng.standard_normal(120)}, of, seed)["x"].partial.excludes_zero
    assert missed <= rare(studies, 0.06)
