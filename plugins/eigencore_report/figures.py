"""Draws one figure, of any kind, with matplotlib; no state of matplotlib is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Canvas

from eigencore.figures import check_figure
from eigencore_report.curves import draw_bars, draw_curves
from eigencore_report.grids import draw_images, draw_matrix, images_height
from eigencore_report.style import styled, wrapped

if TYPE_CHECKING:
    from eigencore.figures import Figure

RATIO = 0.72  # height by width
BAR_HEIGHT = 0.19  # inches for each bar
FRAME_HEIGHT = 1.3  # inches for the title and the axis of a figure of bars


def draw(figure: Figure, width: float, *, height: float | None = None, font_size: float = 8.0) -> Canvas:
    """A figure of matplotlib.

    Args:
        width, height: in inches; None: a height that suits the figure.
        font_size: in points.

    Raises:
        ValueError: the figure can't be drawn, as in `eigencore.figures.check_figure`.
    """
    check_figure(figure)
    with styled(font_size):
        size = (width, height or suitable_height(figure, width))
        if figure.kind == "images":
            canvas = Canvas(figsize=size)
            draw_images(figure, canvas)
            return canvas
        canvas = Canvas(figsize=size, layout="constrained")
        title = wrapped(figure.title, width, font_size)
        canvas.suptitle(title, x=0.01, horizontalalignment="left", fontsize=font_size)
        axes = canvas.add_subplot()
        axes.set_xlabel(wrapped(figure.x_label, 0.85 * width, font_size))
        axes.set_ylabel(wrapped(figure.y_label, 0.8 * size[1], font_size))
        if figure.kind == "matrix":
            draw_matrix(figure, axes)
        elif figure.kind == "bar":
            draw_bars(figure, axes)
        else:
            draw_curves(figure, axes)
        return canvas


def suitable_height(figure: Figure, width: float) -> float:
    """The height in inches that suits a figure of this width."""
    if figure.kind == "images":
        return images_height(figure, width)
    if figure.kind == "bar":
        return FRAME_HEIGHT + BAR_HEIGHT * len(figure.labels) * max(1.0, 0.7 * len(figure.series))
    return (0.95 if figure.kind == "matrix" else RATIO) * width
