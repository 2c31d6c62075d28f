"""Where text goes: a terminal, in rich's tables and colours, or a file or pipe, in plain columns."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Page(Protocol):
    """What text is written on. `style` is rich's, and means nothing where there are no colours."""

    def line(self, text: str = "", style: str = "") -> None: ...
    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Rows under their columns; a column of numbers is flush right."""


def page() -> Page:
    """The page that stdout is."""
    if not sys.stdout.isatty():
        return Plain()
    from rich.console import Console

    return Terminal(Console(file=sys.stdout))


class Plain:
    """Lines as they are, however long: whoever reads them may be a program."""

    def line(self, text: str = "", style: str = "") -> None:
        print(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        cells, right = _laid_out(columns, rows)
        lines = [list(columns), *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                text.rjust(width) if flush else text.ljust(width)
                for text, width, flush in zip(line, widths, right, strict=True)
            ]
            print("  " + "   ".join(padded).rstrip())


class Terminal:
    """Lines broken between words, and continued under an indent."""

    INDENT = 2

    def __init__(self, console: Console):
        self._console = console

    def line(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        broken = [part for whole in text.split("\n") for part in self._broken(whole)]
        self._console.print(Text("\n".join(broken), style=style), soft_wrap=True)

    def _broken(self, line: str) -> list[str]:
        own = len(line) - len(line.lstrip())
        return textwrap.wrap(
            line,
            self._console.width,
            subsequent_indent=" " * (own + self.INDENT),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        cells, right = _laid_out(columns, rows)
        table = Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", border_style="dim"
        )
        for name, flush in zip(columns, right, strict=True):
            table.add_column(Text(name), justify="right" if flush else "left")
        for line in cells:
            table.add_row(*[Text(text, style=_STYLES.get(text, "")) for text in line])
        self._console.print(Padding(table, (0, 0, 0, self.INDENT), expand=False))


_STYLES = {"yes": "green", "no": "yellow", "PASS": "green", "WARN": "yellow", "FAIL": "red"}


def cell(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def aligned(values: Sequence[float], digits: int) -> list[str]:
    """A column of numbers with their points below each other.

    The largest shows that many significant digits, the smallest half as many; where that takes too many, all
    are in powers of ten. Zeros that all have at the end are left out.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return [f"{value:g}" for value in values]
    large, small = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    decimals = max(0, digits - 1 - large, digits // 2 - 1 - small)
    if max(decimals, large) > digits + 3 or large - small > digits:
        return [f"{value:.{digits - 1}e}" for value in values]
    texts = [f"{value:.{decimals}f}" for value in values]
    spare = min(len(text) - len(text.rstrip("0")) for text in texts) if decimals else 0
    return [text[: len(text) - spare].rstrip(".") if spare else text for text in texts]


def _laid_out(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> tuple[list[list[str]], list[bool]]:
    """The cells as text, and whether each column is one of numbers."""
    texts = [_texts(column) for column in zip(*rows, strict=True)]
    if not texts:
        return [], [False] * len(columns)
    cells = [list(row) for row in zip(*texts, strict=True)]
    return cells, [all(map(_is_number, column)) for column in texts]


def _texts(column: Sequence[Any]) -> list[str]:
    """A column as text; its floats with as many decimals as any has: their points stand below each other."""
    texts = [cell(value) for value in column]
    floats = [isinstance(value, float) and "e" not in text for value, text in zip(column, texts, strict=True)]
    fractions = [text.partition(".")[2] for text, plain in zip(texts, floats, strict=True) if plain]
    decimals = max(map(len, fractions), default=0)
    return [
        f"{value:.{decimals}f}" if plain else text
        for value, text, plain in zip(column, texts, floats, strict=True)
    ]


def _is_number(text: str) -> bool:
    try:
        float(text.removeprefix("<"))
    except ValueError:
        return text == "-"
    return True
