"""Reports of results: figures for a paper, drawn by matplotlib, and one page that opens offline.

style          the colours, line styles, markers and fonts of every figure
curves         scatter plots, lines and bars
grids          matrices as colours, and rows of images
figures        draws one figure of any kind
plot           the renderer "plot": matplotlib figures, saved as PDF, SVG or PNG
inline_svg     a figure as SVG within a page
number_tables  the numbers of a figure as a table
page           the renderer "html": one page, from page.html.jinja and page.css
"""

from __future__ import annotations

from eigencore.entries import RendererEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_renderers() -> list[RendererEntry]:
    return [
        RendererEntry(
            name="plot",
            summary="figures for a paper, drawn by matplotlib",
            load="eigencore_report.plot:plot",
            options="eigencore_report.plot:PlotOptions",
            suffixes=("pdf", "svg", "png"),
            extra="report",
        ),
        RendererEntry(
            name="html",
            summary="one page that opens offline, with every figure and its numbers",
            load="eigencore_report.page:html",
            suffixes=("html", "htm"),
            extra="report",
        ),
    ]
