"""The page of a report: complete, well formed, self-contained, and escaped whatever the result holds."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eigencore
from eigencore.errors import ResultError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult, Report
from eigencore.results import Run
from kit.figures import FIGURES, ODD, everything

ODD_TEXTS = [ODD, "a\x00b\x07", "é 日本 \N{RIGHT-TO-LEFT OVERRIDE}", "{{ 7777 * 3 }} {% raw %}"]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """The elements of a page, their ids and attributes, and its visible text; fails on unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def run() -> Run:
    return eigencore.analyze("demo:quadratic", k=3, analyses="density", options={"problem": {"n": 60}})


def test_it_says_what_was_computed(run: Run) -> None:
    page = run.to_html()
    outline = Outline(page)
    text = " ".join("".join(outline.text).split())
    assert "<title>demo:quadratic · eigencore report</title>" in page
    assert run.eigen.advice in text
    assert "Certificate (99 %)" in text or "Certificate:" in text
    assert "Complete (99 %)" in text
    for value in ("40.0000", "30.9705"):
        assert value[:5] in text
    assert run.analyses["density"].verdict in text
    assert 'problem = "demo:quadratic"' in text  # the file that repeats the run
    assert f"version {eigencore.__version__}" in text
    assert len(outline.tags("svg")) == len(eigencore.report(run).figures) >= 4


def test_headings_are_nested_and_links_lead_somewhere(run: Run) -> None:
    outline = Outline(run.to_html())
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in outline.tags("a"):
        assert (link["href"] or "").removeprefix("#") in ids
    assert all(one["aria-label"] for one in outline.tags("div") if one.get("role"))


def test_references_within_figures_stay_within_them(run: Run) -> None:
    page = run.to_html()
    ids = set(re.findall(r' id="([^"]+)"', page))
    inside = re.findall(r'(?:url\(#|href="#)([^)"]+)', page)
    assert inside
    assert set(inside) <= ids


def test_it_needs_no_script_and_nothing_from_elsewhere(run: Run) -> None:
    page = run.to_html()
    outline = Outline(page)
    assert not outline.tags("script")
    assert not outline.tags("link")
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    loaded = [value for _, one in outline.elements for name, value in one.items() if name in ("src", "href")]
    assert all((value or "").startswith(("#", "data:image/png;base64,")) for value in loaded)
    assert "@import" not in page
    assert "url(http" not in page


def test_every_figure_has_a_text_alternative_and_its_numbers(run: Run) -> None:
    outline = Outline(run.to_html())
    figures = eigencore.report(run).figures
    for svg, figure in zip(outline.tags("svg"), figures, strict=True):
        assert svg["role"] == "img"
        assert svg["aria-label"] == f"{figure.title}. {figure.caption}"
    assert len(outline.tags("details")) >= len(figures)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_whatever_a_result_holds_is_escaped(text: str) -> None:
    outline = Outline(everything(text).to_html())
    assert not outline.tags("script")
    shown = "".join(outline.text)
    assert re.sub("[\x00-\x09]", "\N{REPLACEMENT CHARACTER}", text) in shown
    assert not re.search("[\x00-\x08]", shown)
    assert "23331" not in shown  # a template in the text is not evaluated


def test_a_problem_named_as_a_script_is_text() -> None:
    problem = eigencore.Problem(operator=np.diag([3.0, 2.0, 1.0]), name="<script>alert(1)</script>")
    run = eigencore.analyze(problem, k=2, analyses="none")
    page = run.to_html()
    assert "<script" not in page
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; · eigencore report</title>" in page
    assert "<script" not in run._repr_html_()
    assert "&lt;script&gt;" in run._repr_html_()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=40))
def test_any_text_gives_a_well_formed_page(text: str) -> None:
    part = AnalysisResult(
        verdict=text,
        tables={text: Table((text,), ((text,),))},
        figures=(replace(FIGURES["lines"], title=text, caption=text),),
        warnings=(text,),
    )
    outline = Outline(Report(text, (text,), {text: part}).to_html())
    assert not outline.tags("script")
    assert len(outline.tags("svg")) == 1


def test_it_is_written_to_a_file_and_is_the_same_each_time(run: Run, tmp_path: Path) -> None:
    page = run.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page == run.to_html()


def test_a_saved_run_has_the_same_page(run: Run, tmp_path: Path) -> None:
    assert eigencore.load(run.save(tmp_path / "run")).to_html() == run.to_html()


def test_long_tables_are_cut_and_say_so() -> None:
    table = Table(("row",), tuple((i,) for i in range(1234)))
    page = AnalysisResult(verdict="long", tables={"rows": table}).to_html()
    assert page.count("<tr>") == 1001
    assert "234 further rows" in page


def test_a_file_that_cannot_be_written_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(eigencore.EigencoreError, match="expected a file that ends in"):
        run.to_html(tmp_path)
    with pytest.raises(eigencore.EigencoreError, match="no folder"):
        run.to_html(tmp_path / "none" / "report.html")
    with pytest.raises(eigencore.EigencoreError, match=r"writes \.html, \.htm"):
        run.to_html(tmp_path / "report.pdf")
    full = Path("/dev/full")
    if full.exists():
        (tmp_path / "full.html").symlink_to(full)
        with pytest.raises(ResultError, match="can't be written"):
            run.to_html(tmp_path / "full.html")


def test_unconverged_pairs_are_a_warning() -> None:
    result = eigencore.solve(np.diag(np.arange(1.0, 400.0)), k=5, tol=1e-9, max_matvecs=8)
    page = result.to_html()
    assert "Warning:" in page
    assert "all 5 pairs converged" not in page
