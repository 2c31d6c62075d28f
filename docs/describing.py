"""From a class or function to Markdown: its signature as in the source, and its docstring."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

WIDTH = 88
SECTIONS = re.compile(r"^ *(Args|Attributes|Raises):\n", re.MULTILINE)


def described(thing: Any) -> Iterator[str]:
    """A class or function, under its name."""
    yield f"### {thing.__name__}"
    made = dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")
    if made or not isinstance(thing, type):
        yield fenced(signature(thing.__name__, thing))
    yield prose(vars(thing).get("__doc__") or "" if isinstance(thing, type) else thing.__doc__)
    if isinstance(thing, type) and issubclass(thing, Enum):
        yield "Values: " + ", ".join(f"`{one.value}`" for one in thing) + "."
    elif isinstance(thing, type):
        told = list(members(thing))
        if told and SECTIONS.search(thing.__doc__ or ""):
            yield "Members:"  # or the two lists would be one
        yield from told


def members(thing: type) -> Iterator[str]:
    """Properties and methods: short ones are items of a list, others stand alone."""
    items: list[str] = []
    for name, member in vars(thing).items():
        if name.startswith("_") and not (name == "__call__" and getattr(thing, "_is_protocol", False)):
            continue
        if isinstance(member, property) and member.fget is not None:
            function, told = member.fget, f"{name}: {inspect.signature(member.fget).return_annotation}"
        elif inspect.isfunction(member):
            function, told = member, signature(name, member)
        else:
            continue
        doc = inspect.cleandoc(function.__doc__ or "")
        if "\n" not in told and not SECTIONS.search(doc):
            items.append(f"- `{told}`" + (f": {escaped(' '.join(doc.split()))}" if doc else ""))
            continue
        yield from filter(None, ("\n".join(items), fenced(told), prose(doc)))
        items = []
    if items:
        yield "\n".join(items)


# -- signatures --------------------------------------------------------------------------------------------


def signature(name: str, thing: Callable[..., Any]) -> str:
    """Annotations as they are written; on one line if it fits, else a parameter a line."""
    whole = inspect.signature(thing)
    pieces = list(parameters(whole))
    plain = isinstance(thing, type) or whole.return_annotation is whole.empty
    answer = "" if plain else f" -> {whole.return_annotation}"
    line = f"{name}({', '.join(pieces)}){answer}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {piece}," for piece in pieces), f"){answer}"])


def parameters(whole: inspect.Signature) -> Iterator[str]:
    """Each as text, with the marks / and * where they belong."""
    kind, before = inspect.Parameter, None
    for one in whole.parameters.values():
        if before is kind.POSITIONAL_ONLY and one.kind is not kind.POSITIONAL_ONLY:
            yield "/"
        if one.kind is kind.KEYWORD_ONLY and before not in (kind.KEYWORD_ONLY, kind.VAR_POSITIONAL):
            yield "*"
        before = one.kind
        if one.name != "self":
            yield parameter(one)
    if before is kind.POSITIONAL_ONLY:
        yield "/"


def parameter(one: inspect.Parameter) -> str:
    told = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "") + one.name
    if one.annotation is not one.empty:
        told += f": {getattr(one.annotation, '__forward_arg__', one.annotation)}"
    if one.default is not one.empty:
        told += f" = {default(one.default)}"
    return told


def default(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    return "..." if repr(value) == "<factory>" else repr(value)


# -- docstrings --------------------------------------------------------------------------------------------


def prose(doc: str) -> str:
    """A docstring as Markdown: paragraphs, and sections of names with what they are as lists."""
    start, *sections = SECTIONS.split(inspect.cleandoc(doc))
    told = [paragraphs(start)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        items, _, rest = body.partition("\n\n")
        told += [f"{title}:", listed(items), paragraphs(rest)]
    return "\n\n".join(filter(None, told))


def paragraphs(text: str) -> str:
    return "\n\n".join(escaped(" ".join(one.split())) for one in text.split("\n\n") if one.strip())


def listed(items: str) -> str:
    """The items of a section; the lines that go on with one are indented further."""
    joined = re.sub(r"\n {8,}", " ", items.rstrip())
    pairs = [line.strip().partition(": ") for line in joined.splitlines()]
    return "\n".join(f"- `{name}`: {escaped(text)}" for name, _, text in pairs)


def escaped(text: str) -> str:
    """Outside of code, what Markdown would take for more than a character."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([*\[\]]|<(?=\w)|(?<!\w)_|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def fenced(text: str) -> str:
    return f"```text\n{text}\n```"
