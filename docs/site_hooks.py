"""Hooks of MkDocs: pages of the site whose source is elsewhere in the repository, and links between them.

mkdocs.yml names this module. Pages in docs/ are written for readers of the repository: a link is the path of
another file. The site has the same pages, and a link leads to the page that is made of this file, or to the
repository if there is none.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from pathlib import Path

import gallery
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook import notebook
from pages import NOTEBOOK_PAGE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Pages by their place on the site, with the file of the repository that each is made of.
ELSEWHERE = {
    "index.md": "README.md",
    "contents.md": "docs/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "examples/index.md": "examples",
    "examples/example-plugin.md": "examples/eigencore-example-plugin/README.md",
    **{f"examples/{name}.md": f"examples/{name}.py" for name in gallery.EXAMPLES},
}
NOTEBOOK = "tutorial.ipynb"
# Who searches wants to do something: pages that say how come first.
ANSWERS = re.compile(r"how-to/|tutorial|coming-from|write-a-|attacks|certificates")
MODULE = re.compile(r"^::: (eigencore[\w.]*)$", re.MULTILINE)
# A block of code, code within a line, or a link with its target.
LINK = re.compile(
    r"(?P<code>^(?P<fence> *```)\S*\n.*?^(?P=fence)$|`[^`\n]*`)"
    r"|(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def on_config(config: MkDocsConfig) -> None:
    """Every page states the version that it describes."""
    config.copyright = f"eigencore {PROJECT['version']} · {PROJECT['license']} license"


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages whose source is not in docs/, or has another name there, and the notebook."""
    for place, source in ELSEWHERE.items():
        own = files.get_file_from_path(source.removeprefix("docs/"))
        if own is not None:
            files.remove(own)
        files.append(File.generated(config, place, content=text_of(source)))
    cells = notebook((ROOT / NOTEBOOK_PAGE).read_text(), lambda text: linked(text, NOTEBOOK, {}, config))
    files.append(File.generated(config, NOTEBOOK, content=json.dumps(cells, indent=1)))


def on_page_markdown(markdown: str, page: Page, files: Files, config: MkDocsConfig) -> str:
    """The text of a page with links that lead somewhere on the site."""
    here = page.file.src_uri
    page.meta["search"] = {"boost": 4 if ANSWERS.match(here) else 1}
    places = {source_of(file.src_uri): file.src_uri for file in files if file.inclusion.is_included()}
    text = MODULE.sub(documented_alone, linked(markdown, here, places, config))
    if source_of(here) == NOTEBOOK_PAGE:
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n[This page as a Jupyter notebook]({NOTEBOOK})\n{rest}"
    return text


def linked(text: str, here: str, places: dict[str, str], config: MkDocsConfig) -> str:
    """A text of the page at `here` whose links are those of `target`."""

    def led(link: re.Match[str]) -> str:
        return link["code"] or f"{link['text']}({target(link['target'], here, places, config.repo_url)})"

    return LINK.sub(led, text)


def documented_alone(directive: re.Match[str]) -> str:
    """A directive that draws a module by its docstring alone; the page names the members to be drawn."""
    path = ROOT / directive[1].replace(".", "/")
    if not (path.with_suffix(".py").exists() or path.is_dir()):
        return directive[0]
    alone = "{members: false, show_root_heading: false, show_root_toc_entry: false}"
    return f"{directive[0]}\n    options: {alone}"


def text_of(source: str) -> str:
    """The Markdown of a page that is made of a file of the repository."""
    if source == "examples":
        return gallery.index()
    path = ROOT / source
    return gallery.EXAMPLES[path.stem].page() if path.suffix == ".py" else path.read_text()


def source_of(place: str) -> str:
    """The file of the repository that a file of the site is made of."""
    return ELSEWHERE.get(place, f"docs/{place}")


def target(link: str, here: str, places: dict[str, str], repository: str) -> str:
    """A link of a page, as it leads from its place on the site.

    Args:
        link: as in the source of the page.
        here: the place of the page.
        places: the places of the files of the site, by their source.
        repository: the URL of the repository.
    """
    path, hash_sign, heading = link.partition("#")
    if "://" in link or not path:
        return link
    source = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(here)), path))
    if source in places:
        return posixpath.relpath(places[source], posixpath.dirname(here) or ".") + hash_sign + heading
    if (ROOT / source).exists():
        return (
            f"{repository}/{'tree' if (ROOT / source).is_dir() else 'blob'}/main/{source}{hash_sign}{heading}"
        )
    return link  # MkDocs reports it
