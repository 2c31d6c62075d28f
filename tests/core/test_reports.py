"""The report of any result, what notebooks and `repr` show of it, and renderers of plugins."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eigencore
from eigencore.errors import PluginError, UnknownNameError, UsageError
from eigencore.figures import Figure, Table, check_figure
from eigencore.findings import AnalysisResult, Report
from eigencore.registry import catalogue as registry_module
from eigencore.registry import disable
from eigencore.results import Run

SVG = Figure("line", "t", "x", "y", {"x": np.arange(3.0), "y": np.ones(3)})


@pytest.fixture(scope="module")
def run() -> Run:
    return eigencore.analyze("demo:quadratic", k=3, analyses="density", options={"problem": {"n": 60}})


def test_the_report_of_a_run_has_its_eigenvalues_and_analyses(run: Run) -> None:
    report = eigencore.report(run)
    assert report.title == "demo:quadratic"
    assert list(report.parts) == ["eigenvalues", "density"]
    table = report.parts["eigenvalues"].tables["eigenvalues"]
    assert [float(row[1]) for row in table.rows] == pytest.approx(run.eigen.values, rel=1e-5)
    assert report.parts["density"] is run.analyses["density"]
    (details, *_) = report.details.values()
    assert 'problem = "demo:quadratic"' in details
    assert report.figures[:2] == report.parts["eigenvalues"].figures
    for figure in report.figures:
        check_figure(figure)


def test_the_figures_of_eigenvalues_hold_their_numbers(run: Run) -> None:
    values, history = eigencore.report(run).parts["eigenvalues"].figures
    assert np.array_equal(values.series["eigenvalue"], run.eigen.values)
    low, high = values.bands["eigenvalue"]
    bound = run.eigen.certificate.bound
    assert np.allclose(high - low, 2 * bound)
    worst = [step.worst for step in run.eigen.history if step.worst]
    assert history.series["worst pair"].tolist() == worst
    assert history.references[0].value == 1.0


def test_eigenvalues_of_both_signs_and_of_many_decades_have_fitting_axes() -> None:
    both = eigencore.solve(np.diag([3.0, -2.0, 0.1, 0.05]), k=2, which="BE")
    assert eigencore.report(both).figures[0].y_scale == "linear"
    wide = eigencore.solve(np.diag(10.0 ** np.arange(-3.0, 4.0)), k=5)
    assert eigencore.report(wide).figures[0].y_scale == "log"


def test_what_did_not_converge_is_a_warning() -> None:
    result = eigencore.solve(np.diag(np.arange(1.0, 400.0)), k=5, tol=1e-9, max_matvecs=8)
    part = eigencore.report(result).parts["eigenvalues"]
    assert "converged" not in part.verdict
    assert any("budget" in one or "limit" in one or "max_matvecs" in one for one in part.warnings)


@pytest.mark.parametrize(
    "result",
    [
        eigencore.solve(np.diag([3.0, 2.0, 1.0]), k=2),
        AnalysisResult(verdict="done", title="of something", figures=(SVG,)),
        Report("title", (), {"part": AnalysisResult(verdict="done")}),
    ],
    ids=["eigenpairs", "analysis", "report"],
)
def test_every_result_has_a_report(result: object) -> None:
    report = eigencore.report(result)
    assert report.title
    assert report.parts
    assert eigencore.report(report) is report


def test_the_report_of_an_attack() -> None:
    pytest.importorskip("sklearn")
    result = eigencore.attack("demo:digits-numpy", "fmn", images=20, steps=10)
    (part,) = eigencore.report(result).parts.values()
    (figure,) = part.figures
    fooled = result.success & result.correct
    assert np.array_equal(figure.series["x"][1:], np.sort(result.distance[fooled]))
    assert figure.series["fmn"][-1] == pytest.approx(result.accuracy)
    assert part.numbers["fooled"] == int(fooled.sum())


def test_another_object_has_none() -> None:
    with pytest.raises(UsageError, match="no report of an object of type list"):
        eigencore.report([1])


def test_repr_of_a_run_has_at_most_six_lines(run: Run) -> None:
    lines = repr(run).splitlines()
    assert len(lines) <= 6
    assert all(len(line) <= 110 for line in lines)
    assert lines[0] == "Run of demo:quadratic"
    assert any(line.startswith("eigenvalues: 40, 30.9705") for line in lines)
    assert any(line.startswith("density: ") for line in lines)
    many = replace(run, analyses={f"analysis {i}": AnalysisResult(verdict="v" * 500) for i in range(9)})
    assert len(repr(many).splitlines()) <= 6
    assert "analyses: analysis 0, analysis 1" in repr(many)
    assert len(repr(Run(None, {"a": AnalysisResult(verdict="done")})).splitlines()) <= 6


def test_notebooks_show_a_verdict_and_a_table(run: Run) -> None:
    shown = run._repr_html_()
    assert shown.count("<table>") == 2
    assert run.eigen.advice.capitalize()[:20] in shown or run.eigen.advice in shown
    assert "<script" not in shown
    assert len(shown) < 6000
    table = Table(("<b>",), tuple((f"<i>{i}",) for i in range(25)))
    odd = AnalysisResult(verdict="<script>", tables={"a": table})
    shown = odd._repr_html_()
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert "15 further rows" in shown


def test_an_unknown_renderer_is_an_error(run: Run) -> None:
    with pytest.raises(UnknownNameError, match="unknown renderer: 'poster'"):
        eigencore.render(run, "poster")


def test_without_the_plugin_the_error_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_switched_off", {*()})
    registry_module.registry.cache_clear()
    disable("report")
    try:
        with pytest.raises(UnknownNameError) as raised:
            run.plot()
        assert "eigencore_report" in (raised.value.hint or "")
    finally:
        monkeypatch.undo()
        registry_module.registry.cache_clear()


def test_without_the_extra_the_error_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "eigencore_report.page", raising=False)
    with pytest.raises(PluginError, match="html needs jinja2") as raised:
        run.to_html()
    assert 'pip install "eigencore[report]"' in (raised.value.hint or "")


PLUGIN = """
from eigencore import RendererEntry, hookimpl

@hookimpl
def eigen_renderers():
    return [RendererEntry(name="lines", summary="t", load="plugged_lines:draw", suffixes=("txt",))]

def draw(report, file, options):
    text = "\\n".join(f"{name}: {part.verdict}" for name, part in report.parts.items())
    if file is not None:
        file.write_text(text)
    return text
"""


def test_a_renderer_of_a_plugin_draws_any_result(run: Run, plug, tmp_path: Path) -> None:
    plug("lines", PLUGIN)
    text = eigencore.render(run, "lines", tmp_path / "lines.txt")
    assert text.startswith("eigenvalues: The eigenvalues are 40 to ")
    assert (tmp_path / "lines.txt").read_text() == text
    with pytest.raises(UsageError, match=r"lines writes \.txt"):
        eigencore.render(run, "lines", tmp_path / "lines.md")


def test_images_are_stored_as_arrays(run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((2, 5, 4))
    ranges = {"input": (0.0, 1.0)}
    figure = Figure("images", "samples", "", "", {"input": pixels}, labels=("a", "b"), ranges=ranges)
    with_images = replace(run, analyses={"look": AnalysisResult(verdict="done", figures=(figure,))})
    folder = with_images.save(tmp_path / "run")
    assert (
        "0."
        not in (folder / "result.json").read_text().partition('"analyses"')[2].partition('"series"')[2][:60]
    )
    (loaded,) = eigencore.load(folder).analyses["look"].figures
    assert np.array_equal(loaded.series["input"], pixels)
    assert loaded.ranges == figure.ranges
    assert loaded.labels == figure.labels


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (replace(SVG, kind="pie"), "its kind is 'pie'"),
        (replace(SVG, y_scale="cubic"), "a scale is 'cubic'"),
        (replace(SVG, series={"y": np.ones(3)}), "no series 'x'"),
        (replace(SVG, series={"x": np.ones(3), "y": np.ones(2)}), "arrays of one length"),
        (replace(SVG, bands={"z": (np.ones(3), np.ones(3))}), "the band 'z'"),
        (replace(SVG, bands={"y": (np.ones(2), np.ones(3))}), "the band 'y'"),
        (replace(SVG, atoms={"a": (np.ones(2), np.ones(3))}), "atoms 'a'"),
        (Figure("bar", "t", "", "", {"y": np.ones(3)}, labels=("a",)), "it has 1 labels; expected 3"),
        (Figure("matrix", "t", "", "", {"y": np.ones(3)}), "one matrix"),
        (Figure("images", "t", "", "", {"y": np.ones((3, 2, 2, 2))}), "stacks of as many images"),
        (Figure("line", "t", "", "", {}), "no series"),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_drawn_is_named(figure: Figure, words: str) -> None:
    with pytest.raises(ValueError, match="the figure 't': ") as raised:
        check_figure(figure)
    assert words in str(raised.value)


def test_help_and_a_bare_run_import_no_drawing_library() -> None:
    code = (
        "import sys, eigencore\n"
        "from eigencore.cli import main\n"
        "main(['--help']); main(['analyze', '--help'])\n"
        "run = eigencore.analyze('demo:quadratic', k=2, analyses='none')\n"
        "repr(run); run._repr_html_(); eigencore.report(run)\n"
        "assert not {'matplotlib', 'jinja2', 'playwright', 'mkdocs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_eigenvalues_of_a_sample_are_named_so_and_stand_beside_those_of_all_data() -> None:
    pytest.importorskip("sklearn")
    run = eigencore.analyze("demo:digits-numpy", k=2, samples=400, analyses="none")
    assert run.eigen.sampling is not None
    part = eigencore.report(run).parts["eigenvalues"]
    assert part.verdict.startswith("The eigenvalues of the sample are")
    figure = part.figures[0]
    assert np.array_equal(figure.series["eigenvalue of the sample"], run.eigen.values)
    assert np.array_equal(figure.series["eigenvalue of all data"], run.eigen.columns["estimate"])
    low, high = figure.bands["eigenvalue of all data"]
    assert np.array_equal(low, run.eigen.columns["low"], equal_nan=True)
    assert np.array_equal(high, run.eigen.columns["high"], equal_nan=True)


def test_a_contradicted_certificate_is_a_warning() -> None:
    result = eigencore.solve(np.diag([3.0, 2.0, 1.0]), k=2)
    doubted = replace(result, certificate=replace(result.certificate, contradicted=True))
    assert any("contradict" in one for one in eigencore.report(doubted).parts["eigenvalues"].warnings)
    assert not eigencore.report(result).parts["eigenvalues"].warnings
