"""The renderer "plot": the figures of a report as matplotlib figures, and in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_pdf import PdfPages

from eigencore.errors import UsageError
from eigencore.options import option
from eigencore_report.figures import draw
from eigencore_report.inline_svg import inline_svg
from eigencore_report.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from eigencore.findings import Report

DPI = 300  # of PNG files


@dataclass(frozen=True)
class PlotOptions:
    """The options of the renderer "plot"."""

    width: float = option(
        3.4, low=1.5, high=20, help="width of a figure in inches", when="set it to the column of your paper"
    )
    height: float | None = option(
        None,
        low=1,
        high=40,
        help="height of a figure in inches; none: one that suits it",
        when="set it if figures must be equally high",
    )
    font_size: float = option(
        8.0, low=4, high=24, help="size of the text in points", when="raise it for slides"
    )
    only: str | None = option(
        None,
        help="draw only figures whose title contains this text; case does not matter",
        when="set it to draw one figure of many",
    )


class Figures(list[Any]):
    """A list of matplotlib figures, which a notebook shows."""

    def _repr_html_(self) -> str:
        with styled(8.0):
            return "\n".join(inline_svg(canvas, f"f{i}", "", "") for i, canvas in enumerate(self))


def plot(report: Report, file: Path | None, options: PlotOptions) -> list[Canvas]:
    """The figures of the report, in its order, each in a matplotlib figure of its own.

    Several figures become the pages of one PDF file, and SVG or PNG files with -1, -2 and so on before the
    suffix.

    Raises:
        UsageError: there is no figure to draw.
        OSError: a file can't be written.
    """
    chosen = [one for one in report.figures if (options.only or "").lower() in one.title.lower()]
    if not chosen:
        titles = ", ".join(repr(figure.title) for figure in report.figures)
        raise UsageError(
            f"no figure has {options.only!r} in its title" if titles else f"{report.title} has no figures",
            hint=f"The figures are {titles}."
            if titles
            else "Eigenvalues (k=1 or more), most analyses, and the looks of a monitor have figures.",
        )
    drawn = Figures(
        draw(figure, options.width, height=options.height, font_size=options.font_size) for figure in chosen
    )
    if file is not None:
        with styled(options.font_size):
            _save(drawn, file)
    return drawn


def _save(figures: Sequence[Canvas], file: Path) -> None:
    if file.suffix.lower() == ".pdf":
        # Without a date, the same result gives the same file.
        with PdfPages(file, metadata={"CreationDate": None}) as pages:
            for figure in figures:
                pages.savefig(figure)
        return
    for number, figure in enumerate(figures, start=1):
        place = file if len(figures) == 1 else file.with_stem(f"{file.stem}-{number}")
        metadata = {"Date": None} if file.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(place, dpi=DPI, metadata=metadata)
