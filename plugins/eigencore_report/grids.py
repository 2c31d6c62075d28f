"""Matrices as colours, and rows of images, each with its scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore_report.style import DIVERGING, INK, SEQUENTIAL, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from eigencore.figures import Figure

FEW_CELLS = 8  # a matrix with at most so many columns shows its numbers in its cells
FEW_LABELS = 30
TITLE_ROOM = 0.42  # inches above the images
CAPTION_ROOM = 0.17  # inches for a line below them
NAME_ROOM = 0.95  # inches for the names of the rows
SCALE_ROOM = 0.75  # inches for the scales


def draw_matrix(figure: Figure, axes: Axes) -> None:
    """Draws a matrix as colours that are symmetrical about zero, with its scale beside it."""
    matrix = np.asarray(next(iter(figure.series.values())), dtype=np.float64)
    largest = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0)) or 1.0
    image = axes.imshow(
        matrix, cmap=DIVERGING, vmin=-largest, vmax=largest, aspect="equal", interpolation="none"
    )
    rows, columns = matrix.shape
    if max(rows, columns) <= FEW_CELLS:
        for (row, column), value in np.ndenumerate(matrix):
            shade = "white" if abs(value) > 0.6 * largest else INK
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=shade, fontsize="x-small")
    labels = [literal(label) for label in figure.labels]
    if labels and rows <= FEW_LABELS:
        axes.set_yticks(range(rows), labels)
        if rows == columns:
            axes.set_xticks(range(columns), labels, rotation=90)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)


def draw_images(figure: Figure, canvas: Canvas) -> None:
    """Draws a row of images for each series, on a canvas of the height `images_height`."""
    count = len(next(iter(figure.series.values())))
    width, height = (float(side) for side in canvas.get_size_inches())
    side = _side(width, count)
    for row, (name, stack) in enumerate(figure.series.items()):
        top = height - TITLE_ROOM - (row + 1) * side
        shown, how = _scaled(np.asarray(stack, dtype=np.float64), figure.ranges.get(name))
        for column in range(count):
            place = (
                (NAME_ROOM + column * side) / width,
                top / height,
                0.94 * side / width,
                0.94 * side / height,
            )
            axes = canvas.add_axes(place, xticks=[], yticks=[])
            image = axes.imshow(shown[column], interpolation="none", aspect="equal", **how)
            for edge in axes.spines.values():
                edge.set_visible(True)
            if column == 0:
                axes.set_ylabel(literal(name), rotation=0, ha="right", va="center")
            if row == len(figure.series) - 1 and figure.labels:
                axes.set_xlabel(literal(figure.labels[column]), fontsize="small")
        if "vmin" in how:
            place = ((NAME_ROOM + count * side) / width, top / height, 0.08 / width, 0.94 * side / height)
            scale = canvas.add_axes(place)
            bar = canvas.colorbar(image, cax=scale)
            bar.set_ticks([how["vmin"], how["vmax"]], labels=[f"{how['vmin']:.2g}", f"{how['vmax']:.2g}"])
            bar.outline.set_visible(False)
    canvas.text(0.02, 1 - 0.16 / height, literal(figure.title), va="top")


def images_height(figure: Figure, width: float) -> float:
    """The height in inches of a figure of images that is so wide."""
    count = len(next(iter(figure.series.values())))
    lines = max((label.count("\n") + 1 for label in figure.labels), default=0)
    return TITLE_ROOM + len(figure.series) * _side(width, count) + lines * CAPTION_ROOM + 0.1


def _side(width: float, count: int) -> float:
    """The side of an image in inches, with the space beside it."""
    return min((width - NAME_ROOM - SCALE_ROOM) / count, 1.2)


def _scaled(stack: Any, limits: tuple[float, float] | None) -> tuple[Any, dict[str, Any]]:
    """The images as they are drawn, and how: grey or diverging by their range, colours from 0 to 1."""
    finite = stack[np.isfinite(stack)]
    low, high = limits or (float(finite.min(initial=0.0)), float(finite.max(initial=0.0)))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    if stack.ndim == 4:
        return np.clip((stack - low) / (high - low), 0.0, 1.0), {}
    symmetrical = limits is not None and low == -high
    return stack, {"cmap": DIVERGING if symmetrical else SEQUENTIAL, "vmin": low, "vmax": high}
