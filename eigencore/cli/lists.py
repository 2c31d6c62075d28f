"""Options with several values: "A,B" on the command line, a list in a file."""

from __future__ import annotations

from typing import Any

import click


class ListType(click.types.UnprocessedParamType):
    """Text with commas, or a list of its parts; both are passed on as they are.

    Attributes:
        of: the types that a part may have in a file.
    """

    def __init__(self, *of: type):
        self.of = of or (str,)


def parts(value: Any) -> list[str]:
    """The parts of text with commas, of a list, or of a single number, as text."""
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    return [str(part).strip() for part in found]


def names_in(ctx: click.Context, parameter: click.Parameter, value: Any) -> list[str] | None:
    """A callback for names: "A,B" or a list of names; an empty list for "none", and None for None."""
    if value is None:
        return None
    names = parts(value)
    return [] if names == ["none"] else names
