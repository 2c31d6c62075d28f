"""What the pages link to or name exists, and CONTRIBUTING.md shows the package layout as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A path in code that begins with one of the project's folders.
NAMED = re.compile(r"`((?:\.ci|benchmarks|docs|eigencore|examples|plugins|tests)/[\w./-]+)`")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub generates them."""
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
    assert there.exists(), f"{page} links to {target}, which does not exist"
    if heading:
        assert heading in headings(there), f"{page} links to a heading of {there.name} that does not exist"


@pytest.mark.parametrize(("page", "path"), names())
def test_a_file_that_is_named_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{page} names {path}, which does not exist"


def test_there_is_something_to_check() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {str(page.relative_to(ROOT)) for page in PAGES}
    assert len(targets()) >= 2
    assert len(names()) >= 3


def layout() -> list[str]:
    """The files and folders in CONTRIBUTING's picture of the layout; two more spaces are one level down."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    picture = text.partition("## Package layout\n")[2].partition("\n\nImports")[0]
    shown, folders = [], [""]
    for indent, name in re.findall(r"^ {4}((?:  )*)([\w.-]+/?) ", picture, re.MULTILINE):
        del folders[1 + len(indent) // 2 :]
        shown.append(folders[-1] + name)
        folders.append(shown[-1])
    return shown


@pytest.mark.parametrize("path", layout())
def test_the_layout_is_as_it_is_shown(path: str) -> None:
    assert (ROOT / path).exists()
    assert (ROOT / path).is_dir() == path.endswith("/")


def test_every_bundled_plugin_is_shown_in_the_layout() -> None:
    bundled = {f"plugins/{path.name}/" for path in (ROOT / "plugins").glob("eigencore_*")}
    assert bundled <= set(layout())


def test_every_module_of_the_core_is_shown_in_the_layout() -> None:
    """Each module is shown, or only its folder if the picture shows no file of that folder."""
    shown = set(layout())
    detailed = {path.rpartition("/")[0] + "/" for path in shown if path.endswith(".py")}
    missing = []
    for file in sorted((ROOT / "eigencore").rglob("*.py")):
        path = str(file.relative_to(ROOT))
        folder = path.rpartition("/")[0] + "/"
        own = file.name == "__init__.py" and folder != "eigencore/"
        if path not in shown and not (folder in shown and (own or folder not in detailed)):
            missing.append(path)
    assert missing == []
