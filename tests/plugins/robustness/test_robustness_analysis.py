"""The whole analysis of a softplus network on real digits, with the NumPy backend."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.objectives import CrossEntropy
from eigencore_robustness.directions.perturbation_path import POINTS
from eigencore_robustness.over_inputs.alignments import SHARES
from eigencore_robustness.report import LABELS

FINDERS = "attacks that found the smallest perturbations"
CORRELATIONS = "rank correlation with the smallest perturbation"
ADDED = "share of the variance left open by loss, gradient norm and r1"
ESTIMATES = "estimates of the smallest perturbation (error %: median after rescaling)"
COLUMNS = {
    *("sample", "label", "correct", "distance", "distance_linf", "found_by"),
    *("loss", "gradient_norm", "margin", "r1", "r1_in_box", "r1_class"),
    *("lambda_max", "lambda_max_residual", "nu", "nu_residual", "r_cautious", "r2", "weight_curvature"),
    *SHARES,
}
ALONG = "share of the smallest perturbation along directions over the input (medians)"


def study(problem, *, k=2, seed=0, **options):
    return eigencore.analyze(problem, k=k, seed=seed, analyses="robustness", options={"robustness": options})


@pytest.fixture(scope="module")
def found(digits_run):
    assert digits_run.manifest["failed"] == {}
    return digits_run.analyses["robustness"]


def test_a_column_has_a_row_for_every_sample(found):
    assert set(found.columns) == COLUMNS
    assert {len(column) for column in found.columns.values()} == {150}


def test_misclassified_samples_are_excluded(found):
    correct = found.columns["correct"].astype(bool)
    assert 0 < (~correct).sum() < 20
    assert (found.columns["distance"][~correct] == 0).all()
    assert (found.columns["distance_linf"][~correct] == 0).all()
    assert (found.columns["found_by"][~correct] == "").all()
    assert set(found.columns["found_by"][correct]) == {"deepfool", "fmn"}
    for name in COLUMNS - {"sample", "label", "correct", "distance", "distance_linf", "found_by"}:
        assert np.isnan(found.columns[name][~correct]).all()
        assert np.isfinite(found.columns[name][correct]).all()
    wrong = (~correct).sum()
    data = f"the first 150 validation samples ({wrong} misclassified)"
    assert f"{correct.sum()} correctly classified of {data}" in found.title


def test_the_radii_are_ordered(found):
    own = {name: column[found.columns["correct"].astype(bool)] for name, column in found.columns.items()}
    assert (own["r_cautious"] <= own["r1"] * (1 + 1e-9)).all()
    assert (own["r1"] <= own["r1_in_box"] * (1 + 1e-9)).all()


def test_the_correlations_are_those_of_the_columns(found):
    """They equal what SciPy computes from the columns."""
    from scipy.stats import spearmanr

    own = {name: column[found.columns["correct"].astype(bool)] for name, column in found.columns.items()}
    correlations = {row[0]: row for row in found.tables[CORRELATIONS].rows}
    expected = spearmanr(own["r1"], own["distance"]).statistic
    assert correlations["r1, first order"][1] == pytest.approx(expected, abs=6e-4)
    errors = {}
    for row in found.tables[ESTIMATES].rows:
        ratio = own[next(name for name, label in LABELS.items() if label == row[0])] / own["distance"]
        assert row[1] == pytest.approx(np.median(ratio), abs=6e-3)
        log = np.log(ratio)
        errors[row[0]] = 100 * np.expm1(np.median(abs(log - np.median(log))))
        assert row[2] == pytest.approx(errors[row[0]], abs=0.06)
        if row[0] != "r1, first order":
            assert row[5] == pytest.approx(errors["r1, first order"] - errors[row[0]], abs=0.11)


def test_the_verdict_makes_no_forbidden_claim(found):
    remarks = " ".join(found.remarks)
    assert not re.search(r"\b(causes?|certified|AutoAttack|proves?)\b", f"{found.verdict} {remarks}")
    assert "Beyond loss, gradient norm and r1, r1 within bounds adds information" in found.verdict
    assert "certifies nothing" in remarks
    assert "not across networks" in remarks
    assert "Beyond smooth functions of loss, gradient norm and r1, r1 within bounds" in remarks
    assert "lambda_max over the input" in remarks.partition("Beyond")[2]


def test_the_same_seed_gives_the_same_bytes(digits_problem, found):
    again = study(digits_problem, images=150).analyses["robustness"]
    assert (again.verdict, again.tables, again.numbers) == (found.verdict, found.tables, found.numbers)
    for name, column in found.columns.items():
        assert np.array_equal(again.columns[name], column, equal_nan=column.dtype.kind == "f")


def test_a_result_can_be_saved_and_loaded(digits_problem, tmp_path):
    run = eigencore.analyze(
        digits_problem,
        k=1,
        analyses="robustness",
        options={"robustness": {"images": 40}},
        out=tmp_path / "run",
    )
    again = eigencore.load(tmp_path / "run").analyses["robustness"]
    found = run.analyses["robustness"]
    assert (again.verdict, again.title, dict(again.numbers)) == (
        found.verdict,
        found.title,
        dict(found.numbers),
    )
    assert np.array_equal(again.columns["r1"], found.columns["r1"], equal_nan=True)
    for one, other in zip(again.figures, found.figures, strict=True):
        assert one.title == other.title
        assert all(np.array_equal(one.series[name], other.series[name]) for name in other.series)


def test_columns_as_a_data_frame(found):
    frame = found.to_pandas()
    assert set(frame.columns) == COLUMNS
    assert len(frame) == 150


def test_the_weight_curvature_of_the_samples_averages_to_the_first_eigenvalue(digits_problem):
    """This holds over the data of the operator, which are the samples here."""
    x, y = digits_problem.data[0][0][:60], digits_problem.data[0][1][:60]
    problem = replace(digits_problem, data=[(x, y)], validation=None)
    run = eigencore.analyze(problem, k=1, tol=1e-6, analyses="none")
    bound = eigencore.bind(problem)
    parts = bound.sample_curvature(CrossEntropy(), run.eigen.vectors[:, 0], *bound.classifier().samples())
    assert np.mean(parts) == pytest.approx(run.eigen.values[0], rel=1e-4)


def test_the_loss_increases_along_eigenvectors_and_not_along_random_directions(found):
    name = next(name for name in found.tables if name.startswith("mean increase of the loss"))
    for _, _, along, random in found.tables[name].rows:
        assert along > 10 * abs(random)


def test_the_shares_are_those_of_the_columns(found):
    rows = {row[0]: row for row in found.tables[ALONG].rows}
    for label, name in zip(("v_1", "v_1 to v_3", "loss gradient", "margin gradient"), SHARES, strict=True):
        column = found.columns[name][found.columns["correct"].astype(bool)]
        assert ((column >= 0) & (column <= 1 + 1e-9)).all()
        _, cosine, own, low, high, same, others, random = rows[label]
        assert own == pytest.approx(100 * np.median(column), abs=0.06)
        assert cosine == pytest.approx(np.sqrt(np.median(column)), rel=6e-3)
        assert low <= own <= high
        # The perturbations of the other samples of both classes resemble that of the sample itself.
        assert own > same > others > random
    assert rows["v_1"][-1] == pytest.approx(100 * 0.6745**2 / 64, abs=0.06)
    assert f"a median share of {rows['v_1'][2]:.0f} % [" in " ".join(found.remarks)


def test_the_path_begins_at_the_samples(found):
    """The eigenvalues at its first point are those of the columns."""
    table = next(table for name, table in found.tables.items() if name.startswith("from 50 samples"))
    assert [row[0] for row in table.rows] == list(POINTS)
    first = np.flatnonzero(found.columns["correct"].astype(bool))[:50]
    start, end = table.rows[0], table.rows[-1]
    for position, name in ((1, "loss"), (3, "lambda_max")):
        unit = 10 ** np.floor(np.log10(max(row[position] for row in table.rows)) - 3)
        assert start[position] == pytest.approx(np.median(found.columns[name][first]), abs=0.51 * unit)
    assert abs(end[2]) < 0.01 * start[2]  # the margin at the boundary
    assert "lambda_max of the loss changes by a factor of" in " ".join(found.remarks)
    eigenvalues, values, loss, accuracy = found.figures[-4:]
    assert {figure.kind for figure in found.figures[-4:]} == {"line"}
    assert set(eigenvalues.bands) == {"lambda_max", "nu"}
    assert (eigenvalues.y_scale, eigenvalues.linear) == ("symlog", eigenvalues.series["lambda_max"][0])
    assert set(values.series) == {"x", "loss", "margin"}
    assert set(loss.series) == set(accuracy.series) == {"x", "v_1", "v_2", "random", "gradient"}


def test_the_accuracy_falls_along_eigenvectors_and_not_along_random_directions(found):
    accuracy = found.figures[-1].series
    here = accuracy["v_1"][accuracy["x"] == 0]
    assert here == found.columns["correct"].mean()
    assert min(accuracy["v_1"]) < here - 0.2
    assert min(accuracy["random"]) > here - 0.05


def test_without_perturbed_inputs_there_are_no_directions(digits_problem, found):
    supplied = study(digits_problem, images=150, distances=found.columns["distance"]).analyses["robustness"]
    assert set(supplied.columns) == COLUMNS - {*SHARES, "found_by"}
    assert set(found.tables) - set(supplied.tables) == {
        name for name in found.tables if name in (ALONG, FINDERS) or name.startswith("from 50 samples")
    }
    left_out = {figure.title for figure in found.figures} - {figure.title for figure in supplied.figures}
    assert left_out == {
        "Samples and their smallest perturbations",
        "Eigenvalues over the input along the perturbation",
        "Loss and margin along the perturbation",
    }
    for text in ("The smallest perturbation has a median share", "From the sample to the perturbed input"):
        assert any(text in remark for remark in found.remarks)
        assert not any(text in remark for remark in supplied.remarks)


def test_distances_can_be_supplied(digits_problem, found, tmp_path):
    own = np.where(found.columns["distance"] > 0, found.columns["distance"], np.inf)
    own[~found.columns["correct"].astype(bool)] = 0
    np.save(tmp_path / "own.npy", own)
    by_file = study(digits_problem, images=150, distances=str(tmp_path / "own.npy")).analyses["robustness"]
    by_array = study(digits_problem, images=150, distances=own).analyses["robustness"]
    assert by_file.title.endswith("distances supplied by the user")
    assert by_file.tables[ESTIMATES] == by_array.tables[ESTIMATES] == found.tables[ESTIMATES]


def test_samples_that_were_not_fooled_are_censored(digits_problem, found):
    own = found.columns["distance"].copy()
    own[own > np.median(own)] = np.inf
    half = study(digits_problem, images=150, distances=own).analyses["robustness"]
    assert half.numbers["not fooled"] == np.isinf(own).sum()
    assert np.isfinite(half.numbers["median distance"])


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.ones(3), r"shape \(3,\); expected \(150,\)"),
        (np.full(150, np.nan), "NaN or negative"),
        (-np.ones(150), "NaN or negative"),
        (["far"] * 150, "expected numbers"),
    ],
    ids=["too few", "NaN", "negative", "text"],
)
def test_invalid_distances_are_refused(digits_problem, distances, message):
    run = study(digits_problem, images=150, distances=distances)
    assert re.search(message, run.manifest["failed"]["robustness"])


@pytest.mark.parametrize(
    "option",
    [{"eps": "wide"}, {"eps": (0.1, -1.0)}, {"eps": ""}, {"images": 1}, {"distances": "no/such.npy"}],
)
def test_invalid_options_are_refused_before_any_product(digits_problem, option):
    with pytest.raises(eigencore.EigencoreError, match="robustness"):
        study(digits_problem, **option)


@pytest.mark.parametrize("eps", ["0.2,0.1", 0.1, (0.1, 0.2), [0.2, 0.1, 0.1]])
def test_radii_can_be_given(digits_problem, eps):
    table = study(digits_problem, images=40, eps=eps).analyses["robustness"].tables
    rows = next(iter(table.values())).rows
    assert [row[0] for row in rows] == ([0.1] if eps == 0.1 else [0.1, 0.2])


def test_fewer_than_thirty_samples_allow_no_inference(digits_problem):
    found = study(digits_problem, images=20).analyses["robustness"]
    assert found.verdict.startswith("Only ")
    rows = found.tables[CORRELATIONS].rows
    assert rows[0][1] is not None
    assert rows[0][2:4] == (None, None)


def test_without_a_correctly_classified_sample_the_analysis_fails(digits_problem):
    x, y = digits_problem.validation[0]
    problem = replace(digits_problem, validation=[(x[:20], (y[:20] + 1) % 10)])
    run = study(problem)
    assert "no sample is classified correctly" in run.manifest["failed"]["robustness"]


def test_an_eigenvector_that_did_not_converge_is_not_used(digits_problem):
    run = eigencore.analyze(
        digits_problem,
        k=1,
        max_matvecs=3,
        certify="none",
        analyses="robustness",
        options={"robustness": {"images": 40}},
    )
    assert not run.eigen.converged.any()
    found = run.analyses["robustness"]
    assert "weight_curvature" not in found.columns
    assert ("eigenpairs", "WARN") in [row[:2] for row in found.tables["gates"].rows]


def test_the_attacks_use_the_options_of_the_run(digits_problem):
    run = eigencore.analyze(
        digits_problem,
        k=1,
        analyses="robustness",
        options={"robustness": {"images": 40}, "fmn": {"steps": 7}, "pgd": {"restarts": 2}},
    )
    finders = run.analyses["robustness"].tables[FINDERS]
    assert [row[:2] for row in finders.rows] == [("deepfool", 20), ("fmn", 7)]
    assert run.manifest["options"]["fmn"]["steps"] == 7
    with pytest.raises(eigencore.EigencoreError, match=r"ddn\.steps is 0"):
        eigencore.analyze(digits_problem, k=1, analyses="robustness", options={"ddn": {"steps": 0}})
    with pytest.raises(eigencore.EigencoreError, match="ddn, which this run does not use"):
        eigencore.analyze(digits_problem, k=1, analyses="none", options={"ddn": {"steps": 7}})


def test_training_samples_are_named_as_such(digits_problem):
    found = study(replace(digits_problem, validation=None), images=40).analyses["robustness"]
    assert "of the first 40 training samples" in found.title
    assert ("samples", "WARN") in [row[:2] for row in found.tables["gates"].rows]


def test_there_are_no_findings_without_a_conclusion(digits_problem):
    found = study(digits_problem, images=20).analyses["robustness"]
    rows = found.tables[ADDED].rows
    assert {row[-1] for row in rows} == {None}
