"""What a shell completes beside commands and flags: the names of entries."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from eigencore.entries import Entry
from eigencore.registry import registry

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(kind: type[Entry]) -> Complete:
    """One of the entries of that kind."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(one.entry.name, help=one.entry.summary)
            for one in registry().entries(kind)
            if one.entry.name.startswith(incomplete)
        ]

    return complete


def lists_of(kind: type[Entry]) -> Complete:
    """Several with commas between them: the last is completed."""
    last = names(kind)

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, name = incomplete.rpartition(",")
        found = last(ctx, parameter, name)
        return [CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in found]

    return complete


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]
