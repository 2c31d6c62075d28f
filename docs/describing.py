"""Renders a class or function as Markdown: its signature as in the source, and its docstring."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from textwrap import dedent
from typing import Any

WIDTH = 88
SECTIONS = re.compile(r"^ *(Args|Attributes|Returns|Raises|Example):\n", re.MULTILINE)


def described(thing: Any) -> Iterator[str]:
    """A class or function, under a heading with its name."""
    yield f"### {thing.__name__}"
    made = dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")
    if made or not isinstance(thing, type):
        yield fenced(signature(thing.__name__, thing))
    yield prose(vars(thing).get("__doc__") or "" if isinstance(thing, type) else thing.__doc__)
    if isinstance(thing, type) and issubclass(thing, Enum):
        yield "Values: " + ", ".join(f"`{one.value}`" for one in thing) + "."
    elif isinstance(thing, type):
        parts = list(members(thing))
        if parts and SECTIONS.search(thing.__doc__ or ""):
            yield "Members:"  # otherwise Markdown would merge the two lists
        yield from parts


def members(thing: type) -> Iterator[str]:
    """Properties and methods: those with a short description as list items, the others separately."""
    items: list[str] = []
    for name, member in vars(thing).items():
        if name.startswith("_") and not (name == "__call__" and getattr(thing, "_is_protocol", False)):
            continue
        if isinstance(member, property) and member.fget is not None:
            function, text = member.fget, f"{name}: {inspect.signature(member.fget).return_annotation}"
        elif inspect.isfunction(member):
            function, text = member, signature(name, member)
        else:
            continue
        doc = inspect.cleandoc(function.__doc__ or "")
        if "\n" not in text and not SECTIONS.search(doc):
            items.append(f"- `{text}`" + (f": {escaped(' '.join(doc.split()))}" if doc else ""))
            continue
        yield from filter(None, ("\n".join(items), fenced(text), prose(doc)))
        items = []
    if items:
        yield "\n".join(items)


# -- signatures --------------------------------------------------------------------------------------------


def signature(name: str, thing: Callable[..., Any]) -> str:
    """A signature with annotations as written: on one line if it fits, otherwise one parameter per line."""
    whole = inspect.signature(thing)
    pieces = list(parameters(whole))
    plain = isinstance(thing, type) or whole.return_annotation is whole.empty
    answer = "" if plain else f" -> {whole.return_annotation}"
    line = f"{name}({', '.join(pieces)}){answer}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {piece}," for piece in pieces), f"){answer}"])


def parameters(whole: inspect.Signature) -> Iterator[str]:
    """The parameters as text, and the markers / and * in their places."""
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
    text = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "") + one.name
    if one.annotation is not one.empty:
        text += f": {getattr(one.annotation, '__forward_arg__', one.annotation)}"
    if one.default is not one.empty:
        text += f" = {default(one.default)}"
    return text


def default(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    return "..." if repr(value) == "<factory>" else repr(value)


# -- docstrings --------------------------------------------------------------------------------------------


def prose(doc: str) -> str:
    """A docstring as Markdown: paragraphs, sections of names as lists, examples as blocks of Python."""
    start, *sections = SECTIONS.split(inspect.cleandoc(doc))
    parts = [paragraphs(start)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        items, rest = section(body)
        match title:
            case "Example":
                text = fenced(dedent(items).strip("\n"), "python")
            case "Returns":
                text = paragraphs(items)
            case _:
                text = listed(items)
        parts += [f"{title}:", text, paragraphs(rest)]
    return "\n\n".join(filter(None, parts))


def section(body: str) -> tuple[str, str]:
    """The indented lines that a section begins with, blank ones included, and what follows them."""
    lines = body.splitlines(keepends=True)
    length = next((i for i, line in enumerate(lines) if line.strip() and line[0] != " "), len(lines))
    return "".join(lines[:length]), "".join(lines[length:])


def paragraphs(text: str) -> str:
    return "\n\n".join(escaped(" ".join(one.split())) for one in text.split("\n\n") if one.strip())


def listed(items: str) -> str:
    """The items of a section as a list; continuation lines of an item have a deeper indentation."""
    joined = re.sub(r"\n {8,}", " ", items.rstrip())
    pairs = [line.strip().partition(": ") for line in joined.splitlines() if line.strip()]
    return "\n".join(f"- `{name}`: {escaped(text)}" for name, _, text in pairs)


def escaped(text: str) -> str:
    """Text in which characters with a meaning in Markdown are escaped, except within code."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([*\[\]]|<(?=\w)|(?<!\w)_|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"
