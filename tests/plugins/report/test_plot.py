"""`plot` returns the figures of a result, and saves them as a paper needs them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

import eigencore
from eigencore.errors import OptionError, UsageError
from eigencore.findings import AnalysisResult
from eigencore.results import EigenResult


@pytest.fixture(scope="module")
def eigen() -> EigenResult:
    return eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)


def test_it_returns_a_figure_for_each_of_the_report(eigen: EigenResult) -> None:
    figures = eigen.plot(width=3.3)
    assert [type(figure) for figure in figures] == [Canvas, Canvas]
    assert [figure.get_suptitle() for figure in figures] == ["Eigenvalues", "Convergence"]
    assert all(figure.get_size_inches()[0] == 3.3 for figure in figures)
    assert np.array_equal(figures[0].axes[0].get_lines()[-3].get_ydata(), eigen.values) or any(
        np.array_equal(line.get_ydata(), eigen.values) for line in figures[0].axes[0].get_lines()
    )


def test_one_figure_can_be_chosen_by_its_title(eigen: EigenResult) -> None:
    assert len(eigen.plot(only="conv")) == 1
    with pytest.raises(UsageError, match="no figure has 'density' in its title"):
        eigen.plot(only="density")


def test_a_result_without_figures_is_an_error() -> None:
    with pytest.raises(UsageError, match="has no figures"):
        AnalysisResult(verdict="nothing").plot()


def test_a_pdf_holds_all_figures_with_text_that_can_be_searched(eigen: EigenResult, tmp_path: Path) -> None:
    eigen.plot(tmp_path / "figures.pdf")
    content = (tmp_path / "figures.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page ") == 2
    assert b"/FontFile2" in content  # TrueType
    assert b"/Type3" not in content
    again = tmp_path / "again.pdf"
    eigen.plot(again)
    assert again.read_bytes() == content


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_other_formats_are_a_file_for_each_figure(
    eigen: EigenResult, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    eigen.plot(tmp_path / f"figure.{suffix}")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"figure-1.{suffix}", f"figure-2.{suffix}"]
    assert all(file.read_bytes().startswith(magic) for file in files)
    eigen.plot(tmp_path / f"one.{suffix}", only="Convergence")
    assert (tmp_path / f"one.{suffix}").exists()


def test_an_svg_file_is_vector_graphics_of_its_size_without_a_date(
    eigen: EigenResult, tmp_path: Path
) -> None:
    eigen.plot(tmp_path / "one.svg", only="Eigenvalues", width=5.0, height=3.0)
    text = (tmp_path / "one.svg").read_text()
    assert 'width="360pt" height="216pt"' in text
    assert "<image" not in text
    assert not re.search(r"<dc:date>", text)


def test_a_wrong_option_names_the_renderer(eigen: EigenResult) -> None:
    with pytest.raises(OptionError, match=r"plot.*width|width.*plot"):
        eigen.plot(width="wide")


def test_a_notebook_shows_the_list(eigen: EigenResult) -> None:
    shown = eigen.plot()._repr_html_()  # type: ignore[attr-defined]
    assert shown.count("<svg") == 2
    assert "<script" not in shown


def test_a_wrong_suffix_is_refused_before_anything_is_drawn(eigen: EigenResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plot writes \.pdf, \.svg, \.png"):
        eigen.plot(tmp_path / "figure.jpg")
    assert list(tmp_path.iterdir()) == []
