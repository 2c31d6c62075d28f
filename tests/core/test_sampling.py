"""Eigenvalues of all data from a sample: draws, intervals, refusals, costs and limits."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

import eigencore
from eigencore.errors import CapabilityError, Interrupted, UsageError
from eigencore.operators import as_operator, draw
from eigencore.operators.counting import SCORES
from eigencore.results import EigenResult, EigenvalueInterval, Sampling, Status
from eigencore.runs.result_json import from_json, to_json
from eigencore.solving.sampling.costs import interval_products
from eigencore.solving.sampling.estimate import (
    GroupStatistics,
    clusters,
    dominant,
    draws_needed,
    draws_to_polish,
    interval,
    quantile,
    spread,
)
from eigencore.solving.sampling.measure import measure, polish
from kit.sample_means import RankOneMean, outliers

RNG = np.random.default_rng(0)


def sampled(A: Any, k: int = 3, **arguments: Any) -> tuple[EigenResult, Sampling]:
    found = eigencore.solve(A, k, which="LA", **arguments)
    assert found.sampling is not None
    return found, found.sampling


def ends(one: EigenvalueInterval) -> tuple[float, float]:
    assert one.low is not None, one.refused
    assert one.high is not None
    return one.low, one.high


# -- draws -------------------------------------------------------------------------------------------------


def test_the_weighted_mean_is_unbiased_and_no_weight_exceeds_ten() -> None:
    scores = np.exp(3 * RNG.standard_normal(50))
    values, means = RNG.standard_normal(50) + 1, []
    for seed in range(4000):
        one = draw(scores, 40, seed)
        assert one.weighted
        assert one.weights.max() <= 10
        means.append(np.mean(one.weights * values[list(one.indices)]))
    error = np.std(means) / math.sqrt(len(means))
    assert abs(np.mean(means) - values.mean()) < 4 * error


def test_a_sample_is_drawn_as_often_as_its_weight_says() -> None:
    scores = np.arange(10.0)
    counts = np.zeros(10)
    for seed in range(3000):
        one = draw(scores, 9, seed)
        np.add.at(counts, list(one.indices), one.weights)
    assert counts / (9 * 3000 / 10) == pytest.approx(np.ones(10), abs=0.15)  # one has weight ten


@pytest.mark.parametrize("draws", [2, 7, 30])
def test_equal_scores_are_drawn_uniformly_and_without_repetition(draws: int) -> None:
    one = draw(np.full(30, 0.7), draws, seed=1)
    assert not one.weighted
    assert len(set(one.indices)) == one.draws == draws
    assert np.all(one.weights == 1)
    assert one.unseen == 1 - draws / 30
    sizes = {len(group) for group in one.groups}
    assert max(sizes) - min(sizes) <= 1


def test_as_many_draws_as_samples_are_all_samples_once() -> None:
    one = draw(np.arange(30.0), 30, seed=0)
    assert sorted(one.indices) == list(range(30))
    assert one.unseen == 0


# -- formulas ----------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_the_formulas_written_out() -> None:
    A = outliers(spread=0.5)
    drawn = draw(A.scores, 240, seed=3)
    mean = A.sampled(drawn.groups, drawn.weights)
    H = [
        sum(w * A.c[s] * np.outer(A.x[s], A.x[s]) for s, w in zip(group, part, strict=True)) / len(group)
        for group, part in zip(drawn.groups, np.split(drawn.weights, len(drawn.groups)), strict=True)
    ]
    values, vectors = np.linalg.eigh(sum(H) / len(H))
    K, k, m, V = 6, 3, len(H), vectors[:, ::-1][:, :6]
    theta = values[::-1][:K]
    # Any basis of the span gives the same: the vectors are rotated to the Ritz vectors of the mean.
    rotated = V @ np.linalg.qr(RNG.standard_normal((K, K)))[0]
    statistics = measure(mean, rotated, k, "LA", drawn)
    assert statistics.theta == pytest.approx(theta)
    G = [V.T @ one @ V for one in H]
    for i in range(k):
        p = sum(np.linalg.norm(one @ V[:, i] - V @ g[:, i]) ** 2 for one, g in zip(H, G, strict=True))
        out = p / (m * (m - 1)) / theta[i]
        within = 0.0
        for j in range(K):
            if j != i:
                v = np.var([g[i, j] for g in G], ddof=1) / m
                d = np.var([g[i, i] - g[j, j] for g in G], ddof=1) / m
                D = theta[i] - theta[j]
                within += v * D / (D**2 + 4 * v + d)
        groups = np.std([g[i, i] for g in G], ddof=1) / math.sqrt(m)
        q = [w * A.c[s] * (A.x[s] @ V[:, i]) ** 2 for s, w in zip(drawn.indices, drawn.weights, strict=True)]
        single = np.std(q, ddof=1) / math.sqrt(len(q))
        t = stats.t.ppf(0.975, m - 1)
        centre = theta[i] / (1 + (out + within) / theta[i])
        rel = math.hypot(t * max(groups, single) / theta[i], (abs(out) + abs(within)) / theta[i])
        one = interval(statistics, [i])
        assert (one.first, one.last, one.refused) == (i + 1, i + 1, "")
        assert [one.low, one.estimate, one.high] == pytest.approx(
            [centre * math.exp(-rel), centre, centre * math.exp(rel)]
        )
        assert spread(statistics, [i]).effective == pytest.approx(np.sum(q) ** 2 / np.dot(q, q))


def test_pairs_within_a_sum_cancel_in_its_bias() -> None:
    statistics = made(theta=[5.0, 4.9, 1.0])
    alone = [spread(statistics, [i]).bias for i in (0, 1)]
    both = spread(statistics, [0, 1]).bias
    between = {(0, 1): 0.0, (1, 0): 0.0}
    G, m = statistics.inside, statistics.groups
    for i, j in between:
        v = np.var(G[:, i, j], ddof=1) / m
        d = np.var(G[:, i, i] - G[:, j, j], ddof=1) / m
        D = statistics.theta[i] - statistics.theta[j]
        between[i, j] = v * D / (D * D + 4 * v + d)
    assert between[0, 1] != 0
    assert between[0, 1] == -between[1, 0]
    assert both == pytest.approx(sum(alone))


@pytest.mark.slow
def test_the_bias_of_the_sample_is_removed() -> None:
    A = outliers(N=4000, spikes=(1.0,), n=200)
    truth = np.linalg.eigvalsh(A.matrix)[-1]
    raw, estimates = [], []
    for seed in range(150):
        found, sampling = sampled(A, 1, samples=200, seed=seed, certify="none", complete=None)
        raw.append(found.values[0])
        estimates.append(sampling.intervals[0].estimate)
    error = np.std(raw) / math.sqrt(len(raw))
    bias, left = np.mean(raw) - truth, np.mean(estimates) - truth
    assert bias > 6 * error
    assert abs(left) < bias / 2


@pytest.mark.parametrize(
    ("spread_", "samples"), [pytest.param(0.0, 400, id="uniform"), pytest.param(1.0, 400, id="weighted")]
)
def test_intervals_cover(spread_: float, samples: int) -> None:
    A = outliers(spread=spread_)
    truth = np.linalg.eigvalsh(A.matrix)[::-1]
    held, sums, trials = np.zeros(3), 0, 120
    for seed in range(trials):
        _, sampling = sampled(A, samples=samples, seed=seed, certify="none", complete=None)
        for i, one in enumerate(sampling.intervals):
            low, high = ends(one)
            held[i] += low <= truth[i] <= high
        last = sampling.sums[-1]
        assert (last.first, last.last) == (1, 3)
        low, high = ends(last)
        sums += low <= truth[:3].sum() <= high
    # Three standard errors below 90 %, and not so wide that all of them hold.
    assert np.all(held / trials > 0.9 - 3 * math.sqrt(0.09 / trials))
    assert held.sum() < 3 * trials
    assert sums / trials > 0.9 - 3 * math.sqrt(0.09 / trials)


def test_a_shift_of_the_operator_shifts_its_intervals() -> None:
    plain, shifted = outliers(spread=0.5), outliers(spread=0.5)
    shifted.shift = 100.0
    (_, one), (_, other) = (sampled(A, samples=300) for A in (plain, shifted))
    for a, b in zip((*one.intervals, one.sums[-1]), (*other.intervals, other.sums[-1]), strict=True):
        by = 100 * (a.last - a.first + 1)
        low, high = ends(a)
        assert [b.low, b.estimate, b.high] == pytest.approx([low + by, a.estimate + by, high + by])


def test_negative_eigenvalues_of_large_magnitude_have_intervals_as_the_positive_ones_do() -> None:
    one, other = outliers(), outliers()
    other.c = -other.c
    found, mirrored = (eigencore.solve(A, 3, samples=400).sampling for A in (one, other))
    assert found is not None
    assert mirrored is not None
    for a, b in zip(found.intervals, mirrored.intervals, strict=True):
        low, high = ends(a)
        assert ends(b) == pytest.approx((-high, -low))
        assert b.estimate == pytest.approx(-a.estimate)


# -- refusals ----------------------------------------------------------------------------------------------


def made(
    theta: list[float],
    k: int = 2,
    *,
    m: int = 20,
    draws: int = 400,
    noise: float = 0.1,
    outside: float = 0.01,
    residual: float = 1e-6,
    heavy: float = 0.0,
    gap: float = math.inf,
    unseen: float = 1.0,
) -> GroupStatistics:
    """Statistics in which nothing calls for a refusal, unless an argument says otherwise."""
    rng = np.random.default_rng(2)
    K = len(theta)
    noises = noise * rng.standard_normal((m, K, K))
    noises -= noises.mean(axis=0)
    curvatures = np.array(theta[:k]) * (1 + 0.3 * rng.standard_normal((draws, k)))
    curvatures[0] += heavy * curvatures.sum(axis=0)
    return GroupStatistics(
        theta=np.array(theta),
        inside=np.diag(theta) + (noises + noises.transpose(0, 2, 1)) / 2,
        outside=np.tile(outside * np.eye(K), (m, 1, 1)),
        residuals=np.full(K, residual),
        curvatures=curvatures,
        unseen=unseen,
        gaps=np.full(k, gap),
    )


THETA = [10.0, 6.0, 3.0]
GATES = {
    "there are 9 groups": {"m": 9},
    "it is carried by ": {"heavy": 0.3},
    "its interval would be wider": {"noise": 25.0},
    "its bias is more than 50 %": {"outside": 1200.0},
    "its residual norm exceeds its standard error": {"residual": 1.0},
    "it is not clearly larger": {"gap": 0.05},
}


def test_nothing_is_refused_without_a_reason() -> None:
    one = interval(made(THETA), [0])
    assert one.refused == ""
    low, high = ends(one)
    assert low < 10 < high


@pytest.mark.parametrize("reason", GATES)
def test_an_interval_is_refused_with_its_reason_and_the_draws_that_it_needs(reason: str) -> None:
    statistics = made(THETA, **GATES[reason])
    one = interval(statistics, [0])
    assert one.low is None
    assert one.high is None
    assert one.refused.startswith(reason)
    assert one.estimate > 0
    if "residual" in reason:
        assert one.needed is None
    else:
        assert one.needed is not None
        assert one.needed > (9 if "groups" in reason else statistics.draws)


def test_the_gates_let_pass_what_is_just_inside() -> None:
    statistics = made(THETA)
    three = 3 * spread(statistics, [0]).error
    for gap, passes in [(0.99 * three, False), (1.01 * three, True)]:
        assert (interval(made(THETA, gap=gap), [0]).refused == "") is passes
    assert interval(made(THETA, m=10), [0]).refused == ""


def test_a_sample_with_a_large_share_is_named() -> None:
    assert dominant(made(THETA), range(400), 2) == []
    (first, *_) = dominant(made(THETA, heavy=0.5), range(100, 500), 2)
    assert first[:2] == (1, 100)
    assert first[2] == pytest.approx(1 / 3, abs=0.01)
    # A sample that was drawn twice counts once, with both shares.
    assert dominant(made(THETA, heavy=0.06), [7, 7, *range(8, 406)], 1) == []
    statistics = made(THETA, heavy=0.06)
    twice = statistics.curvatures.copy()
    twice[1] = twice[0]
    repeated = dataclasses.replace(statistics, curvatures=twice)
    assert [one[1] for one in dominant(repeated, [7, 7, *range(8, 406)], 1)] == [7]


def test_eigenvalues_that_the_sample_does_not_tell_apart_form_a_cluster() -> None:
    assert clusters(made([10.0, 6.0, 5.999, 5.998, 3.0], k=5), 5) == [range(1, 4)]
    assert clusters(made([10.0, 6.0, 3.0], k=3), 3) == []
    assert clusters(made([10.0, 9.999], k=2), 2) == [range(2)]


# -- draws needed, and what they cost ----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_draws_needed_give_the_accuracy(weighted: bool) -> None:
    A = outliers(N=60_000, spread=1.0 if weighted else 0.0)
    drawn = draw(A.scores, 320, seed=0)
    found = eigencore.solve(A.sampled(drawn.groups, drawn.weights), 6, which="LA")
    statistics = measure(A.sampled(drawn.groups, drawn.weights), found.vectors, 3, "LA", drawn)
    needed = [draws_needed(statistics, rtol, len(A.x), weighted=weighted) for rtol in (0.2, 0.1, 0.05)]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(needed))
    assert needed[1] is not None
    _, sampling = sampled(A, samples=needed[1], seed=1, tol=1e-4)
    assert max(math.log(ends(one)[1] / ends(one)[0]) / 2 for one in sampling.intervals) == pytest.approx(
        0.1, rel=0.25
    )
    assert draws_needed(statistics, 1e-4, len(A.x), weighted=weighted) == (None if weighted else 59_997)


def test_the_cheapest_way_to_an_accuracy_is_taken_and_keeps_its_promise() -> None:
    A = outliers(N=100_000, spread=0.5)
    truth = np.linalg.eigvalsh(A.matrix)[::-1][:3]
    methods = {}
    for rtol in (0.1, 0.02, 1e-4):
        found, sampling = sampled(A, rtol=rtol)
        methods[rtol] = sampling.method
        assert sampling.full is not None
        assert [cost.accuracy for cost in sampling.costs] == sorted({0.1, 0.05, 0.01, rtol}, reverse=True)
        if sampling.method == "full":
            assert found.values == pytest.approx(truth, rel=1e-5)
            continue
        for one, value in zip(sampling.intervals, truth, strict=True):
            low, high = ends(one)
            assert (high - low) / 2 <= 1.01 * rtol * (1 + rtol) * one.estimate
            if sampling.method == "polish":
                assert low <= value <= high
            else:  # each holds at 95 %
                assert abs(math.log(one.estimate / value)) < math.log(high / low)
        if sampling.method == "sample":
            assert found.matvecs < sampling.full / 2
    assert methods[0.1] == "sample"
    assert methods[0.02] == "polish"
    assert methods[1e-4] == "full"


def test_few_samples_are_all_solved() -> None:
    A = outliers(N=500)
    found, sampling = sampled(A, rtol=0.1)
    assert sampling.method == "full"
    assert found.values == pytest.approx(np.linalg.eigvalsh(A.matrix)[::-1][:3], rel=1e-4)
    assert list(found.columns) == ["eigenvalue", "residual", "converged"]


def test_the_draws_to_polish_predict_the_correction_of_the_products() -> None:
    A = outliers(N=20_000, spread=0.5)
    predicted, observed = [], []
    for seed in range(10):
        drawn = draw(A.scores, 400, seed)
        mean = A.sampled(drawn.groups, drawn.weights)
        found = eigencore.solve(mean, 6, which="LA", tol=1e-5)
        predicted.append(draws_to_polish(measure(mean, found.vectors, 3, "LA", drawn), 0.01))
        polished = polish(A, found.vectors, 3, "LA", 0.0)
        observed.append(max((ends(one)[1] - ends(one)[0]) / 2 / one.estimate for one in polished))
    assert np.mean(predicted) / 400 * 0.01 / 1.5 == pytest.approx(np.mean(observed), rel=0.25)


def test_polished_values_are_below_the_eigenvalues_and_corrected_towards_them() -> None:
    A = outliers()
    drawn = draw(A.scores, 300, seed=0)
    found = eigencore.solve(A.sampled(drawn.groups, drawn.weights), 6, which="LA")
    truth = np.linalg.eigvalsh(A.matrix)[::-1][:3]
    for one, value in zip(polish(A, found.vectors, 3, "LA", 0.0), truth, strict=True):
        low, high = ends(one)
        assert low <= value <= high
        assert abs(one.estimate - value) < abs(low - value) / 2


def test_products_are_counted_in_products_with_all_data() -> None:
    A = outliers(N=4000)
    found, _ = sampled(A, samples=400)
    counted = found.matvecs - SCORES - 0.1 * (interval_products(6, 3) - 6)  # curvatures are not products
    assert counted * 4000 == pytest.approx(A.products)
    assert found.history[-1].matvecs < found.matvecs
    assert found.certificate.matvecs == pytest.approx(0.3)
    polished, sampling = sampled(A, rtol=0.02)
    assert sampling.method == "polish"
    assert polished.matvecs > 6


# -- the result --------------------------------------------------------------------------------------------


def test_all_samples_are_all_data() -> None:
    A = outliers(N=300, spread=1.0)
    found, sampling = sampled(A, samples=300, tol=1e-8)
    truth = np.linalg.eigvalsh(A.matrix)[::-1][:3]
    assert found.values == pytest.approx(truth, rel=1e-12)
    for one, value in zip(sampling.intervals, truth, strict=True):
        low, high = ends(one)
        assert low <= value * (1 + 1e-14)
        assert high >= value * (1 - 1e-14)
        assert high - low < 1e-6


def test_the_result_is_that_of_the_sample() -> None:
    A = outliers(spread=0.5)
    found, sampling = sampled(A, samples=300, seed=2)
    drawn = draw(A.scores, 300, seed=2)
    mean = A.sampled(drawn.groups, drawn.weights)
    alone = eigencore.solve(mean, 3, which="LA", tol=1e-6)
    assert found.values == pytest.approx(alone.values, rel=1e-5)
    assert found.status is Status.CONVERGED
    assert (found.k, len(found.values), tuple(found.vectors.shape)) == (3, 3, (40, 3))
    assert found.complete
    assert found.certificate.complete_above == pytest.approx(
        np.linalg.eigvalsh(mean.matmat(np.eye(40)))[::-1][3], rel=1e-3
    )
    assert found.state is None
    assert all(len(step.values) <= 3 and step.converged <= 3 for step in found.history)
    assert (sampling.draws, sampling.samples, sampling.groups, sampling.weighted) == (300, 2000, 20, True)
    columns = found.columns
    assert np.all(columns["low"] < columns["estimate"])
    assert np.all(columns["estimate"] < columns["high"])


def test_the_same_seed_gives_the_same_and_another_one_another_sample() -> None:
    one, other, third = (sampled(outliers(), samples=200, seed=seed)[1] for seed in (4, 4, 5))
    assert one == other
    assert one != third


def test_a_result_is_read_as_it_was_saved() -> None:
    for arguments in ({"samples": 200}, {"rtol": 0.1}, {"samples": 8}):
        found, sampling = sampled(outliers(spread=1.0), **arguments)
        read = from_json(to_json(eigencore.Run(found)), found.vectors, {})
        assert read.eigen is not None
        assert read.eigen.sampling == sampling


def test_refused_intervals_are_nan_in_the_columns() -> None:
    found, sampling = sampled(outliers(), samples=8)
    assert all(one.refused.startswith("there are 8 groups") for one in sampling.intervals)
    assert np.all(np.isnan(found.columns["low"]))
    assert np.all(np.isfinite(found.columns["estimate"]))


# -- what ends it ------------------------------------------------------------------------------------------


def test_the_limit_on_products_keeps_what_there_is() -> None:
    A = outliers(N=4000)
    whole, _ = sampled(A, samples=2000)
    for most in (1, 3, 6, whole.matvecs - 1):
        found, sampling = sampled(A, samples=2000, max_matvecs=most)
        assert found.matvecs <= most + 1e-9
        assert len(found.values) or most == 1
        if found.status is Status.BUDGET:
            assert "Raise max_matvecs" in found.advice
        assert len(sampling.intervals) == len(found.values)


def test_the_limit_on_seconds_keeps_the_pairs() -> None:
    A = outliers(N=4000)
    found, sampling = sampled(A, samples=2000, max_seconds=1e-6)
    assert found.status is Status.BUDGET
    assert all(one.refused for one in sampling.intervals)


def test_an_interrupted_solve_returns_the_pairs_so_far() -> None:
    for at in (2, 5, 12, 25, 40):
        A, count = outliers(), 0

        def press(at: int = at) -> None:
            nonlocal count
            count += 1
            if count == at:
                signal.raise_signal(signal.SIGINT)

        A.before = press
        try:
            sampled(A, samples=400)
        except Interrupted as interrupted:
            found = interrupted.result
            assert isinstance(found, EigenResult)
            assert found.k == 3
            assert found.sampling is not None
            assert all(one.refused for one in found.sampling.intervals)
            assert len(found.sampling.intervals) == len(found.values)
        else:
            assert count < at


def ending(end: Callable[[], None]) -> RankOneMean:
    """A mean whose samples end the solve once their pairs have converged."""

    class Ending(RankOneMean):
        def sampled(self, groups: Any, weights: Any) -> Any:
            mean = super().sampled(groups, weights)
            mean.curvatures = lambda V: end()  # type: ignore[method-assign, assignment, return-value]
            return mean

    A = outliers()
    return Ending(A.x, A.c)


def test_a_failure_keeps_the_pairs() -> None:
    def fail() -> None:
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order") as raised:
        sampled(ending(fail), samples=400)
    assert len(raised.value.partial.values) == 3  # type: ignore[attr-defined]


def test_interrupted_intervals_keep_the_pairs() -> None:
    with pytest.raises(Interrupted) as raised:
        sampled(ending(lambda: signal.raise_signal(signal.SIGINT)), samples=400)
    found = raised.value.result
    assert found.status is Status.CONVERGED
    assert [one.refused for one in found.sampling.intervals] == [
        "the solve ended before the intervals were computed"
    ] * 3


# -- invalid requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 1}, "samples is 1; expected 2 to 2000"),
        ({"samples": 2001}, "samples is 2001; expected 2 to 2000"),
        ({"samples": 2.5}, "samples is 2.5; expected a whole number"),
        ({"rtol": 0.0}, "rtol is 0.0; expected a relative accuracy"),
        ({"rtol": "5 %"}, "rtol is '5 %'; expected a relative accuracy"),
        ({"samples": 100, "rtol": 0.1}, "samples and rtol were both given"),
        ({"samples": 100, "which": "SA"}, "which is SA; intervals from a sample are known for LM and LA"),
        ({"samples": 100, "state": 1}, "a state can't be resumed from"),
        ({"samples": 100, "solver": "nonsense"}, "unknown solver"),
    ],
)
def test_an_invalid_request_is_refused_before_any_product(arguments: dict[str, Any], message: str) -> None:
    A = outliers()
    with pytest.raises(UsageError, match=message):
        eigencore.solve(A, 3, **{"which": "LA", **arguments})
    assert A.products == 0


def test_an_operator_that_is_no_mean_over_samples_is_refused() -> None:
    with pytest.raises(CapabilityError, match="not a mean over samples"):
        eigencore.solve(as_operator(np.eye(5)), 1, samples=10)


def test_analyses_that_need_all_data_are_refused_by_name_before_any_product() -> None:
    with pytest.raises(UsageError, match="samples can't be given with the analysis norms"):
        eigencore.analyze("demo:digits-numpy", k=2, samples=100, analyses="trace,norms")
    with pytest.raises(UsageError, match="rtol can't be given with the analysis density"):
        eigencore.density("demo:digits-numpy", rtol=0.1)
    with pytest.raises(UsageError, match="neither eigenpairs nor analyses"):
        eigencore.analyze("demo:digits-numpy", k=0, samples=100)
    with pytest.raises(UsageError, match="samples and rtol were both given"):
        eigencore.analyze("demo:digits-numpy", k=0, samples=100, rtol=0.1, analyses="trace")


def test_the_quantile_is_that_of_students_distribution() -> None:
    assert [quantile(m) for m in (10, 20, 40)] == pytest.approx(stats.t.ppf(0.975, [9, 19, 39]))
