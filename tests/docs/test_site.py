"""The documentation site: it builds without a warning, and its links and search lead somewhere."""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

import eigencore
from eigencore import testing
from kit.site_search import SiteSearch

ROOT = Path(__file__).parents[2]
REFERENCE = ("reference/python.html", "reference/interfaces.html")
# What somebody wants to do, as it is typed into the search, and the page that says how.
JOBS = {
    "eigenvalues of my own model": "how-to/your-own-model.html",
    "matrix file": "how-to/operators.html",
    "only some parameters": "how-to/your-own-model.html",
    "hugging face language model": "how-to/language-models.html",
    "eigenvalues of each layer": "how-to/layers.html",
    "trace of the hessian": "how-to/spectrum.html",
    "spectral density": "how-to/spectrum.html",
    "gauss-newton": "how-to/kinds.html",
    "use a GPU": "how-to/gpu-and-memory.html",
    "out of memory": "how-to/gpu-and-memory.html",
    "resume an interrupted run": "how-to/keep-and-interrupt.html",
    "exit codes": "how-to/shell-and-logs.html",
    "edge of stability": "how-to/edge-of-stability.html",
    "attack my model": "attacks.html",
    "robustness of many networks": "how-to/robustness-study.html",
    "compare with pyhessian": "coming-from.html",
    "write a solver plugin": "write-a-plugin.html",
    "backend for another framework": "write-a-backend.html",
    "what does the certificate prove": "certificates.html",
    "jupyter notebook": "tutorial.html",
}
# Elements that a page has on the site as it has them in the repository.
COUNTED = (
    "h1",
    "h2",
    "h3",
    "h4",
    "ul",
    "ol",
    "li",
    "pre",
    "table",
    "tr",
    "td",
    "strong",
    "em",
    "br",
    "img",
    "a",
)


@dataclass
class Content(HTMLParser):
    """What a page contains: anchors, links, what it loads, and the elements of its text.

    Attributes:
        article: whether only the text of the page is read, without navigation, header and footer.
        elements: how many there are of each tag, by the number of lists that they are in.
        depth: the number of lists that are open.
    """

    article: bool = False
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    elements: Counter[tuple[str, int]] = field(default_factory=Counter)
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.inside = not self.article

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.inside = self.inside or tag == "article"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if not self.inside or given.get("class") == "headerlink":
            return
        self.elements[tag, self.depth] += 1
        self.depth += tag in ("ul", "ol")
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and "canonical" not in given["rel"]:
            self.loads.append(given["href"])

    def handle_endtag(self, tag: str) -> None:
        if self.inside:
            self.depth -= tag in ("ul", "ol")
        if self.article and tag == "article":
            self.inside = False


def content(html: str, *, article: bool = False) -> Content:
    parser = Content(article)
    parser.feed(html)
    return parser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as the command of CONTRIBUTING.md builds it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    assert not re.search("warning|error", built.stderr, re.IGNORECASE), built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Content]:
    return {str(path.relative_to(site)): content(path.read_text()) for path in site.rglob("*.html")}


# -- links -------------------------------------------------------------------------------------------------


def broken(pages: dict[str, Content], site: Path) -> Iterator[str]:
    """The links and loaded files that do not exist, or that another place would have to provide."""
    for name, page in pages.items():
        if name == "404.html":  # its links are those of the server's root
            continue
        yield from (f"{name} loads {url}" for url in page.loads if urlsplit(url).netloc)
        for url in (*page.links, *page.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            path = (site / name).parent / unquote(parts.path) if parts.path else site / name
            place = path.resolve()
            if not place.exists():
                yield f"{name} leads to {url}, which does not exist"
            elif parts.fragment and place.suffix == ".html":
                known = pages[str(place.relative_to(site.resolve()))].anchors
                if unquote(parts.fragment) not in known | {"__toc"}:
                    yield f"{name} leads to {url}, which has no such anchor"


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(
    pages: dict[str, Content], site: Path
) -> None:
    assert len(pages) > 40
    assert sum(len(page.links) for page in pages.values()) > 2000
    assert list(broken(pages, site)) == []


def test_a_broken_link_is_found(pages: dict[str, Content], site: Path) -> None:
    html = '<a href="tutorial.html#none"></a><a href="none.html"></a><img src="https://else.where/x.png">'
    html += (
        '<a href="tutorial.html#install"></a><a href="https://else.where"></a><a href="#here" id="here"></a>'
    )
    found = list(broken({**pages, "index.html": content(html)}, site))
    assert len(found) == 3


def test_links_to_the_repository_name_files_of_it(pages: dict[str, Content]) -> None:
    inside = re.compile(r"https://github\.com/eigencore/eigencore/(?:blob|tree)/main/([^#]+)")
    paths = {path for page in pages.values() for url in page.links for path in inside.findall(url)}
    assert len(paths) > 5
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


# -- pages -------------------------------------------------------------------------------------------------


@cache
def hooks() -> SimpleNamespace:
    before = sys.path[:]
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "site_hooks.py")))
    finally:
        sys.path[:] = before


def parts(elements: Counter[tuple[str, int]]) -> dict[tuple[str, int], int]:
    return {(tag, depth): count for (tag, depth), count in elements.items() if tag in COUNTED}


def test_a_page_has_the_same_parts_as_in_the_repository(site: Path) -> None:
    """Two kinds of Markdown are read: that of the repository by CommonMark, that of the site by MkDocs."""
    commonmark = MarkdownIt("commonmark").enable("table")
    compared = 0
    for path in sorted(site.rglob("*.html")):
        place = str(path.relative_to(site).with_suffix(".md"))
        source = ROOT / hooks().source_of(place)
        if source.suffix != ".md" or not source.exists() or "\n::: " in source.read_text():
            continue
        here = content(path.read_text(), article=True).elements
        there = content(commonmark.render(source.read_text())).elements
        if hooks().source_of(place) == "docs/tutorial.md":
            there["a", 0] += 1  # to the notebook
        assert parts(here) == parts(there), place
        compared += 1
    assert compared > 25


def test_every_page_of_the_repository_is_on_the_site_once(site: Path) -> None:
    sources = [
        hooks().source_of(str(path.relative_to(site).with_suffix(".md"))) for path in site.rglob("*.html")
    ]
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    examples = {str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.py")}
    assert {*pages, *examples, "README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= set(sources)
    assert len(set(sources)) == len(sources)


def test_every_public_name_is_in_the_reference(pages: dict[str, Content]) -> None:
    anchors = set().union(*(pages[name].anchors for name in REFERENCE))
    assert {f"eigencore.{name}" for name in eigencore.__all__} - anchors == {"eigencore.hookimpl"}
    # With methods and properties, also those without a docstring; the docstring of a class has the fields.
    assert anchors >= {
        "eigencore.Run.save",
        "eigencore.LinearOperator.shape",
        "eigencore.interfaces.Solver.__call__",
    }
    assert "eigencore.Run.failed" not in anchors


def test_the_reference_shows_defaults_and_examples(site: Path) -> None:
    html = (site / REFERENCE[0]).read_text()
    assert re.search(r'href="#eigencore\.load"><code>eigencore\.load</code>', html)  # a name in a docstring
    page = re.sub("<[^>]+>", "", html)
    assert re.search(r"analyze\(\s+problem: Any,.*?k: int = 5,", page, re.DOTALL)
    assert not re.search(r"= [A-Z][A-Z_]+,", page)
    assert page.count("Example:") > 25


@pytest.mark.parametrize("name", testing.__all__)
def test_the_reference_shows_the_signature_of_every_kit(name: str, site: Path) -> None:
    html = (site / "reference/interfaces.html").read_text()
    after = html.partition(f'id="eigencore.testing.{name}"')[2]
    signature = re.search(rf"{name}\((.*?)\)->", unescape(re.sub(r"<[^>]*>|\s", "", after)))
    assert signature
    parameters = re.findall(r"(?:^|,)\**(\w+):", signature[1])
    assert parameters == list(inspect.signature(getattr(testing, name)).parameters)


def test_it_states_the_version_and_has_the_notebook(site: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in ("index.html", *REFERENCE):
        assert f"eigencore {version} · MIT license" in (site / name).read_text()
    assert json.loads((site / "tutorial.ipynb").read_text())["nbformat"] == 4
    assert 'href="tutorial.ipynb"' in (site / "tutorial.html").read_text()


# -- search ------------------------------------------------------------------------------------------------


def test_the_search_finds_how_to_do_a_job(site: Path) -> None:
    search = SiteSearch(site)
    missed = {job: search.pages(job)[:3] for job, page in JOBS.items() if page not in search.pages(job)[:3]}
    assert missed == {}
    assert search.pages("qwertz") == []
    assert "attacks.html" not in search.pages("use a GPU")[:3]
