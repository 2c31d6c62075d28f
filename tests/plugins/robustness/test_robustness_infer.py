"""Inference across networks: against SciPy, its rates without an association, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigencore.errors import UsageError
from eigencore_robustness import infer


def pair(found: Any, metric: str = "m", outcome: str = "o") -> Any:
    return next(one for one in found.associations if (one.metric, one.outcome) == (metric, outcome))


def test_correlation_and_p_value_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal(20), 1)  # with ties
    y = 0.5 * x + rng.standard_normal(20)
    one = pair(infer({"m": x}, {"o": y}, permutations=20_000))

    def statistic(permuted: np.ndarray) -> float:
        return float(stats.spearmanr(permuted, y).statistic)

    reference = stats.permutation_test(
        (x,), statistic, permutation_type="pairings", n_resamples=4000, rng=np.random.default_rng(1)
    )
    assert one.rho == pytest.approx(statistic(x))
    assert one.p == pytest.approx(reference.pvalue, abs=0.02)
    assert one.family_p == one.p  # there is one pair


def test_the_partial_correlation_is_that_of_rests_of_ranks() -> None:
    rng = np.random.default_rng(1)
    z, w = rng.standard_normal((2, 30))
    x, y = z + rng.standard_normal(30), z + w + rng.standard_normal(30)
    design = np.stack([np.ones(30), stats.rankdata(z), stats.rankdata(w)], axis=1)

    def rest(v: np.ndarray) -> np.ndarray:
        ranks = stats.rankdata(v)
        return np.asarray(ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0])

    one = pair(infer({"m": x}, {"o": y}, controls={"z": z, "w": w}, permutations=10))
    assert one.rho == pytest.approx(np.corrcoef(rest(x), rest(y))[0, 1])


@pytest.mark.parametrize("controlled", [False, True])
def test_without_an_association_any_pair_is_significant_in_a_twentieth_of_studies(controlled: bool) -> None:
    """Metrics and outcomes are correlated among each other, and in one case share a control."""
    studies, claims, singly = 200, 0, 0
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        z = rng.standard_normal(20)
        m, o = rng.standard_normal((2, 20)) + (2 * z if controlled else 0)
        metrics = {f"m{i}": m + 0.5 * rng.standard_normal(20) for i in range(4)}
        outcomes = {f"o{i}": o + 0.5 * rng.standard_normal(20) for i in range(2)}
        given = {"z": z} if controlled else None
        found = infer(metrics, outcomes, controls=given, permutations=400, seed=seed)
        claims += any(one.family_p < 0.05 for one in found.associations)
        singly += any(one.p < 0.05 for one in found.associations)
    assert claims <= 0.05 * studies + 3 * math.sqrt(0.05 * 0.95 * studies)
    assert singly > 0.08 * studies  # the test has power: one by one, they claim too much


def test_without_the_control_its_influence_is_taken_for_an_association() -> None:
    rng = np.random.default_rng(3)
    z = rng.standard_normal(40)
    m, o = z + 0.3 * rng.standard_normal((2, 40))
    assert pair(infer({"m": m}, {"o": o})).p < 0.001
    assert pair(infer({"m": m}, {"o": o}, controls={"z": z})).p > 0.05


def test_networks_of_a_group_count_as_one() -> None:
    """Five checkpoints of each of ten runs: as fifty networks, runs alone would look like an association."""
    studies, alone, grouped = 60, 0, 0
    groups = np.repeat(np.arange(10), 5).tolist()
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        m, o = np.repeat(rng.standard_normal((2, 10)), 5, axis=1) + 0.1 * rng.standard_normal((2, 50))
        alone += pair(infer({"m": m}, {"o": o}, permutations=200)).p < 0.05
        found = infer({"m": m}, {"o": o}, groups=groups, permutations=200)
        grouped += pair(found).p < 0.05
    assert (found.networks, found.units) == (50, 10)
    assert "10 independent units" in found.verdict
    assert grouped <= 0.05 * studies + 3 * math.sqrt(0.05 * 0.95 * studies)
    assert alone > 0.2 * studies


def test_a_network_without_a_group_is_one_of_its_own() -> None:
    x = np.arange(12.0)
    found = infer({"m": x}, {"o": x}, groups=["run"] * 3 + [None] * 9, permutations=50)
    assert found.units == 10


def test_a_planted_association_is_found_and_said() -> None:
    found_in = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        margin, other = rng.standard_normal((2, 24))
        accuracy = margin + 0.6 * rng.standard_normal(24)
        found = infer({"margin": margin, "other": other}, {"accuracy": accuracy}, permutations=500)
        one = pair(found, "margin", "accuracy")
        found_in += one.family_p < 0.05
        assert (one.family_p < 0.05) == ("margin with accuracy" in found.verdict)
    assert found_in > 35
    assert found.table.rows[0][0] == "margin"
    assert found.detectable == pytest.approx(math.tanh(2.8016 / math.sqrt(21)), abs=1e-3)


@pytest.mark.parametrize(("n", "controls", "inference"), [(7, 0, False), (8, 0, True), (9, 2, False)])
def test_below_eight_networks_nothing_is_inferred(n: int, controls: int, inference: bool) -> None:
    x, rng = np.arange(float(n)), np.random.default_rng(0)
    found = infer({"m": x}, {"o": x**2}, controls={f"c{i}": rng.standard_normal(n) for i in range(controls)})
    one = pair(found)
    assert one.rho == pytest.approx(1) if not controls else one.rho is not None
    assert (one.p is not None) == inference
    if not inference:
        assert f"there are {n}" in found.verdict
        assert f"at least {8 + controls} independent networks" in found.verdict


def test_missing_infinite_constant_and_determined_values() -> None:
    x = np.arange(12.0)
    metrics = {"m": np.where(x == 3, math.nan, x), "constant": 0 * x, "control": x % 4}
    found = infer(metrics, {"o": np.where(x > 9, math.inf, x)}, controls={"c": x % 4}, permutations=50)
    assert (found.networks, found.left_out) == (11, 1)
    assert pair(found).rho is not None
    assert pair(found, "constant").rho is None
    assert pair(found, "constant").reason == "constant: constant across the networks"
    assert pair(found, "control").reason == "control: the controls determine it"
    assert pair(found, "control").p is None


def test_the_same_seed_gives_the_same_p_values() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 20))
    assert infer({"m": x}, {"o": y}, seed=1) == infer({"m": x}, {"o": y}, seed=1)
    assert infer({"m": x}, {"o": y}, seed=1) != infer({"m": x}, {"o": y}, seed=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {"o": [1.0]}), "metrics is empty"),
        (({"m": [1.0]}, {}), "outcomes is empty"),
        (({"m": [1.0, 2.0]}, {"o": [1.0]}), "columns have shapes"),
    ],
)
def test_invalid_columns_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        infer(*arguments)


def test_invalid_groups_and_numbers_are_refused() -> None:
    x = np.arange(9.0)
    with pytest.raises(UsageError, match="groups has 2 entries, and there are 9 networks"):
        infer({"m": x}, {"o": x}, groups=["a", "b"])
    with pytest.raises(UsageError, match="permutations is 0"):
        infer({"m": x}, {"o": x}, permutations=0)
