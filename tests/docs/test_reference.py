"""The reference is up to date, and has every public name, option and command.

tests/docs/test_site.py checks what the site draws of the names.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import eigencore
from eigencore import arrays, entries, interfaces, operators, space, testing
from eigencore.cli import OWN
from eigencore.entries import CommandEntry, Entry, KindEntry, MonitorEntry, ProblemEntry
from eigencore.options import describe
from eigencore.problems import sharing
from eigencore.registry import load_options, registry

DOCS = Path(__file__).parents[2] / "docs"


def shown(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


WRITTEN = ["command.md", "entries.md", "result.schema.json"]
DRAWN = ["interfaces.md", "python.md"]
# "::: NAME" on a page is where the site has the description of that name.
NAMES = [name for page in DRAWN for name in re.findall(r"^::: (\S+)$", shown(page), re.MULTILINE)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(DOCS))
    return runpy.run_path(str(DOCS / "reference.py")) | runpy.run_path(str(DOCS / "docstrings.py"))


def headings(*names: str) -> set[str]:
    lines = "\n".join(map(shown, names)).splitlines()
    return {line.lstrip("# ") for line in lines if line.startswith("#")}


def test_writing_it_again_gives_the_same(script: dict[str, Any]) -> None:
    written = script["pages"]()
    assert sorted(written) == WRITTEN
    assert sorted(path.name for path in (DOCS / "reference").iterdir()) == sorted(WRITTEN + DRAWN)
    for name, text in written.items():
        assert shown(name) == text, f"{name} is out of date: run `python docs/reference.py`"


def test_every_public_name_is_described() -> None:
    assert {f"eigencore.{name}" for name in eigencore.__all__} - {"eigencore.hookimpl"} <= set(NAMES)
    assert "`eigencore.hookimpl`" in shown("interfaces.md")


def test_every_name_of_the_public_modules_is_described() -> None:
    trees = [ast.parse(Path(module.__file__).read_text()) for module in (interfaces, entries, space)]
    classes = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    assert len(classes) > 15
    functions = {name for name, one in inspect.getmembers(arrays, inspect.isfunction) if name[0] != "_"}
    shared = {name for name in sharing.__all__ if callable(getattr(sharing, name))}
    described = {name.rpartition(".")[2] for name in NAMES}
    assert classes | functions | shared | set(operators.__all__) | set(testing.__all__) <= described


def test_no_name_is_described_twice() -> None:
    things = [pkgutil.resolve_name(name) for name in NAMES]
    assert len({id(thing) for thing in things}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_describes_the_arguments_that_there_are(name: str) -> None:
    thing = pkgutil.resolve_name(name)
    members = inspect.getmembers(thing, inspect.isfunction) if isinstance(thing, type) else []
    for one in (thing, *(member for _, member in members)):
        arguments = re.search(
            r"^Args:\n((?: .*\n|\n)+)", inspect.cleandoc(one.__doc__ or "") + "\n", re.MULTILINE
        )
        if arguments is not None:
            named = re.findall(r"^ {4}(\S[^:]*): ", arguments[1], re.MULTILINE)
            assert named
            parameters = inspect.signature(one).parameters
            assert {part.lstrip("*") for item in named for part in item.split(", ")} <= set(parameters)


def all_bundled() -> list[Entry]:
    return [one.entry for one in registry().entries(Entry) if one.plugin.distribution == "eigencore"]


def test_every_entry_is_there_with_its_options() -> None:
    # A monitor has the name of its backend, and no options.
    bundled = [one for one in all_bundled() if not isinstance(one, CommandEntry | MonitorEntry)]
    named = [f"{one.name} on {one.backend}" if isinstance(one, KindEntry) else one.name for one in bundled]
    assert set(named) <= headings("entries.md")
    assert len(named) == len(set(named))
    for entry in bundled:
        declared = None if isinstance(entry, ProblemEntry) else load_options(entry)
        for spec in () if declared is None else describe(declared):
            assert f"**`{entry.name}.{spec.name}`**: " in shown("entries.md")
    assert "**`problem.outliers`**: " in shown("entries.md")


def test_every_command_is_there_with_its_help() -> None:
    names = {*OWN, *(one.name for one in all_bundled() if isinstance(one, CommandEntry))}
    assert names > {*OWN, "study", "density"}
    assert headings("command.md") >= {"eigen", *(f"eigen {name}" for name in names)}
    assert shown("command.md").count("```text\nUsage: eigen ") == 1 + len(names)


def test_a_docstring_becomes_markdown(script: dict[str, Any]) -> None:
    doc = """Says *this* of `a*b` <c>.

    ├── a drawing

    Args:
        x, y: inputs (N, *shape), or
            labels_.
        **z: more.

    Returns:
        An *array*.

    Example:
        import eigencore

        for k in (1, 2):
            print(k * "*")

    The _end.
    """
    assert script["as_markdown"](inspect.cleandoc(doc)).split("\n\n") == [
        r"Says \*this\* of `a*b` &lt;c>.",
        "```text\n├── a drawing\n```",
        "Args:\n    x, y: inputs (N, \\*shape), or\n        labels\\_.\n    **z: more.",
        "Returns:\n    An \\*array\\*.",
        "Example:",
        "```python\nimport eigencore",
        'for k in (1, 2):\n    print(k * "*")\n```',
        "The \\_end.",
    ]
