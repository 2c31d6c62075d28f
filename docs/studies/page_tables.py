"""Tables and pictures of the pages of studies: drawn from the rows of a study, and written between marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import eigencore
from eigencore.figures import Figure
from eigencore.findings import AnalysisResult, Report


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; numbers are rounded to three significant digits, a missing one is a dash."""
    lines = [columns, ["---"] * len(columns), *([cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """A value as text."""
    if value is None or value != value:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:.3g}"


def rho(value: float | None) -> str:
    """A correlation with two decimals and its sign."""
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value with as many digits as a reader compares."""
    if value is None:
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}"


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text of a page with each part between its marks, `<!-- NAME -->` and `<!-- end of NAME -->`."""
    for name, part in parts.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text, count = marked.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"the page has {count} places for the part {name}; expected one")
    return text


def write(page: Path, parts: Mapping[str, str]) -> None:
    """Writes the parts into the page."""
    page.write_text(filled(page.read_text(), parts))


def pictured(page: Path, figures: Sequence[Figure]) -> str:
    """The pictures of the page as Markdown, each with its caption as its text alternative and below it."""
    files = [picture(page, number).name for number in range(1, len(figures) + 1)]
    return "\n\n".join(
        f"![{figure.caption}]({file})\n\n{figure.caption}"
        for file, figure in zip(files, figures, strict=True)
    )


def picture(page: Path, number: int) -> Path:
    """The file of a picture of the page."""
    return page.with_name(f"{page.stem}-{number}.svg")


def draw(page: Path, figures: Sequence[Figure]) -> None:
    """Draws the pictures of the page."""
    report = Report(page.stem, (), {"study": AnalysisResult(verdict="", figures=tuple(figures))})
    for number, figure in enumerate(figures, start=1):
        eigencore.render(report, "plot", picture(page, number), width=4.6, only=figure.title)
