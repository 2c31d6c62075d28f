"""Figures of layers, studies and attacks at several radii: their numbers are those of the results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.analyses.block_estimates import Estimate
from eigencore.analyses.layer_figures import MOST, couplings_figure, eigenvalues_figure, traces_figure
from eigencore.analyses.layer_result import LayersResult
from eigencore.attacks import attack_report
from eigencore.errors import UsageError
from eigencore.figures import Figure, check_figure, fitting_scale
from eigencore.findings import AttackResult, Report
from eigencore.pipeline.studies.rows import StudyRow
from eigencore.pipeline.studies.study_report import MOST_GROUPS


def by_title(report: Report) -> dict[str, Figure]:
    for figure in report.figures:
        check_figure(figure)
        assert figure.caption.endswith(".")
    found = {figure.title: figure for figure in report.figures}
    assert len(found) == len(report.figures)
    return found


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [
        ([1.0, 31.0], "log"),
        ([1.0, 29.0], "linear"),
        ([0.0, 100.0], "linear"),
        ([-1.0, 100.0], "linear"),
        ([1.0, np.nan, np.inf, 2.0], "linear"),
        ([np.nan], "linear"),
        ([], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_numbers_are_positive_and_wide(numbers: Any, scale: str) -> None:
    assert fitting_scale(numbers) == scale


# -- layers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layers() -> LayersResult:
    pytest.importorskip("sklearn")
    return eigencore.layers("demo:digits-numpy", k=2)


def test_the_figures_of_layers_are_its_columns(layers: LayersResult) -> None:
    report = eigencore.report(layers)
    figures, columns = by_title(report), layers.columns
    names = tuple(columns["block"])
    bars = figures["Eigenvalues by block"]
    assert bars.labels == names
    for name in ("eigenvalue 1", "eigenvalue 2"):
        assert np.array_equal(bars.series[name], columns[name])
    assert layers.whole is not None
    assert [one.value for one in bars.references] == [layers.whole.values[0]]
    traces = figures["Traces by block"]
    assert np.array_equal(traces.series["trace"], columns["trace"])
    low, high = traces.bands["trace"]
    np.testing.assert_allclose((high - low) / 2, columns["trace +-"])
    np.testing.assert_allclose((high + low) / 2, columns["trace"])
    couplings = figures["Couplings of the blocks"]
    assert couplings.labels == names
    assert np.array_equal(couplings.series["coupling"], layers.couplings)
    assert list(report.parts) == ["layers", "whole operator"]
    assert len(report.parts["layers"].tables["blocks"].rows) == len(names)


def test_an_eigenvalue_of_a_block_that_did_not_converge_is_left_out(layers: LayersResult) -> None:
    first = layers.blocks[0]
    unfinished = replace(first, eigen=replace(first.eigen, converged=np.array([True, False])))
    report = replace(layers, blocks=(unfinished, *layers.blocks[1:]), whole=None, couplings=None).report()
    figure = by_title(report)["Eigenvalues by block"]
    assert np.isnan(figure.series["eigenvalue 2"]).tolist() == [True, False, False, False]
    assert not np.isnan(figure.series["eigenvalue 1"]).any()
    assert "1 that did not converge is left out" in figure.caption
    assert figure.references == ()
    assert list(report.parts) == ["layers"]


def test_of_many_blocks_the_largest_are_shown_in_their_order() -> None:
    n = MOST + 10
    names, values = [f"p{i}" for i in range(n)], np.linspace(-1.0, 2.05, n)
    kept = np.sort(np.argsort(-np.abs(values))[:MOST])
    figure = eigenvalues_figure(names, values[:, None], np.ones((n, 1), dtype=bool), 3.0)
    assert figure.labels == tuple(f"p{i}" for i in kept)
    assert np.array_equal(figure.series["eigenvalue"], values[kept])
    traces = traces_figure(names, [Estimate(float(value), 0.1) for value in values])
    assert traces.labels == figure.labels
    for one in (figure, traces):
        check_figure(one)
        assert f"the {MOST} blocks of {n}" in one.caption
    assert couplings_figure(names, np.zeros((n, n))) is None


# -- studies -----------------------------------------------------------------------------------------------


def row(name: str, group: str | None, seed: int, **numbers: float | None) -> StudyRow:
    return StudyRow(name, group, {}, seed, (2.0 + seed,), (True,), {"network": numbers})


def of_networks(*groups: str | None) -> eigencore.Study:
    rng = np.random.default_rng(0)
    names = ("lambda_clean", "robust_accuracy", "median_distance", "median_r1")
    rows = [
        row(
            f"n{i}",
            group,
            i,
            **dict(zip(names, map(float, rng.random(4)), strict=True)),
            robust_accuracy_low=0.0,
            robust_accuracy_high=1.0,
        )
        for i, group in enumerate(groups)
    ]
    return eigencore.Study(tuple(rows))


def test_a_group_of_networks_is_a_series() -> None:
    study = of_networks("a", "a", "x", None)
    figures = by_title(study.report())
    assert len(figures) == 3
    columns = study.columns
    figure = figures["Accuracy under attack against largest eigenvalue over the weights"]
    assert np.array_equal(figure.series["x"], columns["network.lambda_clean"])
    assert list(figure.series)[1:] == ["a", "group x", "no group"]
    together = np.nansum([figure.series[name] for name in ("a", "group x", "no group")], axis=0)
    assert np.array_equal(together, columns["network.robust_accuracy"])
    for name, (low, high) in figure.bands.items():
        assert np.array_equal(np.isnan(low), np.isnan(figure.series[name]))
        assert np.nanmin(low) == 0
        assert np.nanmax(high) == 1
    assert "of 4 networks in 3 groups" in figure.caption
    predicted = figures["Median distance (L2) against median r1 (L2)"]
    assert [(one.axis, one.value) for one in predicted.references] == [("diagonal", 1.0)]


def test_networks_of_many_groups_or_of_none_are_one_series() -> None:
    for groups in ([None] * 3, [f"g{i}" for i in range(MOST_GROUPS + 1)]):
        for figure in by_title(of_networks(*groups).report()).values():
            assert len(figure.series) == 2
            assert np.isfinite(figure.series[figure.y_label]).all()


def test_networks_that_lack_a_number_are_left_out_and_counted() -> None:
    study = of_networks("a", "a", "b")
    numbers = {"network": {**study.rows[0].numbers["network"], "median_distance": None}}
    study = eigencore.Study((replace(study.rows[0], numbers=numbers), *study.rows[1:]))
    figure = by_title(study.report())["Median distance (L2) against median r1 (L2)"]
    assert np.array_equal(figure.series["x"], study.columns["network.median_r1"][1:])
    assert "of 2 networks" in figure.caption
    assert "1 network that lacks one of them is left out" in figure.caption


def test_failures_of_a_study_are_warnings() -> None:
    study = of_networks("a", "b")
    broken = StudyRow("broken", None, {}, 9, error="ValueError: x is 0")
    half = replace(study.rows[1], failed={"trace": "no trace"})
    part = eigencore.Study((study.rows[0], half, broken)).report().parts["networks"]
    assert part.warnings == ("n1 failed: trace failed with no trace", "broken failed: ValueError: x is 0")
    assert part.numbers == {"networks": 3, "failed": 2}
    assert [cells[0] for cells in part.tables["networks"].rows] == ["n0", "n1"]


def test_without_the_numbers_of_networks_there_are_their_eigenvalues() -> None:
    rows = [StudyRow(f"n{i}", None, {}, i, (float(i),), (i != 1,)) for i in range(3)]
    (figure,) = by_title(eigencore.Study(tuple(rows)).report()).values()
    assert figure.labels == ("n0", "n1", "n2")
    assert np.array_equal(figure.series["eigenvalue"], [0, np.nan, 2], equal_nan=True)
    assert "1 without a converged one" in figure.caption
    assert eigencore.Study(()).report().figures == ()


# -- attacks -----------------------------------------------------------------------------------------------


def attacked(eps: float | None, success: list[bool], **changed: Any) -> AttackResult:
    n = len(success)
    given: dict[str, Any] = {
        "attack": "pgd",
        "inputs": None,
        "labels": np.arange(n),
        "correct": np.array([False] + [True] * (n - 1)),
        "success": np.array(success),
        "distance": np.where(success, 0.0 if eps is None else eps, np.inf),
        "norm": "Linf",
        "eps": eps,
        "seed": 0,
        "forward": 10 * n,
        "backward": 5 * n,
        "seconds": 1.0,
    }
    return AttackResult(**{**given, **changed})


RADII = (attacked(0.2, [True, True, True, False]), attacked(0.1, [True, False, True, False]))


def test_an_attack_at_several_radii_is_one_report() -> None:
    report = attack_report(RADII)
    (figure,) = by_title(report).values()
    assert figure.series["x"].tolist() == [0, 0.1, 0.2]
    assert figure.series["pgd"].tolist() == [0.75, *(one.accuracy for one in reversed(RADII))]
    assert "4 samples" in figure.caption
    part = report.parts["attack"]
    assert part.tables["accuracy by radius"].rows == ((0.1, 50.0, 1, 15), (0.2, 25.0, 2, 15))
    assert "50 % at 0.1, 25 % at 0.2" in part.verdict


def test_radius_zero_is_not_added_twice() -> None:
    (figure,) = attack_report((attacked(0.0, [True, False, False, False]), *RADII)).figures
    assert figure.series["x"].tolist() == [0, 0.1, 0.2]


def test_a_single_result_of_an_attack_is_reported_as_it_is() -> None:
    one = attacked(None, [True, True, True, True])
    assert attack_report([one]).parts["attack"].verdict == eigencore.report(one).parts["attack"].verdict


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ((), "no result of an attack"),
        ((RADII[0], replace(RADII[1], attack="fgsm")), "one attack at several radii"),
        ((RADII[0], replace(RADII[1], norm="L2")), "one attack at several radii"),
        ((RADII[0], replace(RADII[1], eps=None)), "one attack at several radii"),
        ((RADII[0], attacked(0.1, [True, False])), "their labels differ"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(results: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attack_report(results)
