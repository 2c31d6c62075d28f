"""Shell completion of the names of entries; click completes commands and flags."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from eigencore.entries import Entry
from eigencore.registry import registry

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


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leaves the completion of a file to the shell."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leaves the completion of a folder to the shell."""
    return [CompletionItem(incomplete, type="dir")]


def files_named(*suffixes: str) -> Complete:
    """Completes files with one of the suffixes, and folders."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return files(ctx, parameter, incomplete)

    return complete
