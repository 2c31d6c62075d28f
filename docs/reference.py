"""Writes the generated pages of docs/reference/: the command, from its help, and what is bundled.

    python docs/reference.py

tests/docs/test_reference.py fails if the pages differ from what this script writes. The other pages of
docs/reference/ name what the site draws from docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from docstrings import escaped
from griffe import Docstring, DocstringSectionKind

from eigencore import options
from eigencore.cli import OWN, main
from eigencore.entries import (
    AnalysisEntry,
    AttackEntry,
    BackendEntry,
    CommandEntry,
    Entry,
    KindEntry,
    ProblemEntry,
    RendererEntry,
    SolverEntry,
)
from eigencore.registry import catalogue as registry
from eigencore.runs import result_json

FOLDER = Path(__file__).parent / "reference"
WRITTEN = "<!-- written by docs/reference.py -->"

LISTINGS = {
    "Solvers": SolverEntry,
    "Backends": BackendEntry,
    "Kinds of operator": KindEntry,
    "Problems": ProblemEntry,
    "Attacks": AttackEntry,
    "Analyses": AnalysisEntry,
    "Renderers": RendererEntry,
}


def pages() -> dict[str, str]:
    """The text of each page, by file name. Plugins that are not bundled are disabled."""
    foreign = [one.full_name for one in registry.registry().records if one.distribution != "eigencore"]
    if foreign:
        registry.disable(*foreign)
    return {
        "entries.md": page("What is bundled, and its options", entries()),
        "command.md": page("The command", command()),
        "result.schema.json": json.dumps(result_json.schema(), indent=2) + "\n",
    }


def page(title: str, parts: Iterator[str]) -> str:
    return "\n\n".join(filter(None, [WRITTEN, f"# {title}", *parts])) + "\n"


def entries() -> Iterator[str]:
    yield (
        "`--set NAME.OPTION=VALUE` sets an option. In Python it is a keyword of `solve`, `bind` or `attack`, "
        "or an item of `analyze(options={NAME: {OPTION: VALUE}})`. [Entries](interfaces.md#entries) explains "
        "the other properties. `eigen solvers NAME` prints the same information."
    )
    for title, kind in LISTINGS.items():
        yield f"## {title}"
        for one in registry.registry().entries(kind):
            yield from entry_described(one.entry)


def command() -> Iterator[str]:
    """The help of the commands of the core, and of those of bundled plugins."""
    others = [one.entry.name for one in registry.registry().entries(CommandEntry)]
    for name in ("", *OWN, *others):
        words = [name] if name else []
        yield f"## {' '.join(['eigen', *words])}"
        yield fenced(help_of(*words))


def help_of(*words: str) -> str:
    """What `eigen WORDS --help` prints on a terminal with 80 columns."""
    printed = io.StringIO()
    with patch.dict(os.environ, COLUMNS="80"), redirect_stdout(printed):
        main([*words, "--help"])
    return printed.getvalue().rstrip()


# -- entries -----------------------------------------------------------------------------------------------


def entry_described(entry: Entry) -> Iterator[str]:
    yield f"### {entry.name} on {entry.backend}" if isinstance(entry, KindEntry) else f"### {entry.name}"
    yield sentence(entry.summary)
    yield "\n".join(f"- {name}: {text}" for name, text in facts(entry))
    if isinstance(entry, ProblemEntry):
        prefix, factory = "problem", registry.load(entry)
        specs = options.describe_keywords(factory)
        text, meanings = documented(factory)
        if specs:
            yield text
    else:
        prefix, declared = entry.name, registry.load_options(entry)
        specs, meanings = () if declared is None else options.describe(declared), {}
    yield from (option_described(prefix, spec, meanings.get(spec.name, spec.help)) for spec in specs)


def documented(function: Any) -> tuple[str, dict[str, str]]:
    """The first text of a function's docstring, and what it says of each argument."""
    text, *others = Docstring(inspect.cleandoc(function.__doc__ or "")).parse("google", warnings=False)
    found = (one.value for one in others if one.kind is DocstringSectionKind.parameters)
    return escaped(text.value), {argument.name: argument.description for value in found for argument in value}


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What the entry declares, in the order of its fields."""
    for field in dataclasses.fields(entry):
        name, value = field.name, getattr(entry, field.name)
        if name in ("name", "summary", "load", "options") or value in (None, (), frozenset()):
            continue
        if name == "extra":
            yield "needs the extra", f"`eigencore[{value}]`"
        elif isinstance(value, bool | str):
            yield f"`{name}`", plain(value)
        else:
            yield f"`{name}`", ", ".join(sorted(value) if isinstance(value, frozenset) else value)


def option_described(prefix: str, spec: options.OptionSpec, meaning: str) -> str:
    default = "required" if spec.required else f"default {plain(spec.default)}"
    parts = [f"**`{prefix}.{spec.name}`**: {escaped(spec.range)}; {default}.", sentence(meaning)]
    if spec.when:
        parts.append(f"When to change it: {escaped(spec.when)}.")
    return " ".join(filter(None, parts))


def sentence(text: str) -> str:
    """A line of a listing, which begins in lower case and ends without a period, as a sentence."""
    return escaped(text[:1].upper() + text[1:]) + ("." if text and text[-1] not in ".?" else "")


def plain(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def write() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(write())
