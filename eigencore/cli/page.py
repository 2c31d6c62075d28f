"""Pages that text is printed on: a terminal, with rich's tables and colours, or plain columns in a file."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.number_text import cells_of

if TYPE_CHECKING:
    from rich.console import Console


NO_BREAK = "\N{NO-BREAK SPACE}"  # printed as a space, at which a line is not broken


class Page(Protocol):
    """What text is printed on. `style` is a style of rich, which is ignored without colours."""

    def line(self, text: str = "", style: str = "") -> None:
        """Prints a paragraph; without text, an empty line."""

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Prints a table; columns of numbers are aligned to the right."""


def page() -> Page:
    """The page for stdout: a Terminal if it is one, otherwise Plain."""
    if not sys.stdout.isatty():
        return Plain()
    from rich.console import Console

    return Terminal(Console(file=sys.stdout))


class Plain:
    """Text for files and pipes. Lines are never broken, because a program may read them."""

    def line(self, text: str = "", style: str = "") -> None:
        print(text.replace(NO_BREAK, " "))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        cells, numeric = cells_of(columns, rows)
        lines = [list(columns), *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                text.rjust(width) if is_number else text.ljust(width)
                for text, width, is_number in zip(line, widths, numeric, strict=True)
            ]
            print("  " + "   ".join(padded).rstrip())


class Terminal:
    """Text for a terminal. Long lines are broken between words and continued with an indent."""

    def __init__(self, console: Console):
        self._console = console

    def line(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(wrapped(text, self._console.width), style=style), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        cells, numeric = cells_of(columns, rows)
        for i, (chosen, widths) in enumerate(fitted(columns, cells, numeric, self._console.width - INDENT)):
            if i:
                self.line()
            self._part(
                [columns[j] for j in chosen],
                [[line[j] for j in chosen] for line in cells],
                [numeric[j] for j in chosen],
                widths,
            )

    def _part(
        self,
        columns: Sequence[str],
        cells: Sequence[Sequence[str]],
        numeric: Sequence[bool],
        widths: Sequence[int],
    ) -> None:
        """Prints a table whose columns have these widths; words of longer cells and names are wrapped."""
        from rich.box import SIMPLE_HEAD
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", border_style="dim"
        )
        for name, is_number, width in zip(columns, numeric, widths, strict=True):
            table.add_column(
                Text(name),
                justify="right" if is_number else "left",
                vertical="top",
                width=width,
                overflow="fold",
            )
        for line in cells:
            table.add_row(*[Text(text, style=_STYLES.get(text, "")) for text in line])
        # A single word may be wider than the terminal, which then continues it on its next line.
        width = self._console.width
        self._console.width = max(width, INDENT + sum(widths) + GAP * (len(widths) - 1))
        self._console.print(Padding(table, (0, 0, 0, INDENT), expand=False))
        self._console.width = width


INDENT = 2  # columns before a table, and of continued lines of text
GAP = 3  # columns of a terminal between two columns of a table
_STYLES = {"yes": "green", "no": "yellow", "PASS": "green", "WARN": "yellow", "FAIL": "red"}


def wrapped(text: str, width: int) -> str:
    """The text with its lines broken between words, and continued with an indent beyond their own.

    A number and its percent sign stay together, and so do words between which there is NO_BREAK.
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width)).replace(NO_BREAK, " ")


def _parts(line: str, width: int) -> list[str]:
    indent = len(line) - len(line.lstrip())
    return textwrap.wrap(
        re.sub(r"(?<=\d) (?=%)", NO_BREAK, line),
        width,
        subsequent_indent=" " * (indent + INDENT),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def fitted(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> list[tuple[list[int], list[int]]]:
    """Divides a table so that no part is wider than `width`, if its words allow that.

    Text and the names of columns are wrapped between words; numbers are never broken. What is still too wide
    is continued in a further part, which repeats the first column.

    Returns:
        For each part, the positions of its columns, and their widths.
    """
    every = [[name, *(line[j] for line in cells)] for j, name in enumerate(columns)]
    whole = [max(map(len, column)) for column in every]
    least = [
        max((len(word) for text in column for word in (text.split() or [""])), default=0) for column in every
    ]
    for j, (column, is_number) in enumerate(zip(every, numeric, strict=True)):
        if is_number:
            least[j] = max(least[j], *map(len, column[1:]))
    parts: list[list[int]] = [[]]
    for j in range(len(columns)):
        used = sum(least[i] + GAP for i in parts[-1])
        if len(parts[-1]) > 1 and used + least[j] > width:
            parts.append([0])
        parts[-1].append(j)
    return [(part, _widths([whole[j] for j in part], [least[j] for j in part], width)) for part in parts]


def _widths(whole: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """The widths of the columns of one part: the widest ones are narrowed, to no less than `least`."""
    widths = list(whole)
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0 and (spare := [j for j in range(len(widths)) if widths[j] > least[j]]):
        widths[max(spare, key=lambda j: widths[j])] -= 1
        excess -= 1
    return widths
