"""The statistics of the robustness analysis: their properties, and slow, simple reference computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore_robustness.statistics.added_information import (
    DETERMINED,
    ENOUGH,
    ERROR_OF_ATTACKS,
    SMALL_SHARE,
    AddedInformation,
    Finding,
    added_information,
    classify,
    holm,
)
from eigencore_robustness.statistics.calibration import calibration, calibration_gain
from eigencore_robustness.statistics.flexible_controls import (
    control_basis,
    left_out_errors,
    left_out_r2,
    logarithmic,
)
from eigencore_robustness.statistics.intervals import (
    BATCH,
    MINIMUM,
    Interval,
    proportion,
)
from eigencore_robustness.statistics.rank_correlation import (
    minimum_detectable_correlation,
    rank_correlations,
    spearman,
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
    d, loss, *_ = study()
    d[:5] = np.inf
    columns = np.stack([rounded(c) if ties else c for c in (d, loss)])
    indices = np.random.default_rng(1).integers(0, N, (20, size))
    expected = [stats.spearmanr(columns[:, drawn], axis=1).statistic for drawn in indices]
    assert np.allclose(rank_correlations(columns)(indices), expected, atol=1e-12)


def test_variance_inflation():
    _, loss, gradient, better, _ = study()
    residuals = rank_residuals(loss, [gradient, better])
    r2 = 1 - residuals.var() / stats.rankdata(loss).var()
    assert variance_inflation(loss, [gradient, better]) == pytest.approx(1 / (1 - r2))
    assert variance_inflation(loss, [gradient, -gradient]) == pytest.approx(
        variance_inflation(loss, [gradient])
    )
    assert variance_inflation(loss, [gradient, np.log(loss)]) == math.inf
    assert variance_inflation(loss, []) == pytest.approx(1)
    assert variance_inflation(np.ones(N), [gradient]) is None


@pytest.mark.parametrize("monotone", [np.log, np.sqrt, lambda x: x**5, lambda x: 3 * x - 7])
def test_increasing_functions_do_not_change_rank_correlations(monotone):
    d, loss, *_ = study()
    assert spearman(monotone(loss), monotone(d), seed=0) == spearman(loss, d, seed=0)


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
    d, loss, gradient, better, worse = study(n=ENOUGH)

    def everything(seed):
        return (
            calibration(better, d, seed=seed),
            calibration_gain(better, worse, d, seed=seed),
            added_information(
                {"better": better, "worse": worse}, d, {"loss": loss, "gradient": gradient}, seed=seed
            )["better"],
        )

    assert everything(0) == everything(0)
    for one, other in zip(everything(0), everything(1), strict=True):
        assert one != other


def test_the_order_of_the_samples_does_not_change_estimates():
    d, loss, gradient, better, worse = columns = study(n=ENOUGH)
    moved = np.stack(columns)[:, np.random.default_rng(0).permutation(ENOUGH)]

    def estimates(d, loss, gradient, better, worse):
        of = calibration(better, d, seed=0)
        added = added_information({"x": better}, d, {"a": loss, "b": gradient}, seed=0)["x"]
        return [
            spearman(loss, d, seed=0).estimate,
            variance_inflation(better, [loss, gradient]),
            of.ratio.estimate,
            of.error.estimate,
            calibration_gain(better, worse, d, seed=0).estimate,
            added.partial.estimate,
            added.p,
            added.left_open,
            added.r2_of_controls,
            added.r2_gain,
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
    d, loss, _, better, worse = study(n=n)
    intervals = [
        spearman(loss, d, seed=0),
        calibration(better, d, seed=0).error,
        calibration(better, d, seed=0).ratio,
        calibration_gain(better, worse, d, seed=0),
    ]
    for interval in intervals:
        assert interval.estimate is not None
        assert (interval.low is None) == (interval.high is None) == (n < MINIMUM)
        assert ("no inference" in interval.reason) == (n < MINIMUM)


@pytest.mark.parametrize("n", [3, ENOUGH - 1, ENOUGH])
def test_nothing_is_added_before_the_controls_can_be_fitted(n):
    d, loss, gradient, better, _ = study(n=n)
    found = added_information({"better": better}, d, {"loss": loss, "gradient": gradient}, seed=0)["better"]
    assert (found.partial.estimate is None) == (found.p is None) == (n < ENOUGH)
    assert (found.share.estimate is None) == (found.r2_gain is None) == (n < ENOUGH)
    assert found.finding is (Finding.ADDS if n >= ENOUGH else Finding.INCONCLUSIVE)
    assert ("cannot be fitted" in found.partial.reason) == (n < ENOUGH)


def test_the_minimum_counts_fooled_samples():
    d, loss, *_ = study()
    d[MINIMUM - 1 :] = np.inf
    few = spearman(loss, d, seed=0)
    assert (few.n, few.low) == (N, None)
    assert "no inference" in few.reason


# -- samples without a value -------------------------------------------------------------------------------


def test_samples_that_were_not_fooled_are_tied_above_all_others():
    d, loss, *_ = study()
    censored, replaced = np.where(loss < np.median(loss), np.inf, d), d.copy()
    replaced[np.isinf(censored)] = 10 * d.max()
    assert spearman(loss, censored, seed=0) == spearman(loss, replaced, seed=0)
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


def test_samples_without_a_value_are_left_out_and_counted():
    n = ENOUGH + 10
    d, loss, gradient, better, _ = study(n=n)
    loss[[4, 9]] = np.nan
    gradient[11] = np.nan
    d[12] = np.nan
    some = ~np.isnan(np.stack([d, loss])).any(axis=0)
    found, clean = spearman(loss, d, seed=0), spearman(loss[some], d[some], seed=0)
    assert [getattr(found, end) for end in ENDS] == [getattr(clean, end) for end in ENDS]
    assert (found.n, found.left_out) == (n - 3, 3)
    some = ~np.isnan(loss + gradient)
    assert variance_inflation(loss, [gradient]) == variance_inflation(loss[some], [gradient[some]])
    d[13], better[14], d[15] = np.inf, np.inf, 0
    left_out = [4, 9, 11, 12, 13, 14, 15]
    kept = np.setdiff1d(np.arange(n), left_out)
    found, clean = (
        added_information({"x": better[i]}, d[i], {"loss": loss[i], "b": gradient[i]}, seed=0)["x"]
        for i in (np.arange(n), kept)
    )
    assert (found.partial.n, found.partial.left_out) == (len(kept), len(left_out))
    assert [getattr(found.partial, end) for end in ENDS] == [getattr(clean.partial, end) for end in ENDS]


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
    together = added_information({"x": x}, d, {"gradient": gradient}, seed=0)["x"]
    for found in (spearman(x, d, seed=0), together.partial):
        assert (found.estimate, found.low, found.high) == (None, None, None)
        assert reason in found.reason
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


# -- flexible controls -------------------------------------------------------------------------------------


def plain_errors(design: np.ndarray, y: np.ndarray) -> np.ndarray:
    errors = []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        fit = np.linalg.lstsq(design[others], y[others], rcond=None)[0]
        errors.append(y[i] - design[i] @ fit)
    return np.array(errors)


def test_left_out_errors_are_those_of_refits_that_leave_each_sample_out():
    d, loss, gradient, *_ = study(n=ENOUGH)
    y, basis = np.log(d), control_basis([loss, gradient])
    expected = plain_errors(basis, y)
    np.testing.assert_allclose(left_out_errors(basis, y), expected, rtol=1e-8)
    of_mean = plain_errors(np.ones((ENOUGH, 1)), y)
    assert left_out_r2(basis, y) == pytest.approx(1 - np.sum(expected**2) / np.sum(of_mean**2))


def test_a_control_that_is_nonzero_for_one_sample_does_not_divide_by_zero():
    lone = np.zeros(N)
    lone[7] = 1
    y = np.log(study()[0])
    errors = left_out_errors(control_basis([lone]), y)
    assert errors[7] == pytest.approx(y[7] - np.delete(y, 7).mean())
    assert np.isfinite(errors).all()


@pytest.mark.parametrize("control", ["constant", "binary", "three values", "smooth"])
def test_the_basis_is_orthonormal_for_any_control(control):
    x = {
        "constant": np.ones(N),
        "binary": (np.arange(N) % 2).astype(float),
        "three values": (np.arange(N) % 3).astype(float),
        "smooth": np.linspace(0, 1, N) ** 2,
    }[control]
    for controls in ([x], [x, x], [x, study()[1]]):
        basis = control_basis(controls)
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
        for y in (np.ones(N), x):
            np.testing.assert_allclose(basis @ (basis.T @ y), y, atol=1e-10)
    assert control_basis([x, x]).shape[1] <= control_basis([x]).shape[1] + 1  # and a product


def test_the_basis_holds_natural_cubic_splines():
    """They equal SciPy's between the knots, and are linear beyond them."""
    from scipy.interpolate import CubicSpline

    x = np.sort(study(n=400)[0])
    log_x = np.log(x)
    knots = np.quantile(log_x, np.linspace(0.05, 0.95, 10))
    spline = CubicSpline(knots, np.random.default_rng(0).standard_normal(10), bc_type="natural")
    ends = np.clip(log_x, knots[0], knots[-1])
    basis = control_basis([x])
    assert basis.shape[1] == 11
    for y in (spline(ends) + spline(ends, 1) * (log_x - ends), x):
        np.testing.assert_allclose(basis @ (basis.T @ y), y, atol=1e-8)


def test_the_coefficients_never_exceed_a_fifth_of_the_samples():
    for n in (ENOUGH, 150, 400, 3000):
        controls = list(np.exp(np.random.default_rng(0).standard_normal((3, n))))
        coefficients = control_basis(controls).shape[1]
        assert n / 10 < coefficients <= n / 5 or coefficients == 34


def test_logarithms_of_any_column():
    loss = study()[1]
    np.testing.assert_array_equal(logarithmic(loss), np.log(loss))
    some = np.where(np.arange(N) < 3, 0.0, loss)
    np.testing.assert_array_equal(logarithmic(some)[3:], np.log(loss[3:]))
    assert (logarithmic(some)[:3] == np.log(loss[3:]).min()).all()
    signed = loss - 1
    np.testing.assert_allclose(logarithmic(1000 * signed), np.arcsinh(signed / np.median(abs(signed))))
    assert (logarithmic(np.zeros(N)) == 0).all()


# -- findings ----------------------------------------------------------------------------------------------


def test_holm():
    ps = {"a": 0.01, "b": 0.04, "c": 0.03, "d": None}
    assert holm(ps) == {"a": 0.03, "b": 0.06, "c": 0.06, "d": None}
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_what_a_column_adds_is_that_of_least_squares():
    """Its p-value is that of the column's coefficient with HC3 errors, up to the sample's own residual."""
    d, loss, gradient, better, _ = study(n=ENOUGH)
    found = added_information({"x": better}, d, {"loss": loss, "gradient": gradient}, seed=0)["x"]
    y, x = np.log(d), np.log(better)
    basis = control_basis([loss, gradient])
    rest, full = (
        np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2)
        for design in (basis, np.column_stack([basis, x]))
    )
    assert found.share.estimate == pytest.approx(1 - full / rest)
    assert found.r2_of_controls == pytest.approx(left_out_r2(basis, y))
    both = np.linalg.qr(np.column_stack([basis, x]))[0]
    assert found.r2_gain == pytest.approx(left_out_r2(both, y) - left_out_r2(basis, y))
    assert found.left_open == pytest.approx(np.sqrt(np.mean(plain_errors(basis, y) ** 2)))
    assert found.share.low < found.share.estimate < found.share.high
    assert found.partial.low**2 == pytest.approx(found.share.low)


def test_the_share_of_a_correlation_whose_interval_contains_zero_starts_at_zero():
    one = AddedInformation(Interval(0.1, -0.3, 0.2, 300), 0.5, 0.1, 0.9, 0.0, 1.0)
    assert (one.share.low, one.share.high) == (0.0, pytest.approx(0.09))
    negative = AddedInformation(Interval(-0.5, -0.6, -0.4, 300), 0.0, 0.1, 0.9, 0.0, 1.0)
    assert (negative.share.low, negative.share.high) == (pytest.approx(0.16), pytest.approx(0.36))


@pytest.mark.parametrize("power", [-2.0, 0.5, 3.0])
def test_units_and_powers_of_a_column_do_not_matter(power):
    d, loss, gradient, better, _ = study(n=ENOUGH)
    before = added_information({"x": better}, d, {"a": loss, "b": gradient}, seed=0)["x"]
    after = added_information({"x": 7 * better**power}, 3 * d, {"a": 2 * loss, "b": 9 * gradient}, seed=0)
    assert after["x"].finding is before.finding
    for end in ENDS:
        assert getattr(after["x"].share, end) == pytest.approx(getattr(before.share, end), rel=1e-6)
    assert after["x"].p == pytest.approx(before.p, rel=1e-6)


def test_a_column_that_the_controls_determine_is_redundant():
    d, loss, gradient, *_ = study(n=ENOUGH)
    found = added_information({"x": loss**2 * gradient}, d, {"a": loss, "b": gradient}, seed=0)["x"]
    assert (found.partial.reason, found.p, found.r2_gain) == (DETERMINED, None, 0.0)
    assert found.finding is Finding.REDUNDANT


def test_p_is_adjusted_for_the_family():
    d = study(n=ENOUGH)[0]
    noise = dict(zip("abc", np.random.default_rng(0).standard_normal((3, ENOUGH)), strict=True))
    together = added_information(noise, d, {}, seed=0)
    alone = {name: added_information({name: x}, d, {}, seed=0)[name].p for name, x in noise.items()}
    assert {name: one.p for name, one in together.items()} == holm(alone)


NONE = Interval(None, None, None, 300)


@pytest.mark.parametrize("vif", [1.0, 2.0, 700.0])
@pytest.mark.parametrize(
    ("partial", "p", "left_open", "finding"),
    [
        (Interval(0.3, 0.1, 0.4, 300), 0.01, 0.1, Finding.ADDS),
        (Interval(-0.3, -0.4, -0.1, 300), 0.01, 0.1, Finding.ADDS),
        (Interval(0.3, 0.1, 0.4, 300), 0.06, 0.1, Finding.INCONCLUSIVE),  # not after adjusting for the family
        (Interval(0.3, -0.1, 0.4, 300), 0.01, 0.1, Finding.INCONCLUSIVE),
        (Interval(0.16, 0.1, 0.2, 3000), 1e-9, 0.1, Finding.INCONCLUSIVE),  # certain, and too small to matter
        (Interval(0.1, 0.05, 0.15, 9000), 1e-9, 0.1, Finding.REDUNDANT),  # and shown to be too small
        (Interval(0.0, -0.1, 0.1, 300), 1.0, 0.1, Finding.REDUNDANT),
        (Interval(0.9, 0.8, 0.95, 300), 1e-9, ERROR_OF_ATTACKS, Finding.REDUNDANT),  # nothing is left open
        (Interval(None, None, None, 300, reason=DETERMINED), None, 0.1, Finding.REDUNDANT),
        (NONE, None, None, Finding.INCONCLUSIVE),
    ],
)
def test_the_finding_for_a_column_is_the_same_at_every_vif(partial, p, left_open, finding, vif):
    assert SMALL_SHARE == 0.03
    assert classify(AddedInformation(partial, p, left_open, 0.9, 0.01, vif)) is finding


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
    assert (
        minimum_detectable_correlation(n, power=0.9)
        > minimum_detectable_correlation(n)
        > minimum_detectable_correlation(n, alpha=0.1)
    )


def test_too_few_samples_detect_nothing():
    assert minimum_detectable_correlation(3) == 1.0
