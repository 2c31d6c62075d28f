"""Pages that text is printed on: a terminal, with rich's tables and colours, or plain columns in a file."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.number_text import cells_of

if TYPE_CHECKING:
    from rich.console import Console


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
        print(text)

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

    INDENT = 2

    def __init__(self, console: Console):
        self._console = console

    def line(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        broken = [part for line in text.split("\n") for part in self._wrapped(line)]
        self._console.print(Text("\n".join(broken), style=style), soft_wrap=True)

    def _wrapped(self, line: str) -> list[str]:
        indent = len(line) - len(line.lstrip())
        return textwrap.wrap(
            line,
            self._console.width,
            subsequent_indent=" " * (indent + self.INDENT),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        cells, numeric = cells_of(columns, rows)
        table = Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", border_style="dim"
        )
        for name, is_number in zip(columns, numeric, strict=True):
            table.add_column(Text(name), justify="right" if is_number else "left")
        for line in cells:
            table.add_row(*[Text(text, style=_STYLES.get(text, "")) for text in line])
        self._console.print(Padding(table, (0, 0, 0, self.INDENT), expand=False))


_STYLES = {"yes": "green", "no": "yellow", "PASS": "green", "WARN": "yellow", "FAIL": "red"}
