"""The renderer "html": a report as one page that opens offline and needs no script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from eigencore.number_text import as_text, cells_of
from eigencore_report.figures import draw
from eigencore_report.inline_svg import inline_svg
from eigencore_report.number_tables import tables_of
from eigencore_report.style import styled

if TYPE_CHECKING:
    from pathlib import Path

    from eigencore.figures import Figure, Table
    from eigencore.findings import AnalysisResult, Report

WIDTH, WIDE, FONT_SIZE = 4.8, 7.2, 9.0  # inches, and points, of the figures on the page
MOST_ROWS = 1000  # of a table
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # and halves of characters
OWN_ANCHORS = ("verdict", "how-it-was-made", "how-to-cite")


@dataclass(frozen=True)
class Cells:
    """A table as text, as the page shows it.

    Attributes:
        numeric: whether each column consists of numbers.
        more: how many rows are left out.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    numeric: list[bool]
    more: int


@dataclass(frozen=True)
class Drawing:
    """A figure as the page shows it, with its numbers."""

    svg: Markup
    title: str
    caption: str
    wide: bool
    numbers: tuple[Cells, ...]


@dataclass(frozen=True)
class Part:
    """One part of the report, as the page shows it."""

    anchor: str
    name: str
    result: AnalysisResult
    first: tuple[Cells, ...]
    further: tuple[Cells, ...]
    numbers: Mapping[str, str]
    drawings: tuple[Drawing, ...]

    @property
    def heading(self) -> str:
        """The name with a capital letter."""
        return f"{self.name[:1].upper()}{self.name[1:]}"

    @property
    def has_content(self) -> bool:
        """Whether there is more to show than the verdict and the warnings, which stand at the top."""
        return any((self.first, self.further, self.numbers, self.drawings, self.result.remarks))


def html(report: Report, file: Path | None, options: Any) -> str:
    """The page as text. It holds all that it shows; whatever comes from the result is escaped.

    Raises:
        OSError: the file can't be written.
    """
    parts, used = [], set(OWN_ANCHORS)
    for name, result in report.parts.items():
        anchor = _anchor(name, used)
        parts.append(_part(anchor, name, result))
    files = resources.files(__package__)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    template = environment.from_string((files / "page.html.jinja").read_text(encoding="utf-8"))
    text = template.render(
        report=report,
        parts=parts,
        style=Markup((files / "page.css").read_text(encoding="utf-8")),
        version=metadata.version("eigencore"),
    )
    if file is not None:
        file.write_text(text, encoding="utf-8")
    return text


def _without_controls(value: Any) -> Any:
    """Text without the characters that HTML does not allow."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", value)


def _part(anchor: str, name: str, result: AnalysisResult) -> Part:
    # What the screen shows, and whether checks passed, on which the verdict depends.
    checks = {title for title, table in result.tables.items() if "outcome" in table.columns}
    shown = {*(result.tables if result.shown is None else result.shown), *checks}
    tables = {title: _cells(title, table) for title, table in result.tables.items()}
    return Part(
        anchor,
        name,
        result,
        tuple(tables[title] for title in result.tables if title in shown),
        tuple(tables[title] for title in result.tables if title not in shown),
        {number: as_text(value) for number, value in result.numbers.items()},
        tuple(_drawing(f"{anchor}-{i}", figure) for i, figure in enumerate(result.figures, start=1)),
    )


def _drawing(prefix: str, figure: Figure) -> Drawing:
    wide = figure.kind == "images"
    # Text is kept as text, which a reader can search and select.
    with styled(FONT_SIZE, keep_text=True):
        svg = inline_svg(
            draw(figure, WIDE if wide else WIDTH, font_size=FONT_SIZE), prefix, figure.title, figure.caption
        )
    numbers = tuple(_cells(title, table) for title, table in tables_of(figure).items())
    return Drawing(Markup(svg), figure.title, figure.caption, wide, numbers)


def _cells(title: str, table: Table) -> Cells:
    rows, numeric = cells_of(table.columns, table.rows[:MOST_ROWS])
    return Cells(title, table.columns, rows, numeric, max(0, len(table.rows) - MOST_ROWS))


def _anchor(name: str, used: set[str]) -> str:
    """A name for links within the page, which begins with a letter and is given once."""
    wanted = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    base = wanted if wanted[:1].isalpha() else f"part-{wanted}".rstrip("-")
    found, number = base, 1
    while found in used:
        number += 1
        found = f"{base}-{number}"
    used.add(found)
    return found
