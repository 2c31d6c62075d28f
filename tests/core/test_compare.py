"""Runs side by side: what differs, whether eigenvalues agree as certified, and figures that share axes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eigencore
from eigencore.cli import main
from eigencore.figures import Figure, check_figure
from eigencore.results import Run
from eigencore.runs.overlay import overlaid

OPTIONS = {"problem": {"n": 60}}


def analyzed(**arguments: object) -> Run:
    return eigencore.analyze("demo:quadratic", k=3, analyses="none", options=OPTIONS, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {"lanczos": analyzed(), "arpack": analyzed(solver="arpack", seed=1)}


def test_it_says_what_differs(runs: dict[str, Run]) -> None:
    found = eigencore.compare(runs)
    assert found.differences == {"solver": ("lanczos", "arpack"), "seed": ("0", "1")}
    assert found.same_operator
    assert "differ in solver, seed" in found.verdict
    assert "within their certificates" in found.verdict


def test_its_columns_are_the_numbers_of_the_runs(runs: dict[str, Run]) -> None:
    columns = eigencore.compare(runs).columns
    assert columns["run"].tolist() == ["lanczos", "arpack"]
    for i in range(3):
        assert columns[f"lambda_{i + 1}"].tolist() == [run.eigen.values[i] for run in runs.values()]
    assert columns["products"].tolist() == [run.eigen.matvecs for run in runs.values()]


def test_equal_runs_are_said_to_be_equal() -> None:
    found = eigencore.compare({"a": analyzed(), "b": analyzed()})
    assert found.differences == {}
    assert "have the same arguments and options" in found.verdict


def test_eigenvalues_beyond_the_certificates_are_reported(runs: dict[str, Run]) -> None:
    run = runs["arpack"]
    wrong = replace(run, pairs=replace(run.eigen, values=run.eigen.values + np.array([0.0, 0.5, 0.0])))
    verdict = eigencore.compare({"right": runs["lanczos"], "wrong": wrong}).verdict
    assert "more than the certificates of right and wrong account for" in verdict


def test_other_operators_are_not_compared(runs: dict[str, Run]) -> None:
    other = eigencore.analyze("demo:quadratic", k=3, analyses="none", options={"problem": {"n": 61}})
    found = eigencore.compare({"a": runs["lanczos"], "b": other})
    assert not found.same_operator
    assert "operators differ" in found.verdict
    assert "certificates" not in found.verdict


def test_other_ends_of_the_spectrum_are_not_compared(runs: dict[str, Run]) -> None:
    assert "different ends" in eigencore.compare({"a": runs["lanczos"], "b": analyzed(which="SA")}).verdict


def test_options_of_the_kind_make_another_operator() -> None:
    pytest.importorskip("sklearn")

    def digits(**options: object) -> Run:
        return eigencore.analyze("demo:digits-numpy", k=2, analyses="none", options=options)  # type: ignore[arg-type]

    found = eigencore.compare({"a": digits(), "b": digits(hessian={"damping": 0.1})})
    assert found.same_operator is False
    assert "Their operators differ" in found.verdict


def test_a_model_given_from_python_may_have_changed() -> None:
    def of(matrix: np.ndarray) -> Run:
        return eigencore.analyze(eigencore.Problem(operator=matrix, name="mine"), k=2, analyses="none")

    before, after = of(np.diag([3.0, 2.0, 1.0])), of(np.diag([30.0, 20.0, 10.0]))
    found = eigencore.compare({"before": before, "after": after})
    assert found.same_operator is None
    assert "not known" in found.verdict
    assert "missed" not in found.verdict


def test_a_sample_differs_by_sampling() -> None:
    pytest.importorskip("sklearn")
    whole = eigencore.analyze("demo:digits-numpy", k=2, analyses="none")
    sampled = eigencore.analyze("demo:digits-numpy", k=2, analyses="none", samples=200)
    assert "differ by sampling" in eigencore.compare({"whole": whole, "sampled": sampled}).verdict


def of_matrix(values: list[float], folder: Path, **arguments: object) -> Run:
    problem = eigencore.Problem(operator=np.diag(values), name="matrix")
    run = eigencore.analyze(problem, analyses="none", out=folder, **arguments)  # type: ignore[arg-type]
    return eigencore.load(folder) if run.folder is None else run


def test_the_order_of_eigenvalues_of_equal_magnitude_does_not_matter(tmp_path: Path) -> None:
    run = of_matrix([5.0, -5.0, 4.0, -4.0, 1.0], tmp_path / "a", k=4)
    order = np.array([1, 0, 3, 2])
    other = replace(run, pairs=replace(run.eigen, values=run.eigen.values[order]))
    assert "missed" not in eigencore.compare({"a": run, "b": other}).verdict


def test_fewer_eigenvalues_of_both_ends_are_not_compared(tmp_path: Path) -> None:
    values = [30.0, 29.0, 1.0, -19.0, -20.0]
    four = of_matrix(values, tmp_path / "four", k=4, which="BE")
    two = of_matrix(values, tmp_path / "two", k=2, which="BE")
    assert "not compared" in eigencore.compare({"four": four, "two": two}).verdict


def test_every_pair_of_runs_is_compared(runs: dict[str, Run]) -> None:
    run = runs["lanczos"]
    loose = replace(run, pairs=replace(run.eigen, certificate=replace(run.eigen.certificate, bound=10.0)))
    wrong = replace(run, pairs=replace(run.eigen, values=run.eigen.values + np.array([0.0, 0.5, 0.0])))
    verdict = eigencore.compare({"loose": loose, "right": run, "wrong": wrong}).verdict
    assert "certificates of right and wrong account" in verdict


def test_a_run_and_its_repetition_from_a_file_do_not_differ(tmp_path: Path) -> None:
    from eigencore.runs import config_text

    assert main(["analyze", "demo:quadratic", "-k", "2", "--out", str(tmp_path / "a")]) == 0
    (tmp_path / "run.toml").write_text(config_text(eigencore.load(tmp_path / "a")))
    assert main(["analyze", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "b")]) == 0
    assert eigencore.compare([tmp_path / "a", tmp_path / "b"]).differences == {}


def test_figures_with_too_many_series_are_named() -> None:
    run = analyzed()
    report = eigencore.report(eigencore.compare({f"run {i}": run for i in range(7)}))
    assert "Eigenvalues, Convergence" in report.parts["comparison"].remarks[0]


def test_folders_are_loaded_and_name_the_runs(runs: dict[str, Run], tmp_path: Path) -> None:
    places = [run.save(tmp_path / name) for name, run in runs.items()]
    found = eigencore.compare(places)
    assert list(found.runs) == ["lanczos", "arpack"]
    again = [run.save(tmp_path / "again" / name) for name, run in runs.items()]
    assert list(eigencore.compare([places[0], again[0]]).runs) == [str(places[0]), str(again[0])]


def test_runs_without_eigenpairs_are_compared_by_their_numbers() -> None:
    def trace(seed: int) -> Run:
        return eigencore.analyze("demo:quadratic", k=0, analyses="trace", options=OPTIONS, seed=seed)

    found = eigencore.compare({"a": trace(0), "b": trace(1)})
    assert found.columns["trace.trace"].shape == (2,)
    assert "lambda_1" not in found.columns


def test_the_report_has_a_column_for_each_run(runs: dict[str, Run]) -> None:
    part = eigencore.report(eigencore.compare(runs)).parts["comparison"]
    table = part.tables["eigenvalues, cost and numbers"]
    assert table.columns == ("", "lanczos", "arpack")
    assert [row[0] for row in table.rows[:3]] == ["lambda_1", "lambda_2", "lambda_3"]
    titles = [figure.title for figure in part.figures]
    assert titles[0] == "Eigenvalues"
    for figure in part.figures:
        check_figure(figure)


def test_overlaid_figures_hold_the_numbers_of_each_run() -> None:
    def line(shift: float, count: int) -> Figure:
        x = np.linspace(0, 1, count)
        return Figure("line", "t", "x", "y", {"x": x, "y": x + shift}, bands={"y": (x, x + 2 * shift)})

    ((figure,), _) = overlaid({"a": [line(0.0, 4)], "b": [line(1.0, 3)]})
    check_figure(figure)
    assert figure.series["x"].shape == (7,)
    assert np.array_equal(figure.series["a"][:4], line(0.0, 4).series["y"])
    assert np.isnan(figure.series["a"][4:]).all()
    assert np.array_equal(figure.series["b"][4:], line(1.0, 3).series["y"])
    assert np.array_equal(figure.bands["b"][1][4:], line(1.0, 3).bands["y"][1])


def test_bars_are_put_together_by_their_labels() -> None:
    def bars(labels: tuple[str, ...], *values: float) -> Figure:
        return Figure("bar", "t", "value", "layer", {"value": np.array(values)}, labels=labels)

    ((figure,), _) = overlaid(
        {"a": [bars(("one", "two"), 1.0, 2.0)], "b": [bars(("two", "three"), 3.0, 4.0)]}
    )
    check_figure(figure)
    assert figure.labels == ("one", "two", "three")
    assert np.array_equal(figure.series["a"], [1.0, 2.0, np.nan], equal_nan=True)
    assert np.array_equal(figure.series["b"], [np.nan, 3.0, 4.0], equal_nan=True)


def test_figures_of_one_run_alone_are_left_out() -> None:
    one = Figure("line", "only here", "x", "y", {"x": np.zeros(2), "y": np.zeros(2)})
    assert overlaid({"a": [one], "b": []}) == ((), ())


def test_the_command_prints_it_as_text_csv_and_json(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(run.save(tmp_path / name)) for name, run in runs.items()]
    assert main(["compare", *places]) == 0
    text = capsys.readouterr().out
    assert "differ in solver, seed" in text
    assert "lambda_1" in text
    assert main(["compare", *places, "--csv", "-"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [float(row["lambda_1"]) for row in rows] == [run.eigen.values[0] for run in runs.values()]
    assert main(["compare", *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differences"]["solver"] == ["lanczos", "arpack"]
    assert found["runs"]["run"] == ["lanczos", "arpack"]
