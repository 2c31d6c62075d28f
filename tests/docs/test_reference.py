"""The reference is what docs/reference.py writes, and contains every public name, option and command."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest

import eigencore
from eigencore import entries, interfaces, space
from eigencore.cli import OWN
from eigencore.entries import CommandEntry, Entry, KindEntry, ProblemEntry
from eigencore.options import describe
from eigencore.registry import load_options, registry

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["command.md", "entries.md", "interfaces.md", "python.md", "result.schema.json"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(DOCS))
    return runpy.run_path(str(DOCS / "reference.py"))


def shown(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def headings(*names: str) -> set[str]:
    lines = "\n".join(map(shown, names)).splitlines()
    return {line.lstrip("# ") for line in lines if line.startswith("#")}


def test_writing_it_again_gives_the_same(script: dict[str, Any]) -> None:
    written = script["pages"]()
    assert sorted(written) == sorted(path.name for path in (DOCS / "reference").iterdir()) == PAGES
    for name, text in written.items():
        assert shown(name) == text, f"{name} is out of date: run `python docs/reference.py`"


def test_every_public_name_is_described() -> None:
    assert set(eigencore.__all__) - {"hookimpl"} <= headings("python.md", "interfaces.md")
    assert "`eigencore.hookimpl`" in shown("interfaces.md")


def test_every_interface_is_described() -> None:
    trees = [ast.parse(Path(module.__file__).read_text()) for module in (interfaces, entries, space)]
    classes = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    assert len(classes) > 15
    assert classes <= headings("python.md", "interfaces.md")


def all_bundled() -> list[Entry]:
    return [one.entry for one in registry().entries(Entry) if one.plugin.distribution == "eigencore"]


def test_every_entry_is_there_with_its_options() -> None:
    bundled = [one for one in all_bundled() if not isinstance(one, CommandEntry)]
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
    doc = """Says *this* of `a*b`.

    Over two
    lines.

    Args:
        x, y: inputs (N, *shape), or
            labels.
        z: more.

    Returns:
        An *array*, on
        the host.

    Raises:
        UsageError: x is <b>.

    Example:
        import eigencore

        for k in (1, 2):
            print(k * "*")

    The end.
    """
    assert script["prose"](doc).split("\n\n") == [
        r"Says \*this\* of `a*b`.",
        "Over two lines.",
        "Args:",
        "- `x, y`: inputs (N, \\*shape), or labels.\n- `z`: more.",
        "Returns:",
        r"An \*array\*, on the host.",
        "Raises:",
        r"- `UsageError`: x is \<b>.",
        "Example:",
        "```python\nimport eigencore",
        'for k in (1, 2):\n    print(k * "*")\n```',
        "The end.",
    ]


def test_a_signature_is_as_in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    signature = runpy.run_path(str(DOCS / "describing.py"))["signature"]

    def short(a: int, /, b: str = "x", *, c: float | None = None, **more: object) -> bool: ...

    def long(first_of_many: int, second_of_many: dict[str, tuple[int, ...]], *third_of_many: str) -> None: ...

    line = 'short(a: int, /, b: str = "x", *, c: float | None = None, **more: object) -> bool'
    assert signature("short", short) == line
    assert signature("long", long).splitlines()[1:3] == [
        "    first_of_many: int,",
        "    second_of_many: dict[str, tuple[int, ...]],",
    ]
