"""The statistics of the robustness analysis: their properties, and slow, simple reference computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore_robustness.statistics.added_information import Finding, added_information, classify, holm
from eigencore_robustness.statistics.calibration import calibration, calibration_gain
from eigencore_robustness.statistics.cross_validation import R2Gain, r2_gain
from eigencore_robustness.statistics.intervals import (
    BATCH,
    MINIMUM,
    TOO_FEW,
    UNSTABLE,
    Interval,
    proportion,
)
from eigencore_robustness.statistics.rank_correlation import (
    minimum_detectable_correlation,
    partial_p,
    partial_spearman,
    rank_covariances,
    spearman,
    spearman_gain,
    variance_inflation,
)

N = 80
ENDS = ("estimate", "low", "high")


def study(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns a distance, two controls correlated with it, and two estimators of it, the better one first."""
    hidden, *noise = np.random.default_rng(seed).standard_normal((5, n))
    logs = [
        0.3 * hidden,
        0.5 * noise[0] - hidden,
        0.7 * noise[1] - hidden,
        0.3 * hidden + 0.05 * noise[2],
        0.3 * hidden + 0.15 * noise[3],
    ]
    d, loss, gradient, better, worse = np.exp(logs)
    return d, loss, gradient, better, worse


def rounded(x: np.ndarray) -> np.ndarray:
    """Returns x with many ties."""
    return np.round(2 * x) / 2


def rank_residuals(x: np.ndarray, controls: list[np.ndarray]) -> np.ndarray:
    design = np.stack([np.ones(len(x)), *map(stats.rankdata, controls)], axis=1)
    ranks = stats.rankdata(x)
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


# -- ranks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [N, N - 1], ids=["bootstrap", "jackknife"])
@pytest.mark.parametrize("ties", [False, True])
def test_ranks_from_counts_are_the_ranks_of_each_resample(size, ties):
    d, loss, gradient, *_ = study()
    d[:5] = np.inf
    columns = np.stack([rounded(c) if ties else c for c in (d, loss, gradient)])
    indices = np.random.default_rng(1).integers(0, N, (20, size))
    ours = rank_covariances(columns)(indices)
    for drawn, covariance in zip(indices, ours, strict=True):
        assert np.allclose(covariance, stats.spearmanr(columns[:, drawn], axis=1).statistic, atol=1e-12)


def test_the_partial_correlation_is_that_of_the_rank_residuals():
    d, loss, gradient, better, _ = study()
    x, controls = rounded(loss), [gradient, better]
    expected = np.corrcoef(rank_residuals(x, controls), rank_residuals(d, controls))[0, 1]
    assert partial_spearman(x, d, controls, seed=0).estimate == pytest.approx(expected, abs=1e-12)


def test_without_controls_or_with_constant_ones_the_partial_correlation_is_spearmans():
    d, loss, *_ = study()
    plain = spearman(loss, d, seed=0)
    assert plain.estimate == pytest.approx(stats.spearmanr(loss, d).statistic, abs=1e-12)
    assert partial_spearman(loss, d, [np.ones(N)], seed=0) == plain


def test_controls_may_be_redundant():
    d, loss, gradient, better, _ = study()
    once = partial_spearman(loss, d, [gradient, better], seed=0)
    twice = partial_spearman(loss, d, [gradient, better, gradient**3, -better], seed=0)
    for end in ENDS:
        assert getattr(twice, end) == pytest.approx(getattr(once, end), abs=1e-9)
    assert variance_inflation(loss, [gradient, -gradient]) == pytest.approx(
        variance_inflation(loss, [gradient])
    )


def test_variance_inflation():
    _, loss, gradient, better, _ = study()
    residuals = rank_residuals(loss, [gradient, better])
    r2 = 1 - residuals.var() / stats.rankdata(loss).var()
    assert variance_inflation(loss, [gradient, better]) == pytest.approx(1 / (1 - r2))
    assert variance_inflation(loss, [gradient, np.log(loss)]) == math.inf
    assert variance_inflation(loss, []) == pytest.approx(1)
    assert variance_inflation(np.ones(N), [gradient]) is None


def test_a_column_that_the_controls_determine_has_no_partial_correlation():
    d, loss, *_ = study()
    found = partial_spearman(loss, d, [loss**2], seed=0)
    assert found.estimate is None
    assert "determine" in found.reason


@pytest.mark.parametrize("monotone", [np.log, np.sqrt, lambda x: x**5, lambda x: 3 * x - 7])
def test_increasing_functions_do_not_change_rank_statistics(monotone):
    d, loss, gradient, better, worse = study()
    assert spearman(monotone(loss), monotone(d), seed=0) == spearman(loss, d, seed=0)
    assert spearman_gain(monotone(better), worse, d, seed=0) == spearman_gain(better, worse, d, seed=0)
    assert partial_spearman(loss, monotone(d), [monotone(gradient)], seed=0) == partial_spearman(
        loss, d, [gradient], seed=0
    )


def test_the_gain_in_rank_correlation_ignores_the_sign():
    d, loss, _, better, _ = study()
    gain = spearman_gain(better, loss, d, seed=0)
    rho, of_loss = (stats.spearmanr(x, d).statistic for x in (better, loss))
    assert of_loss < 0 < rho
    assert gain.estimate == pytest.approx(rho + of_loss, abs=1e-12)
    assert gain.low > 0
    mirrored = spearman_gain(1 / better, 1 / loss, d, seed=0)
    assert mirrored.estimate == pytest.approx(gain.estimate, abs=1e-12)
    assert spearman_gain(better, better, d, seed=0).estimate == 0


# -- intervals ---------------------------------------------------------------------------------------------


def test_bca_is_scipys_on_the_same_resamples():
    d, loss, *_, worse = study()

    def reference(statistic, *columns, seed):
        return stats.bootstrap(
            columns,
            statistic,
            paired=True,
            vectorized=False,
            n_resamples=500,
            batch=BATCH // N,
            random_state=arrays.generator(seed, "bootstrap"),
        ).confidence_interval

    def rho(x, y):
        return stats.spearmanr(x, y).statistic

    def error(e, d):
        ratio = np.log(d / e)
        return math.exp(np.median(abs(ratio - np.median(ratio)))) - 1

    for ours, theirs in [
        (spearman(loss, d, seed=3, resamples=500), reference(rho, loss, d, seed=3)),
        (calibration(worse, d, seed=4, resamples=500).error, reference(error, worse, d, seed=4)),
    ]:
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-10)
        assert ours.low < ours.estimate < ours.high


def test_the_seed_determines_every_bit():
    d, loss, gradient, better, worse = study()

    def everything(seed):
        return (
            calibration(better, d, seed=seed),
            calibration_gain(better, worse, d, seed=seed),
            spearman_gain(better, worse, d, seed=seed),
            added_information(
                {"better": better, "worse": worse}, d, {"loss": loss, "gradient": gradient}, seed=seed
            ),
        )

    assert everything(0) == everything(0)
    for one, other in zip(everything(0), everything(1), strict=True):
        assert one != other


def test_the_order_of_the_samples_does_not_change_estimates():
    d, loss, gradient, better, worse = columns = study()
    moved = np.stack(columns)[:, np.random.default_rng(0).permutation(N)]

    def estimates(d, loss, gradient, better, worse):
        of = calibration(better, d, seed=0)
        return [
            spearman(loss, d, seed=0).estimate,
            partial_spearman(better, d, [loss, gradient], seed=0).estimate,
            variance_inflation(better, [loss, gradient]),
            spearman_gain(better, worse, d, seed=0).estimate,
            of.ratio.estimate,
            of.error.estimate,
            calibration_gain(better, worse, d, seed=0).estimate,
            r2_gain(better, d, [loss, gradient]).gain,
        ]

    assert estimates(*moved) == pytest.approx(estimates(d, loss, gradient, better, worse), rel=1e-9)


def test_a_perfect_correlation_has_an_interval_of_width_zero():
    d = study()[0]
    assert spearman(2 * d, d, seed=0) == Interval(*[pytest.approx(1, abs=1e-12)] * 3, N)


def test_there_is_no_interval_if_the_statistic_is_undefined_on_some_resamples():
    d = study()[0]
    rare = np.zeros(N)
    rare[[3, 5]] = 1
    found = spearman(rare, d, seed=0)
    assert found.estimate == pytest.approx(stats.spearmanr(rare, d).statistic)
    assert (found.low, found.high) == (None, None)
    assert "too few distinct values" in found.reason


@pytest.mark.parametrize("n", [MINIMUM - 1, MINIMUM])
def test_no_inference_below_the_minimum(n):
    d, loss, gradient, better, worse = study(n=n)
    found = added_information({"better": better}, d, {"loss": loss, "gradient": gradient}, seed=0)["better"]
    intervals = [
        spearman(loss, d, seed=0),
        spearman_gain(better, worse, d, seed=0),
        calibration(better, d, seed=0).error,
        calibration(better, d, seed=0).ratio,
        calibration_gain(better, worse, d, seed=0),
        found.partial,
    ]
    for interval in intervals:
        assert interval.estimate is not None
        assert (interval.low is None) == (interval.high is None) == (n < MINIMUM)
        assert ("no inference" in interval.reason) == (n < MINIMUM)
    assert (found.p is None) == (n < MINIMUM)
    if n < MINIMUM:
        assert found.finding is Finding.INCONCLUSIVE


def test_the_minimum_counts_fooled_samples():
    d, loss, *_ = study()
    d[MINIMUM - 1 :] = np.inf
    few = spearman(loss, d, seed=0)
    assert (few.n, few.low) == (N, None)
    assert "no inference" in few.reason


# -- samples without a value -------------------------------------------------------------------------------


def test_samples_that_were_not_fooled_are_tied_above_all_others():
    d, loss, gradient, *_ = study()
    censored, replaced = np.where(loss < np.median(loss), np.inf, d), d.copy()
    replaced[np.isinf(censored)] = 10 * d.max()
    assert spearman(loss, censored, seed=0) == spearman(loss, replaced, seed=0)
    assert partial_spearman(loss, censored, [gradient], seed=0) == partial_spearman(
        loss, replaced, [gradient], seed=0
    )
    assert abs(spearman(d, censored, seed=0).estimate) < 1  # a tie is not a perfect ranking


def test_censored_and_unusable_samples_are_left_out_of_log_errors_and_counted():
    d, _, _, better, worse = study()
    d[:3] = np.inf
    better[2:8] = [1.0, np.nan, 0.0, -1.0, np.inf, 0.0]
    found = calibration(better, d, seed=0)
    assert (found.censored, found.unusable) == (3, 5)
    assert found.error.n == found.ratio.n == N - 8
    assert found.error.left_out == found.ratio.left_out == 8
    clean = calibration(better[8:], d[8:], seed=0)
    assert [getattr(found.error, end) for end in ENDS] == [getattr(clean.error, end) for end in ENDS]
    assert calibration_gain(better, worse, d, seed=0).left_out == 8
    r2 = r2_gain(better, d, [worse])
    assert (r2.n, r2.left_out) == (N - 5, 5)  # a column may well be negative or zero there


def test_samples_without_a_value_are_left_out_and_counted():
    d, loss, gradient, *_ = study()
    loss[[4, 9]] = np.nan
    gradient[11] = np.nan
    d[12] = np.nan
    some = ~np.isnan(np.stack([d, loss, gradient])).any(axis=0)
    found = partial_spearman(loss, d, [gradient], seed=0)
    clean = partial_spearman(loss[some], d[some], [gradient[some]], seed=0)
    assert [getattr(found, end) for end in ENDS] == [getattr(clean, end) for end in ENDS]
    assert (found.n, found.left_out) == (N - 4, 4)
    some = ~np.isnan(loss + gradient)
    assert variance_inflation(loss, [gradient]) == variance_inflation(loss[some], [gradient[some]])


@pytest.mark.parametrize(
    ("x", "d", "reason"),
    [
        (np.full(N, 3.0), None, "constant across the samples"),
        (np.full(N, np.inf), None, "constant across the samples"),
        (np.full(N, np.nan), None, "no sample has a value"),
        (None, np.full(N, np.inf), "no sample was fooled"),
    ],
    ids=["constant", "infinite", "missing", "not fooled"],
)
def test_a_missing_estimate_has_a_reason(x, d, reason):
    x, d = study()[1] if x is None else x, study()[0] if d is None else d
    gradient = study()[2]
    for found in (
        spearman(x, d, seed=0),
        partial_spearman(x, d, [gradient], seed=0),
    ):
        assert (found.estimate, found.low, found.high) == (None, None, None)
        assert reason in found.reason
    if found.reason.startswith("constant"):
        assert spearman_gain(gradient, x, d, seed=0).reason == found.reason
    together = added_information({"x": x}, d, {"gradient": gradient}, seed=0)["x"]
    assert (together.p, together.finding) == (None, Finding.INCONCLUSIVE)


@pytest.mark.parametrize("e", [np.full(N, -1.0), np.full(N, np.nan), np.zeros(0)])
def test_a_missing_calibration_has_a_reason(e):
    found = calibration(e, study()[0][: len(e)], seed=0)
    assert found.error.estimate is found.ratio.estimate is None
    assert found.error.reason == "no sample has a value"
    assert (found.error.n, found.unusable) == (0, len(e))


def test_columns_of_unequal_length_are_refused():
    d, loss, *_ = study()
    with pytest.raises(UsageError, match="one-dimensional columns of equal length"):
        spearman(loss[1:], d, seed=0)
    with pytest.raises(UsageError, match="one-dimensional columns of equal length"):
        calibration(np.ones((N, 1)), np.ones((N, 1)), seed=0)


# -- calibration -------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    d = np.exp([0.0, 1.0, 2.0, 3.0, 4.0])
    e = d * np.exp([0.5, 0.5, 0.6, 0.2, 0.8])
    found = calibration(e, d, seed=0)
    assert found.ratio.estimate == pytest.approx(math.exp(0.5))
    assert found.error.estimate == pytest.approx(math.exp(0.1) - 1)  # off by 0, 0, .1, .3, .3


@pytest.mark.parametrize("factor", [1e-6, 0.3, 7.0])
def test_scaling_an_estimator_scales_its_ratio_and_not_its_error(factor):
    d, _, _, better, worse = study()
    before, after = calibration(better, d, seed=0), calibration(factor * better, d, seed=0)
    gains = [calibration_gain(e, worse, d, seed=0) for e in (better, factor * better)]
    for end in ENDS:
        assert getattr(after.error, end) == pytest.approx(getattr(before.error, end), rel=1e-9)
        assert getattr(after.ratio, end) == pytest.approx(factor * getattr(before.ratio, end), rel=1e-9)
        assert getattr(gains[1], end) == pytest.approx(getattr(gains[0], end), abs=1e-9)


def test_a_better_estimator_gains():
    d, _, _, better, worse = study()
    gain = calibration_gain(better, worse, d, seed=0)
    errors = [calibration(e, d, seed=0).error.estimate for e in (worse, better)]
    assert gain.estimate == pytest.approx(errors[0] - errors[1])
    assert gain.low > 0
    back = calibration_gain(worse, better, d, seed=0)
    assert back.estimate == pytest.approx(-gain.estimate)
    assert back.high < 0


# -- cross-validation --------------------------------------------------------------------------------------


def plain_r2(columns: list[np.ndarray], y: np.ndarray) -> float:
    design = np.stack([np.ones(len(y)), *columns], axis=1)
    errors, of_mean = [], []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        fit = np.linalg.lstsq(design[others], y[others], rcond=None)[0]
        errors.append(y[i] - design[i] @ fit)
        of_mean.append(y[i] - y[others].mean())
    return 1 - np.sum(np.square(errors)) / np.sum(np.square(of_mean))


def test_r2_is_that_of_refits_that_leave_each_sample_out():
    d, loss, gradient, better, _ = study()
    found = r2_gain(better, d, [loss, gradient])
    logs = [np.log(c) for c in (loss, gradient, better)]
    assert found.controls == pytest.approx(plain_r2(logs[:2], np.log(d)), rel=1e-9)
    assert found.together == pytest.approx(plain_r2(logs, np.log(d)), rel=1e-9)
    assert found.gain == pytest.approx(found.together - found.controls)


def test_a_signed_column_enters_by_arcsinh_in_units_of_its_median_magnitude():
    d, loss, *_ = study()
    signed = loss - 1
    found = r2_gain(signed, d, [])
    column = np.arcsinh(signed / np.median(abs(signed)))
    assert found.together == pytest.approx(plain_r2([column], np.log(d)), rel=1e-9)
    assert r2_gain(1000 * signed, d, []).gain == pytest.approx(found.gain)


@pytest.mark.parametrize("column", ["repeat", "constant", "ones", "zeros"])
def test_a_column_without_new_information_gains_nothing(column):
    d, loss, gradient, *_ = study()
    x = {
        "repeat": loss**2 * gradient,
        "constant": np.full(N, 3.0),
        "ones": np.ones(N),
        "zeros": np.zeros(N),
    }
    assert r2_gain(x[column], d, [loss, gradient]).gain == pytest.approx(0, abs=1e-9)


def test_a_column_that_is_nonzero_for_one_sample_does_not_divide_by_zero():
    d, loss, *_ = study()
    lone = np.zeros(N)
    lone[7] = 1
    assert r2_gain(lone, d, [loss]).gain < 0.01


@pytest.mark.parametrize(("n", "d"), [(3, study()[0][:3]), (N, np.ones(N))])
def test_a_missing_r2_has_a_reason(n, d):
    loss = study()[1][:n]
    found = r2_gain(loss, d, [loss])
    assert (found.controls, found.together, found.gain) == (None, None, None)
    assert found.reason
    assert not found.is_small


# -- findings ----------------------------------------------------------------------------------------------


def test_holm():
    ps = {"a": 0.01, "b": 0.04, "c": 0.03, "d": None}
    assert holm(ps) == {"a": 0.03, "b": 0.06, "c": 0.06, "d": None}
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_p_is_that_of_the_jackknife():
    d, loss, gradient, *_ = study()
    z = [np.arctanh(stats.spearmanr(np.delete(loss, i), np.delete(d, i)).statistic) for i in range(N)]
    error = np.sqrt((N - 1) / N * np.sum((z - np.mean(z)) ** 2))
    t = abs(np.arctanh(stats.spearmanr(loss, d).statistic)) / error
    assert partial_p(loss, d, []) == pytest.approx(2 * stats.t.sf(t, N - 2), rel=1e-6)
    unrelated = np.random.default_rng(0).standard_normal(N)
    assert partial_p(unrelated, d, [gradient]) == pytest.approx(
        partial_p(unrelated**3, d**2, [gradient, 1 / gradient]), rel=0.05
    )
    assert partial_p(d, d, []) == 0.0


def test_p_is_adjusted_for_the_family():
    d, *_ = study()
    noise = dict(zip("abc", np.random.default_rng(0).standard_normal((3, N)), strict=True))
    found = added_information(noise, d, {}, seed=0)
    assert {name: one.p for name, one in found.items()} == holm(
        {name: partial_p(x, d, []) for name, x in noise.items()}
    )


def test_a_control_is_tested_given_the_others():
    d, loss, gradient, better, _ = study()
    controls = {"loss": loss, "better": better}
    found = added_information({"better": better, "gradient": gradient}, d, controls, seed=0)
    assert found["better"].partial == partial_spearman(better, d, [loss], seed=0)
    assert found["gradient"].partial == partial_spearman(gradient, d, [loss, better], seed=0)


ABOVE, ACROSS = Interval(0.2, 0.1, 0.3, 300), Interval(0.1, -0.1, 0.3, 300)
NONE = Interval(None, None, None, 300)


@pytest.mark.parametrize(
    ("partial", "vif", "p", "r2", "finding"),
    [
        (ABOVE, 2.0, 0.01, (0.5, 0.6), Finding.ADDS),
        (ABOVE, 2.0, 0.06, (0.5, 0.6), Finding.INCONCLUSIVE),  # not after adjusting for the family
        (ACROSS, 2.0, 0.01, (0.5, 0.6), Finding.INCONCLUSIVE),
        (ACROSS, 2.0, 0.5, (0.5, 0.5), Finding.INCONCLUSIVE),  # unrelated, but not redundant
        (ACROSS, 10.0, 0.5, (0.5, 0.6), Finding.REDUNDANT),
        (ABOVE, 10.0, 1e-9, (0.5, 0.505), Finding.REDUNDANT),
        (ABOVE, 10.0, 1e-9, (0.5, 0.52), Finding.COLLINEAR),  # collinear, but it predicts better
        (ABOVE, 60.0, 1e-9, (0.990, 0.996), Finding.COLLINEAR),  # most of what the controls leave unexplained
        (Interval(-0.17, -0.37, -0.04, 200), 859.0, 1e-9, (0.989, 0.989), Finding.REDUNDANT),
        (NONE, math.inf, None, (0.5, 0.5), Finding.REDUNDANT),
        (NONE, None, None, (None, None), Finding.INCONCLUSIVE),
        (NONE, 100.0, None, (None, None), Finding.INCONCLUSIVE),  # no sample was fooled
        (Interval(0.9, None, None, 20, reason=TOO_FEW), 100.0, None, (0.5, 0.5), Finding.INCONCLUSIVE),
        (Interval(0.9, None, None, 90, reason=UNSTABLE), 1e6, None, (0.5, 0.5), Finding.REDUNDANT),
        (Interval(0.9, None, None, 90, reason=UNSTABLE), 2.0, None, (0.5, 0.6), Finding.INCONCLUSIVE),
    ],
)
def test_the_finding_for_a_column(partial, vif, p, r2, finding):
    assert classify(partial, vif, p, R2Gain(*r2, 300, 0)) is finding


# -- proportions and power ---------------------------------------------------------------------------------


def test_the_interval_of_a_proportion_is_clopper_and_pearsons():
    found = proportion(3, 70)
    expected = stats.beta.ppf(0.025, 3, 68), stats.beta.ppf(0.975, 4, 67)
    assert found.estimate == 3 / 70
    assert (found.low, found.high) == pytest.approx(expected)
    assert (proportion(0, 10).low, proportion(10, 10).high) == (0, 1)
    assert proportion(0, 0) == Interval(None, None, None, 0, reason="no sample has a value")


@pytest.mark.parametrize("n", [5, 40])
def test_the_interval_of_a_proportion_covers_every_truth(n):
    intervals = [proportion(k, n) for k in range(n + 1)]
    for truth in np.linspace(0.01, 0.99, 50):
        covering = [i.low <= truth <= i.high for i in intervals]
        assert stats.binom.pmf(np.arange(n + 1), n, truth) @ covering >= 0.95


@pytest.mark.parametrize(("n", "rho"), [(194, 0.2), (350, 0.15), (16, 0.65)])
def test_the_minimum_detectable_correlation(n, rho):
    assert minimum_detectable_correlation(n) == pytest.approx(rho, rel=0.01)
    assert minimum_detectable_correlation(n + 3, controls=3) == minimum_detectable_correlation(n)
    assert (
        minimum_detectable_correlation(n, power=0.9)
        > minimum_detectable_correlation(n)
        > minimum_detectable_correlation(n, alpha=0.1)
    )


def test_too_few_samples_detect_nothing():
    assert minimum_detectable_correlation(3) == minimum_detectable_correlation(6, controls=3) == 1.0
