"""The figures of the analysis `robustness`: their numbers are those of its columns, tables and samples."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.figures import check_figure
from eigencore.objectives import CrossEntropy
from eigencore.problems.sharing import ImageAxes, infer_channel_axis
from eigencore.results import AttackResult
from eigencore_robustness import infer_study
from eigencore_robustness.figures import (
    MOST_SAMPLES,
    accuracy_figure,
    predicted_figure,
    shares_figure,
)
from eigencore_robustness.over_inputs.sample_images import EACH, SampleImages, samples_to_show
from eigencore_robustness.report import CONTROLS, LABELS
from eigencore_robustness.statistics.added_information import SMALL_SHARE, added_information
from eigencore_robustness.statistics.intervals import proportion
from eigencore_robustness.under_attack.attack_evaluation import AttackEvaluation
from eigencore_robustness.under_attack.smallest_perturbations import SmallestPerturbations

IMAGES = "Samples and their smallest perturbations"


@pytest.fixture(scope="module")
def found(digits_run):
    return digits_run.analyses["robustness"]


@pytest.fixture(scope="module")
def figures(found):
    return {figure.title: figure for figure in found.figures}


def test_every_figure_can_be_drawn_and_says_what_it_shows(found):
    for figure in found.figures:
        check_figure(figure)
        assert figure.caption.endswith(".")
        assert re.search(r"\b(150|147|50)\b", figure.caption)


# -- the accuracy ------------------------------------------------------------------------------------------


def test_the_accuracy_at_a_tested_eps_is_that_of_the_table(found, figures):
    figure = figures["Accuracy against eps"]
    x, accuracy = figure.series["x"], figure.series["all attacks"]
    table = next(one for name, one in found.tables.items() if name.startswith("accuracy under attack"))
    low, high = figure.bands["all attacks"]
    for eps, *percents, _ in table.rows:
        at = list(x).index(eps)
        assert percents == [round(100 * one[at], 1) for one in (accuracy, low, high)]
    assert [one.value for one in figure.references] == [row[0] for row in table.rows]
    assert (x[0], accuracy[0]) == (0, found.columns["correct"].mean())


def test_the_implied_accuracy_is_that_of_the_column(found, figures):
    figure = figures["Accuracy against eps"]
    alone = (found.columns["distance_linf"][None, :] > figure.series["x"][:, None]).mean(axis=1)
    assert np.array_equal(figure.series["smallest perturbations alone"], alone)
    assert (figure.series["all attacks"] <= alone).all()
    assert (np.diff(figure.series["all attacks"]) <= 0).all()


def evaluation(distance, withstood, radii) -> AttackEvaluation:
    attacks: tuple[AttackResult, ...] = ()
    smallest = SmallestPerturbations("Linf", distance, np.zeros(len(distance), dtype=int), None, attacks)
    return AttackEvaluation(distance > 0, radii, withstood, attacks, smallest, ())


def test_what_an_attack_fools_at_a_radius_is_fooled_at_every_larger_eps():
    """Against the definition, sample by sample; the fifth sample is fooled at .2 by an attack alone."""
    distance = np.array([0.0, 0.05, 0.15, 0.4, np.inf])
    radii = (0.1, 0.2)
    withstood = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 1, 0]], dtype=bool)
    figure = accuracy_figure(evaluation(distance, withstood, radii))
    check_figure(figure)
    for i, eps in enumerate(figure.series["x"]):
        fooled = [
            known <= eps
            or any(not one[s] and radius <= eps for radius, one in zip(radii, withstood, strict=True))
            for s, known in enumerate(distance)
        ]
        assert figure.series["all attacks"][i] == np.mean(~np.array(fooled))
        interval = proportion(5 - sum(fooled), 5)
        assert (interval.low, interval.high) == tuple(end[i] for end in figure.bands["all attacks"])
        assert figure.series["smallest perturbations alone"][i] == np.mean(distance > eps)
    assert figure.series["x"].tolist() == [0, 0.05, 0.1, 0.15, 0.2]


def test_a_curve_of_many_samples_has_few_points():
    distance = np.linspace(0, 1, 5001)
    radii = (0.3, 2.0)
    withstood = np.stack([distance > eps for eps in radii])
    figure = accuracy_figure(evaluation(distance, withstood, radii))
    assert len(figure.series["x"]) < 70
    assert np.array_equal(figure.series["all attacks"], figure.series["smallest perturbations alone"])


# -- predictions -------------------------------------------------------------------------------------------


def test_the_predicted_distances_are_those_of_the_columns(found, figures):
    series = dict(figures["Predicted and true smallest perturbation"].series)
    correct = found.columns["correct"]
    assert np.array_equal(series.pop("x"), found.columns["distance"][correct])
    assert set(series) == {LABELS["r1"], LABELS["r1_in_box"]}
    for name in ("r1", "r1_in_box"):
        assert np.array_equal(series[LABELS[name]], found.columns[name][correct])
    assert f"of {correct.sum()} correctly" in figures["Predicted and true smallest perturbation"].caption


def test_samples_without_a_distance_are_left_out_and_counted():
    columns = {
        "correct": np.array([True, True, True, False, True]),
        "distance": np.array([1.0, np.inf, 2.0, 0.0, 3.0]),
        "r1": np.array([1.5, 1.0, np.inf, np.nan, 2.5]),
    }
    figure = predicted_figure(columns, {"r1": "r1"}, "L2")
    check_figure(figure)
    assert figure.series["x"].tolist() == [1, 2, 3]
    assert np.array_equal(figure.series["r1"], [1.5, np.nan, 2.5], equal_nan=True)
    assert (
        "of 3 correctly classified samples; 1 without one is left out; 1 infinite radius is" in figure.caption
    )
    assert [(one.axis, one.value) for one in figure.references] == [("diagonal", 1.0)]
    assert predicted_figure({**columns, "distance": np.full(5, np.inf)}, {"r1": "r1"}, "L2") is None


def test_many_samples_are_thinned_and_the_caption_says_so():
    n = 3 * MOST_SAMPLES
    columns = {name: np.arange(1.0, n + 1) for name in ("distance", "r1")}
    figure = predicted_figure({**columns, "correct": np.ones(n, dtype=bool)}, {"r1": "r1"}, "")
    assert np.array_equal(figure.series["x"], figure.series["r1"])
    assert len(np.unique(figure.series["x"])) == MOST_SAMPLES
    assert f"{n} correctly classified samples ({MOST_SAMPLES} of them shown)" in figure.caption
    assert "that the user supplied" in figure.caption


def test_the_shares_are_those_of_the_table(found, figures):
    figure = figures["What predicts the smallest perturbation beyond loss, gradient norm and r1"]
    rows = {row[0]: row[1:4] for row in found.tables[f"share of the variance left open by {CONTROLS}"].rows}
    assert set(figure.labels) == set(rows)
    low, high = figure.bands["share"]
    for i, label in enumerate(figure.labels):
        assert [round(100 * one[i], 1) for one in (figure.series["share"], low, high)] == list(rows[label])
    assert figure.references[0].value == SMALL_SHARE


def test_without_a_share_there_is_no_figure_of_shares():
    rng = np.random.default_rng(0)
    added = added_information({"nu": rng.random(20)}, rng.random(20), {"r1": rng.random(20)}, seed=0)
    assert shares_figure(added, LABELS, "r1") is None


# -- images ------------------------------------------------------------------------------------------------


def test_the_images_are_the_samples_with_the_least_and_the_largest_distances(found, figures, digits):
    figure = figures[IMAGES]
    distance = np.where(found.columns["correct"], found.columns["distance"], np.nan)
    order = np.argsort(distance)[: found.columns["correct"].sum()]
    rows = np.concatenate([order[:EACH], order[-EACH:]])
    classifier = digits.classifier("float64")
    x, y = classifier.samples(150)
    assert np.array_equal(figure.series["input"], x[rows].reshape(-1, 8, 8).astype(np.float32))
    moved = figure.series["perturbed"].reshape(6, 64).astype(np.float64)
    lengths = np.linalg.norm(moved - x[rows], axis=1)
    np.testing.assert_allclose(lengths, distance[rows], rtol=1e-4)
    scaled = figure.series["perturbation"].reshape(6, 64)
    np.testing.assert_allclose(scaled, (moved - x[rows]) / lengths[:, None], atol=2e-4)
    logits = classifier.logits(moved)
    logits[np.arange(6), y[rows]] = -np.inf
    for caption, row, reached in zip(figure.labels, rows, logits.argmax(axis=1), strict=True):
        assert caption == f"sample {row}\n{y[row]} → {reached}\nL2 {distance[row]:.3g}"
    assert (
        "The 3 samples with the smallest perturbations and the 3 with the largest, of 147 that"
        in figure.caption
    )


def test_the_eigenvectors_are_those_of_dense_hessians(figures, digits):
    figure = figures[IMAGES]
    classifier = digits.classifier("float64")
    rows = [int(label.split()[1]) for label in figure.labels]
    x, y = (part[rows] for part in classifier.samples(150))
    product = classifier.input_products(CrossEntropy(), x, y)
    H = np.stack([product(np.tile(e, (6, 1))) for e in np.eye(64)], axis=2)
    first = np.linalg.eigh(H)[1][:, :, -1]
    vectors = figure.series["eigenvector"].reshape(6, 64)
    known = np.isfinite(vectors).all(axis=1)
    assert known.sum() >= 4
    assert (np.abs(np.sum(first * vectors, axis=1))[known] > 0.998).all()
    along = np.sum(vectors * figure.series["perturbation"].reshape(6, 64), axis=1)
    assert (along[known] >= 0).all()


def test_the_ranges_show_inputs_as_grey_and_directions_about_zero(figures):
    ranges = figures[IMAGES].ranges
    assert ranges["input"] == ranges["perturbed"] == (0.0, 1.0)
    for name in ("perturbation", "eigenvector"):
        low, high = ranges[name]
        assert low == -high
        assert high == pytest.approx(np.nanmax(np.abs(figures[IMAGES].series[name])))


def test_images_are_the_same_after_they_were_saved_and_loaded(digits_run, tmp_path):
    eigencore.save(digits_run, tmp_path / "run")
    again = eigencore.load(tmp_path / "run").analyses["robustness"].figures
    for one, other in zip(again, digits_run.analyses["robustness"].figures, strict=True):
        assert list(one.series) == list(other.series)
        for name in other.series:
            assert np.array_equal(one.series[name], other.series[name], equal_nan=True)
        for name, band in other.bands.items():
            assert np.array_equal(one.bands[name], band, equal_nan=True)
        assert replace(one, series={}, bands={}) == replace(other, series={}, bands={})


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((8, 8), (8, 8)),
        ((1, 8, 9), (8, 9)),
        ((8, 9, 1), (8, 9)),
        ((3, 8, 9), (8, 9, 3)),
        ((8, 9, 3), (8, 9, 3)),
        ((64,), None),
        ((2, 8, 8), None),
        ((1, 64), None),
        ((1, 1, 64), None),
        ((4, 3, 8, 8), None),
    ],
)
def test_shapes_of_images(shape, drawn):
    d = int(np.prod(shape))
    axes = ImageAxes(shape, infer_channel_axis(shape))
    shown = samples_to_show(np.array([2.0, 1.0, np.inf, 0.0]), axes)
    assert shown.tolist() == ([] if drawn is None else [1, 0])
    if drawn is None:
        return
    rows = np.arange(2.0 * d).reshape(2, d) / (2 * d)
    ids = np.array([7, 4])
    images = SampleImages(
        axes,
        ids,
        rows,
        rows + 1,
        np.full((2, d), np.nan),
        ids,
        ids,
        np.array([1.0, 2.0]),
        "L2",
        2,
        (0.0, 1.0),
    )
    figure = images.figure()
    check_figure(figure)
    # No eigenvector is determined, so that there is nothing to draw of them.
    assert list(figure.series) == ["input", "perturbation", "perturbed"]
    assert figure.series["input"].shape == (2, *drawn)
    assert "2 of the eigenvectors are not determined" in figure.caption
    pixels = rows.reshape(2, *shape)
    if len(drawn) == 3 and shape[0] == 3:
        assert figure.series["input"][1, 4, 5, 2] == np.float32(pixels[1, 2, 4, 5])
    if len(drawn) == 3 and shape[2] == 3:
        assert figure.series["input"][1, 4, 5, 2] == np.float32(pixels[1, 4, 5, 2])
    assert "input" not in replace(images, limits=(-1.0, 1.0)).figure().ranges


def test_of_equal_distances_the_first_sample_is_shown_first():
    axes = ImageAxes((8, 8), None)
    distance = np.array([3.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    assert samples_to_show(distance, axes).tolist() == [1, 2, 3, 7, 8, 0]
    assert samples_to_show(distance[:5], axes).tolist() == [1, 2, 3, 4, 0]


# -- one network, and studies ------------------------------------------------------------------------------


def test_the_bars_of_one_network_and_of_its_ranks_are_their_numbers(digits_problem):
    options = {"network": {"images": 30}, "ranks": {"images": 30}}
    run = eigencore.analyze(digits_problem, k=1, analyses="network,ranks", options=options)
    network, ranks = (run.analyses[name] for name in ("network", "ranks"))
    accuracies, eigenvalues = network.figures
    numbers = network.numbers
    assert accuracies.series["accuracy"].tolist() == [numbers["clean_accuracy"], numbers["robust_accuracy"]]
    low, high = accuracies.bands["accuracy"]
    assert (low[1], high[1]) == (numbers["robust_accuracy_low"], numbers["robust_accuracy_high"])
    assert np.isnan([low[0], high[0]]).all()
    assert next(iter(eigenvalues.series.values())).tolist() == [
        numbers["lambda_clean"],
        numbers["lambda_robust"],
    ]
    (bars,) = ranks.figures
    for series, prefix in (
        ("alone", "rho"),
        ("given loss, margin", "given_loss_margin"),
        ("given loss, margin, r1", "given_r1"),
    ):
        for label, value in zip(bars.labels, bars.series[series], strict=True):
            expected = ranks.numbers.get(f"{prefix}_{label}")
            assert np.isnan(value) if expected is None else value == expected


def test_the_inference_on_a_study_is_a_part_of_a_report():
    rng = np.random.default_rng(0)
    margin, other = rng.standard_normal((2, 24))
    columns = {"margin": margin, "other": other, "accuracy": margin + 0.3 * rng.standard_normal(24)}
    found = infer_study(columns, metrics=["margin", "other"], outcomes=["accuracy"], controls=[])
    part = found.findings
    (figure,) = part.figures
    check_figure(figure)
    assert figure.labels == ("margin", "other")
    rho = {one.metric: one.rho for one in found.found.associations}
    assert figure.series["accuracy"].tolist() == [rho["margin"], rho["other"]]
    assert [one.value for one in figure.references] == [-found.found.detectable, found.found.detectable]
    assert part.verdict == found.verdict
    assert "across 24 networks" in figure.caption
    none = infer_study(columns, metrics=[], outcomes=["accuracy"]).findings
    assert (none.figures, none.verdict[:13]) == ((), "No inference:")
