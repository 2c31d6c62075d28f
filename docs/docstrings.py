"""Docstrings as Markdown: an extension of Griffe, with which mkdocstrings draws the API reference.

mkdocs.yml names this module. Docstrings are plain text under the headings of Google's style, so that `help()`
reads well; characters that Markdown would interpret are escaped here, and examples are fenced.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from griffe import Attribute, Class, Docstring, ExprName, Extension, Function, GriffeLoader, Module, Object

HEADING = re.compile(r"^ *(Args|Attributes|Returns|Raises|Example):\n", re.MULTILINE)
REFERENCE = Path(__file__).parent / "reference"
NAMES = [
    name for page in REFERENCE.glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
]
# What docstrings call the names of the reference: classes by their own names, functions by their full ones.
LINKS = {name: name for name in NAMES}
LINKS |= {name.rpartition(".")[2]: name for name in NAMES if name.rpartition(".")[2][0].isupper()}
LINKS |= {f"interfaces.{short}": name for short, name in LINKS.items() if short[0].isupper()}
# An item of a section: its name, which is shown as code, and its text.
ITEM = re.compile(r"^( {4}(?:\S[^:\n]*: )?)((?:.|\n {5})*)$", re.MULTILINE)


class PlainDocstrings(Extension):
    """Makes Markdown of docstrings, and shows every member of a class once."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = linked(as_markdown(obj.docstring.value))

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:
        """After the extension for dataclasses, which makes parameters of fields."""
        for one in objects(pkg):
            if isinstance(one, Attribute) and str(one.value).startswith("runner_of("):
                one.parent.set_member(one.name, runner(one))
            elif isinstance(one, Function):
                show_defaults(one, loader)
            elif isinstance(one, Class) and not any(str(base).endswith("Enum") for base in one.bases):
                for name in [name for name, member in one.members.items() if is_field(member)]:
                    one.del_member(name)


def objects(parent: Object) -> list[Object]:
    """All classes and functions of a package or class, at any depth."""
    own = [member for member in parent.members.values() if not member.is_alias]
    return [found for one in own for found in (one, *objects(one))]


def runner(made: Attribute) -> Function:
    """The function that `check_X = runner_of(X_checks, ...)` makes: it takes the arguments of X_checks."""
    checks = made.parent[made.name.removeprefix("check_") + "_checks"]
    function = Function(made.name, parameters=checks.parameters, returns="None", lineno=made.lineno)
    text = inspect.cleandoc(pkgutil.resolve_name(made.path).__doc__)
    function.docstring = Docstring(linked(as_markdown(text)), parent=function)
    return function


def is_field(member: Any) -> bool:
    """Whether it is a field of a class, which the docstring of the class describes, and not a property."""
    return isinstance(member, Attribute) and "property" not in member.labels and member.docstring is None


def show_defaults(function: Function, loader: GriffeLoader) -> None:
    """A default that is a constant of the project is shown as its value."""
    for parameter in function.parameters:
        if isinstance(parameter.default, ExprName) and parameter.default.name.isupper():
            constant = loader.modules_collection[parameter.default.canonical_path]
            parameter.default = constant.value


def as_markdown(docstring: str) -> str:
    """The docstring with its text escaped, and the example as a fenced block of Python."""
    start, *sections = HEADING.split(docstring)
    parts = ["\n\n".join(map(paragraph, start.split("\n\n")))]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        inside, after = section(body)
        if title == "Example":
            code = dedent(inside).strip("\n")
            parts.append(f"Example:\n\n```python\n{code}\n```\n\n")
        else:
            parts.append(f"{title}:\n{ITEM.sub(lambda item: item[1] + escaped(item[2]), inside)}")
        parts.append(escaped(after))
    return "".join(parts)


def linked(text: str) -> str:
    """Markdown whose names of the reference, as code, lead to their descriptions."""
    return re.sub(
        r"(```.*?```)|(?<!`)`([\w.]+)`(?!`)",
        lambda code: f"[`{code[2]}`][{LINKS[code[2]]}]" if code[2] in LINKS else code[0],
        text,
        flags=re.DOTALL,
    )


def paragraph(text: str) -> str:
    """A paragraph with its text escaped; a drawing is fenced, and indented code stays as it is."""
    if "├" in text:
        return f"```text\n{text}\n```"
    return text if text.startswith("    ") else escaped(text)


def section(body: str) -> tuple[str, str]:
    """The indented lines that a section begins with, blank ones included, and what follows them."""
    lines = body.splitlines(keepends=True)
    length = next((i for i, line in enumerate(lines) if line.strip() and line[0] != " "), len(lines))
    return "".join(lines[:length]), "".join(lines[length:])


def escaped(text: str) -> str:
    """Text in which characters with a meaning in Markdown are escaped, except within code."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [
        re.sub(r"[*\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", piece).replace("<", "&lt;") for piece in pieces[::2]
    ]
    return "".join(pieces)
