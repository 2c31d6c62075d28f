"""What README, CONTRIBUTING and docs point at is there: files, headings, and folders that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A path that is named in code: it has a folder of ours before it.
NAMED = re.compile(r"`((?:\.ci|benchmarks|docs|eigencore|examples|plugins|tests)/[\w./-]+)`")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def targets() -> list[tuple[str, str]]:
    found = [(page, target) for page in PAGES for target in LINK.findall(prose(page))]
    return [(str(page.relative_to(ROOT)), target) for page, target in found if "://" not in target]


def names() -> list[tuple[str, str]]:
    return [(str(page.relative_to(ROOT)), path) for page in PAGES for path in NAMED.findall(prose(page))]


@pytest.mark.parametrize(("page", "target"), targets())
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    path, _, heading = target.partition("#")
    there = (ROOT / page).parent / path if path else ROOT / page
    assert there.exists(), f"{page} points to {target}, which is not there"
    if heading:
        assert heading in headings(there), f"{page} points to a heading of {there.name} that is not there"


@pytest.mark.parametrize(("page", "path"), names())
def test_a_file_that_is_named_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{page} names {path}, which is not there"


def test_there_is_something_to_check() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {str(page.relative_to(ROOT)) for page in PAGES}
    assert len(targets()) >= 2
    assert len(names()) >= 3


def house() -> list[str]:
    """The files and folders that CONTRIBUTING's picture of the house shows."""
    picture = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("## The house\n")[2].partition("\n\nImports")[0]
    )
    shown, folder = [], ""
    for indent, name in re.findall(r"^( {4}| {6})([\w.-]+/?) ", picture, re.MULTILINE):
        folder = name if len(indent) == 4 else folder
        shown.append(name if len(indent) == 4 else folder + name)
    return shown


@pytest.mark.parametrize("path", house())
def test_the_house_is_as_it_is_shown(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_bundled_plugin_is_shown_in_the_house() -> None:
    bundled = {f"plugins/{path.name}/" for path in (ROOT / "plugins").glob("eigencore_*")}
    assert bundled <= set(house())
