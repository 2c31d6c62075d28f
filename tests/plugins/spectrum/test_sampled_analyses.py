"""`trace` and `density` from samples of the data: truth, coverage, refusals, costs, limits and commands."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import eigencore
from eigencore.cli import main
from eigencore.errors import CapabilityError, UsageError
from eigencore.interfaces import MeanOperator
from eigencore.operators import as_operator, draw
from eigencore.pipeline.run import RunInterrupted
from eigencore.testing import analysis_checks
from eigencore_spectrum.complement import Complement
from eigencore_spectrum.group_tests import PURPOSE, GroupTests, groups_of
from eigencore_spectrum.probes import probes
from eigencore_spectrum.sampled_density import PURPOSE as SQUARE
from eigencore_spectrum.sampled_density import mean_square
from eigencore_spectrum.sampled_trace import COSTS, PREDICTED
from kit.sample_means import RankOneMean, outliers


def nothing_known(A: Any) -> Complement:
    return Complement(A, np.zeros(0), np.zeros(0), None)


def some_pairs(A: RankOneMean, p: int = 3) -> Complement:
    """Orthonormal vectors near the first eigenvectors, and values that are not theirs."""
    noisy = np.linalg.eigh(A.matrix)[1][:, ::-1][:, :p] + 0.05 * np.random.default_rng(4).standard_normal(
        (A.shape[0], p)
    )
    return Complement(A, np.array([8.0, 7.0, 4.0])[:p], np.full(p, 0.1), np.linalg.qr(noisy)[0])


def trace_of(A: Any, samples: int, seed: int, known: Complement | None = None) -> Any:
    tests = GroupTests(A, known or nothing_known(A), seed, 0.95)
    for _ in tests.add(draw(A.sample_scores(), samples, seed, groups=groups_of(samples))):
        pass
    return tests.trace()


def means_of_groups(A: RankOneMean, drawn: Any) -> list[Any]:
    parts = np.split(drawn.weights, np.cumsum([len(group) for group in drawn.groups])[:-1])
    return [
        (A.x[list(group)].T * (w * A.c[list(group)])) @ A.x[list(group)] / len(group)
        for group, w in zip(drawn.groups, parts, strict=True)
    ]


@pytest.mark.parametrize(
    "check",
    [
        check
        for options in ({"samples": 200}, {"rtol": 0.2})
        for check in analysis_checks("trace", "demo:digits-numpy", **options)
    ],
    ids=lambda check: check.__name__.partition("/")[0],
)
def test_the_trace_of_a_sample_conforms(check: Any) -> None:
    pytest.importorskip("sklearn")
    check()


# -- the trace, beside dense matrices ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "known"),
    [
        pytest.param(1.0, False, id="weighted"),
        pytest.param(1.0, True, id="weighted, with pairs"),
        pytest.param(0.0, False, id="uniform"),
    ],
)
def test_the_trace_of_a_sample_is_unbiased_and_its_intervals_cover(spread: float, known: bool) -> None:
    A = outliers(spread=spread)
    truth, trials = float(np.trace(A.matrix)), 250
    found = [trace_of(A, 240, seed, some_pairs(A) if known else None) for seed in range(trials)]
    values = np.array([one.estimate.value for one in found])
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(trials)
    held = np.mean([one.estimate.low <= truth <= one.estimate.high for one in found])
    assert 0.90 < held < 0.99
    # The half width is that of the errors which occur, up to the skewness of both.
    widths = np.median([one.estimate.half_width for one in found])
    assert widths == pytest.approx(2 * values.std(), rel=0.2)


def test_the_interval_is_that_of_the_formulas_written_out() -> None:
    for spread in (1.0, 0.0):
        A, samples = outliers(spread=spread), 400
        A.shift = 0.7
        known, n = some_pairs(A), A.shape[0]
        drawn = draw(A.scores, samples, 3, groups=50)
        B = known.vectors @ np.diag(known.values) @ known.vectors.T  # type: ignore[operator]
        T, v = [], []
        for b, H in enumerate(means_of_groups(A, drawn)):
            z = probes(A, [b], 3, PURPOSE, "sphere")[:, 0]
            y = (H + 0.7 * np.eye(n) - B) @ z
            T.append(z @ y)
            v.append(2 * np.sum((y - (z @ y) / n * z) ** 2))
        f = 1.0 if spread else 1 - samples / len(A.x)
        variance = np.mean(v) + f * max(np.var(T, ddof=1) - np.mean(v), 0)
        found = trace_of(A, samples, 3, known)
        assert found.estimate.value == pytest.approx(np.mean(T) + known.values.sum())
        half = stats.t.ppf(0.975, 49) * math.sqrt(variance / 50)
        assert found.estimate.half_width == pytest.approx(half)
        value = found.estimate.value
        assert found.effective == pytest.approx(samples / (1 + 8 * variance / value**2))


def test_known_pairs_of_the_sample_make_the_interval_narrower_without_a_product() -> None:
    A = outliers(N=4000, spread=0.3)
    plain = eigencore.trace(A, samples=400)
    paired = eigencore.trace(A, k=4, which="LA", samples=400)
    assert plain.low is not None
    assert paired.low is not None
    assert paired.high - paired.low < (plain.high - plain.low) / 1.5
    assert plain.matvecs == pytest.approx(0.2 + 400 / 4000)
    assert "4 known eigenpairs" in paired.title


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_the_trace_of_drawn_samples_on_pytorch_is_unbiased(kind: str) -> None:
    torch = pytest.importorskip("torch")
    from kit.torch_networks import made_of, matrix

    problem = made_of("mlp", reduction="mean").problem
    A: Any = eigencore.bind(problem, backend="torch").operator(kind, damping=0.1)
    truth = float(torch.trace(matrix(problem, kind, damping=0.1)))
    values = np.array([trace_of(A, 12, seed).estimate.value for seed in range(25)])
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))


def test_a_sample_that_few_draws_carry_has_no_interval() -> None:
    A = outliers(N=20_000, spread=2.5)
    found = eigencore.trace(A, samples=400)
    assert found.low is not None
    A.scores = np.ones(len(A.x))  # nothing is known of the samples, so that few of them carry all
    found = eigencore.trace(A, samples=400)
    assert found.low is None
    assert found.high is None
    assert "without an interval: it is carried by" in found.verdict
    needed = int(found.verdict.split("About ")[1].split(" ")[0].replace(",", ""))
    assert needed > 400
    assert np.isnan(found.columns["low"]).all()


def test_a_trace_whose_parts_cancel_has_no_interval() -> None:
    A = outliers()
    A.c = A.c * np.where(np.arange(len(A.x)) % 2, 1.0, -1.0)
    found = eigencore.trace(A, samples=400)
    assert found.low is None
    assert "Use all data" in found.verdict


# -- an accuracy -------------------------------------------------------------------------------------------


def test_an_accuracy_is_reached_by_the_cheaper_of_a_sample_and_all_data() -> None:
    A = outliers(N=60_000, spread=0.5, n=60)
    truth = float(np.trace(A.matrix))
    for rtol, sample in ((0.1, True), (0.03, True), (1e-3, False)):
        found = eigencore.trace(A, rtol=rtol, method="hutchinson" if rtol == 1e-3 else "adaptive")
        assert found.low is not None
        assert found.high is not None
        assert ("draws" in found.numbers) is sample
        assert (found.high - found.low) / 2 <= rtol * found.estimate
        assert abs(found.estimate - truth) < 2 * rtol * truth
        costs = found.tables[PREDICTED]
        assert costs.columns == COSTS
        assert [row[0] for row in costs.rows] == sorted({0.1, 0.05, 0.01, rtol}, reverse=True)
        (predicted,) = (row for row in costs.rows if row[0] == rtol)
        if sample:
            assert found.numbers["draws"] <= 2 * predicted[1]
            assert found.matvecs < 1


def test_more_draws_than_samples_are_by_weight_too() -> None:
    A = outliers(N=1000, spread=1.0, n=400)
    found = eigencore.trace(A, rtol=0.05, method="hutchinson")
    assert found.numbers["draws"] > 1000
    assert "by weight" in found.title
    assert found.high - found.low <= 0.1 * found.estimate  # type: ignore[operator]


def test_without_samples_rtol_ends_the_products_with_all_data() -> None:
    few = outliers(N=500)
    for A in (few, as_operator(outliers().matrix)):
        found = eigencore.trace(A, rtol=0.05)
        assert "draws" not in found.numbers
        assert not found.tables
        assert found.high - found.low <= 0.1 * abs(found.estimate)  # type: ignore[operator]


class NoMean(RankOneMean):
    def sample_scores(self) -> Any:
        raise CapabilityError("the loss is not a mean over samples")


def test_data_that_cannot_be_sampled_are_all_used_and_the_result_says_why() -> None:
    whole = outliers()
    A = NoMean(whole.x, whole.c)
    found = eigencore.trace(A, rtol=0.05)
    assert found.warnings == (
        "no sample of the data can be taken, so that all data are used: the loss is not a mean over samples",
    )
    assert found.low <= np.trace(A.matrix) <= found.high  # type: ignore[operator]
    with pytest.raises(CapabilityError, match="not a mean over samples"):
        eigencore.trace(A, samples=100)


def test_an_operator_without_samples_is_refused() -> None:
    for function in (eigencore.trace, eigencore.density):
        with pytest.raises(CapabilityError, match="this operator is not a mean over samples"):
            function(np.eye(50), k=0, samples=10)
    with pytest.raises(UsageError, match="both given"):
        eigencore.trace(outliers(), samples=100, rtol=0.1)


# -- the density, and moments of all data ------------------------------------------------------------------


def square_of(A: RankOneMean) -> float:
    return float(np.sum(A.matrix**2)) / A.shape[0]


@pytest.mark.parametrize(
    ("spread", "N", "samples", "known"),
    [
        pytest.param(1.0, 2000, 640, 0, id="weighted"),
        pytest.param(1.0, 2000, 640, 3, id="weighted, with pairs"),
        pytest.param(0.0, 60, 48, 3, id="uniform, most of the samples"),
    ],
)
def test_the_mean_square_is_unbiased_and_its_intervals_cover(
    spread: float, N: int, samples: int, known: int
) -> None:
    A, trials = outliers(N=N, spread=spread), 150
    A.shift = 0.5
    pairs = some_pairs(A, known) if known else nothing_known(A)
    found = []
    for seed in range(trials):
        drawn = draw(A.scores, samples, seed, groups=groups_of(samples))
        found.append(mean_square(A, pairs, drawn, seed, 0.95))
    values, truth = np.array([one.value for one in found]), square_of(A)
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(trials)
    held = [one.low <= truth <= one.high for one in found if not one.refused]
    assert (len(held) > 120) is (samples == 640)
    if held:  # three standard errors below 95 %
        assert np.mean(held) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / len(held))


def test_the_mean_square_is_that_of_the_formulas_written_out() -> None:
    A = outliers(N=300)
    known, n = some_pairs(A), A.shape[0]
    drawn = draw(A.scores, 200, 1, groups=20)
    H, V = means_of_groups(A, drawn), known.vectors
    assert V is not None
    each = []
    for i in range(10):
        z = probes(A, [i], 1, SQUARE, "sphere")[:, 0]
        W = np.column_stack([V, z - V @ (V.T @ z)])
        g, h = H[2 * i] @ W, H[2 * i + 1] @ W
        both = np.sum(g * h)
        each.append((both + 10 / 300 * ((np.sum(g**2) + np.sum(h**2)) / 2 - both)) / n)
    found = mean_square(A, known, drawn, 1, 0.95)
    assert found.value == pytest.approx(np.mean(each))
    error = np.std(each, ddof=1) / math.sqrt(10)
    assert found.relative == pytest.approx(stats.t.ppf(0.975, 9) * error / np.mean(each))
    assert found.refused  # there are few pairs of groups


@pytest.mark.parametrize("k", [0, 3])
def test_the_density_is_that_of_the_operator_of_the_sample_and_says_so(k: int) -> None:
    A, options = outliers(spread=1.0), {"probes": 3, "steps": 10, "seed": 2}
    found = eigencore.density(A, k=k, which="LA", samples=900, **options)
    drawn = draw(A.scores, 900, 2)
    sizes = np.array([len(group) for group in drawn.groups])
    matrix = np.tensordot(sizes / 900, means_of_groups(A, drawn), axes=1)
    expected = eigencore.density(matrix, k=k, which="LA", **options)
    atoms = np.array([row[0] for row in found.atoms.rows])
    np.testing.assert_allclose(atoms, [row[0] for row in expected.atoms.rows], rtol=1e-6)
    if not k:  # the vectors of more pairs were computed for the intervals
        np.testing.assert_allclose(found.cdf, expected.cdf, atol=1e-8)
        np.testing.assert_allclose(found.density, expected.density, rtol=1e-6, atol=1e-10)
    assert found.numbers["operator"] == "of the sample"
    assert found.title.startswith("of a sample of 900 draws by weight from 2,000, ")
    assert found.verdict.startswith("For the operator of the sample: ")
    assert all(figure.title.endswith(", of the sample") for figure in found.figures)
    assert "this is the spectrum of the operator of the sample" in found.warnings[-1]
    moments = found.tables["moments of all data"].rows
    assert [row[0] for row in moments] == ["mean", "mean square"]
    for (_, _, low, high), truth in zip(moments, (np.trace(A.matrix) / 40, square_of(A)), strict=True):
        assert low < truth < high


def test_moments_that_are_not_known_well_have_no_interval() -> None:
    found = eigencore.density(outliers(), k=0, samples=60, probes=2, steps=4)
    _, square = found.tables["moments of all data"].rows
    assert square[2:] == (None, None)
    assert "the mean square is about" in found.verdict
    assert "without an interval" in found.verdict
    assert "Raise samples, to 640 at least, or k." in found.verdict


def test_pairs_of_another_operator_are_no_atoms_of_a_sample() -> None:
    A = outliers()
    pairs = eigencore.solve(A, 2)
    with pytest.raises(UsageError, match="not those of the sample of 300 draws"):
        eigencore.density(A, eigen=pairs, samples=300)
    assert eigencore.trace(A, eigen=pairs, samples=300).low is not None  # where any pairs will do


# -- runs, limits and commands -----------------------------------------------------------------------------


def test_a_run_from_a_sample_has_the_analyses_that_are_named_and_can_be_saved(tmp_path: Path) -> None:
    A, options = outliers(), {"density": {"probes": 2, "steps": 4}}
    run = eigencore.analyze(
        A, k=2, which="LA", samples=300, analyses="trace,density", options=options, out=tmp_path / "run"
    )
    assert not run.failed
    assert list(run.analyses) == ["trace", "density"]
    assert all(one.numbers["draws"] == 300 for one in run.analyses.values())
    assert run.eigen.sampling is not None
    again = eigencore.load(tmp_path / "run")
    assert {name: one.numbers for name, one in again.analyses.items()} == {
        name: one.numbers for name, one in run.analyses.items()
    }
    assert eigencore.analyze(A, k=2, which="LA", samples=300).analyses == {}
    both = eigencore.analyze(A, k=2, which="LA", rtol=0.2, analyses="trace")
    assert both.eigen.sampling is not None
    assert both.analyses["trace"].numbers["draws"] >= 320


def test_an_option_of_the_analysis_alone_leaves_the_eigenpairs_to_all_data() -> None:
    run = eigencore.analyze(outliers(), k=2, analyses="trace", options={"trace": {"samples": 300}})
    assert run.eigen.sampling is None
    assert run.analyses["trace"].numbers["draws"] == 300


def test_a_limit_keeps_what_there_is() -> None:
    found = eigencore.trace(outliers(N=400), samples=400, max_matvecs=1.1)
    assert found.matvecs <= 1.1
    assert "stopped by max_matvecs=1.1" in found.warnings[-1]
    assert found.numbers["groups"] == 40
    assert found.numbers["draws"] == 320


def test_an_interrupted_sample_keeps_what_there_is() -> None:
    A, products = outliers(), 0

    class Interrupted(RankOneMean):
        def sampled(self, groups: Any, weights: Any) -> Any:
            mean = super().sampled(groups, weights)
            made = mean.group_products

            def group_products(V: Any) -> Any:
                nonlocal products
                for product in made(V):
                    products += 1
                    if products == 100:
                        signal.raise_signal(signal.SIGINT)
                    yield product

            mean.group_products = group_products  # type: ignore[method-assign]
            return mean

    with pytest.raises(RunInterrupted) as raised:
        eigencore.analyze(Interrupted(A.x, A.c), k=0, samples=1600, analyses="trace")
    found = raised.value.run.analyses["trace"]
    assert found.numbers["groups"] == 80
    assert "interrupted" in found.warnings[-1]


def test_products_with_samples_are_counted_by_their_share_of_the_data() -> None:
    from eigencore.operators.counting import counting

    A = outliers(N=1000)
    counted: Any = counting(A)
    assert isinstance(counted, MeanOperator)
    mean = counted.sampled([[0, 1, 2], [3]], np.ones(4))
    assert counted.matvecs == pytest.approx(0.2)  # the scores, which give the number of samples
    V = np.eye(40)[:, :2]
    np.testing.assert_array_equal(mean.matmat(V), A.sampled([[0, 1, 2], [3]], np.ones(4)).matmat(V))
    assert counted.matvecs == pytest.approx(0.2 + 2 * 0.004)
    list(mean.group_products(lambda number: V[:, : number + 1]))
    assert counted.matvecs == pytest.approx(0.208 + 0.003 + 2 * 0.001)
    mean.curvatures(V)
    assert counted.matvecs == pytest.approx(0.213 + 3 * 2 * 0.004)
    assert not isinstance(counting(as_operator(np.eye(3))), MeanOperator)


def test_commands_python_and_json_have_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")  # demo:digits-numpy needs it
    arguments = ["demo:digits-numpy", "--samples", "400"]
    assert main(["trace", *arguments, "--out", str(tmp_path / "run")]) == 0
    screen = capsys.readouterr().out
    found = eigencore.trace("demo:digits-numpy", samples=400)
    assert found.verdict in screen
    assert "from 400 draws by weight of 1,437 samples, in 50 groups" in screen
    assert main(["show", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == screen
    assert main(["trace", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["analyses"]["trace"]["numbers"] == found.numbers
    assert main(["trace", "demo:digits-numpy", "--rtol", "0.2"]) == 0
    assert PREDICTED in capsys.readouterr().out
    density = ["--probes", "2", "--steps", "4", "-k", "2"]
    assert main(["density", *arguments, *density]) == 0
    screen = capsys.readouterr().out
    assert "moments of all data" in screen
    assert "warning: this is the spectrum of the operator of the sample" in screen
    assert main(["density", *arguments, "--rtol", "0.1"]) == 2
    assert main(["analyze", *arguments, "--analyses", "robustness"]) == 2
    assert "samples can't be given with the analysis robustness" in capsys.readouterr().err


def test_intervals_of_a_trained_network_hold() -> None:
    pytest.importorskip("sklearn")
    A: Any = eigencore.bind("demo:digits-numpy").operator()
    truth = eigencore.trace(A, rtol=None, products=200).estimate
    found = [trace_of(A, 320, seed) for seed in range(60)]
    held = [one.estimate.low <= truth <= one.estimate.high for one in found if not one.refused]
    assert len(held) > 45
    assert np.mean(held) > 0.95 - 4 * math.sqrt(0.05 * 0.95 / len(held))


def test_the_parts_of_a_draw_are_the_draw() -> None:
    drawn = draw(np.arange(50.0), 30, 0, groups=7)
    parts = list(drawn.parts(3))
    assert [len(part.groups) for part in parts] == [3, 3, 1]
    assert sum((part.groups for part in parts), ()) == drawn.groups
    np.testing.assert_array_equal(np.concatenate([part.weights for part in parts]), drawn.weights)
    assert draw(np.arange(50.0), 30, 0, number=1).groups != draw(np.arange(50.0), 30, 0).groups
