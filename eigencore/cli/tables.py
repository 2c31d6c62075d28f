"""Tables on the terminal: rich's where somebody looks, plain columns where a file or a pipe does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows under their columns; a column of numbers is flush right."""
    rows = list(rows)
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [_is_numeric(values) for values in zip(*rows, strict=True)]
    right = numeric or [False] * len(columns)
    if sys.stdout.isatty():
        _print_rich(columns, cells, right)
    else:
        _print_plain(columns, cells, right)


def cell(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values)


def _print_plain(columns: Sequence[str], cells: list[list[str]], right: Sequence[bool]) -> None:
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            text.rjust(width) if flush else text.ljust(width)
            for text, width, flush in zip(line, widths, right, strict=True)
        ]
        print("  " + "   ".join(padded).rstrip())


def _print_rich(columns: Sequence[str], cells: list[list[str]], right: Sequence[bool]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=True)
    for name, flush in zip(columns, right, strict=True):
        table.add_column(Text(name), justify="right" if flush else "left")
    for line in cells:
        table.add_row(*[Text(text, style=_STYLES.get(text, "")) for text in line])
    Console(file=sys.stdout).print(table)


_STYLES = {"yes": "green", "no": "yellow"}
