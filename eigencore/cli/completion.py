"""Completion of names, options of entries, files and folders; click completes commands and flags.

An item that is `open`, such as a folder, is not complete yet. `shell_completion.py` passes items to shells.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from eigencore.entries import Entry, ProblemEntry
from eigencore.errors import EigencoreError
from eigencore.options import OptionSpec, describe, describe_keywords
from eigencore.registry import load, load_options, registry

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(kind: type[Entry]) -> Complete:
    """Completes the name of an entry of that kind; a name that several entries have occurs once."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        entries = {one.entry.name: one.entry for one in reversed(registry().entries(kind))}
        return [
            CompletionItem(name, help=entry.summary)
            for name, entry in reversed(entries.items())
            if name.startswith(incomplete)
        ]

    return complete


def lists_of(kind: type[Entry]) -> Complete:
    """Completes the last of several names that are separated by commas."""
    complete_name = names(kind)

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, name = incomplete.rpartition(",")
        found = complete_name(ctx, parameter, name)
        return [CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in found]

    return complete


def problem_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a problem, the file of a matrix, or a file and a function in it."""
    from eigencore.problems import functions_in
    from eigencore.problems.matrix_files import SUFFIXES

    place, colon, function = incomplete.rpartition(":")
    if colon and place.endswith(".py"):
        found = functions_in(Path(place).expanduser())
        return [CompletionItem(f"{place}:{name}") for name in found if name.startswith(function)]
    modules = [
        CompletionItem(f"{item.value}:", open=True) if item.value.endswith(".py") else item
        for item in _paths(incomplete, lambda entry: entry.name.endswith((".py", *SUFFIXES)))
    ]
    return [*names(ProblemEntry)(ctx, parameter, incomplete), *modules]


def settings(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes ENTRY.OPTION=VALUE, one part after the other."""
    entry, dot, rest = incomplete.partition(".")
    if not dot:
        entries = {one.entry.name: one.entry.summary for one in registry().registered if one.entry.options}
        found = {**entries, "problem": "keywords of the problem's factory"}
        return [
            CompletionItem(f"{name}.", help=text, open=True)
            for name, text in sorted(found.items())
            if name.startswith(incomplete)
        ]
    option, equals, value = rest.partition("=")
    # click leaves the arguments before an option without a value unparsed.
    problem = next((one for one in ctx.args if not one.startswith("-")), ctx.params.get("problem"))
    specs = {spec.name: spec for spec in _option_specs(entry, problem or "")}
    if not equals:
        return [
            CompletionItem(f"{entry}.{name}=", help=spec.help, open=True)
            for name, spec in specs.items()
            if name.startswith(option)
        ]
    if option not in specs:
        return []
    values = [CompletionItem(text) for text in _choices(specs[option]) if text.startswith(value)]
    values += _paths(value, lambda entry: True) if Path in specs[option].types else []
    return [CompletionItem(f"{entry}.{option}={item.value}", open=item.open) for item in values]


def _choices(spec: OptionSpec) -> list[str]:
    """The values that an option lists, as the command line takes them."""
    choices = [str(choice) for choice in spec.choices if choice is not None]
    switch = ["true", "false"] if bool in spec.types else []
    return [*choices, *switch, *(["none"] if None in spec.choices else [])]


def _option_specs(name: str, problem: str) -> list[OptionSpec]:
    """The options of all entries of a name; of "problem", the keywords of the problem's factory."""
    if name == "problem":
        return _keywords(problem)
    found: list[OptionSpec] = []
    for registered in registry().registered:
        if registered.entry.name == name:
            with contextlib.suppress(EigencoreError):  # of a plugin
                declared = load_options(registered.entry)
                found += [] if declared is None else describe(declared)
    return found


def _keywords(problem: str) -> list[OptionSpec]:
    """The keywords of a problem's factory. Of a file, only the text is read: nothing in it is run."""
    from eigencore.problems import CHECKPOINT, functions_in

    file, _, function = problem.rpartition(":")
    if file.endswith(".py"):
        named = functions_in(Path(file).expanduser()).get(function, ())
        return [CHECKPOINT, *(OptionSpec(name, (), (), None) for name in named)]
    with contextlib.suppress(EigencoreError, ValueError):  # ValueError: a function without a signature
        return [CHECKPOINT, *describe_keywords(load(registry().find(ProblemEntry, problem)))]
    return []


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes a file or a folder."""
    return _paths(incomplete, lambda entry: True)


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes a folder."""
    return _paths(incomplete, lambda entry: False)


def files_named(*suffixes: str) -> Complete:
    """Completes a file with one of the suffixes, or a folder."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _paths(incomplete, lambda entry: entry.name.endswith(suffixes))

    return complete


def run_folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes a folder that holds a run, or one that has folders in it."""
    found = []
    for item in folders(ctx, parameter, incomplete):
        folder = Path(item.value).expanduser()
        if (folder / "result.json").is_file():
            found.append(CompletionItem(item.value.rstrip("/")))
        elif any(inside.is_dir() for inside in _entries(folder)):
            found.append(item)
    return found


def _paths(incomplete: str, wanted: Callable[[os.DirEntry[str]], bool]) -> list[CompletionItem]:
    """The paths that begin with the text: folders, which end with a slash, and the files that are wanted."""
    name = incomplete.rpartition("/")[2]
    place = incomplete.removesuffix(name)
    found = []
    for entry in _entries(Path(place).expanduser() if place else Path()):
        hidden = entry.name.startswith(".") and not name.startswith(".")
        if entry.name.startswith(name) and not hidden:
            if entry.is_dir():
                found.append(CompletionItem(f"{place}{entry.name}/", open=True))
            elif wanted(entry):
                found.append(CompletionItem(f"{place}{entry.name}"))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of the names; nothing if it can't be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError, RuntimeError):
        return []
