"""Matrices as colours, and rows of images, each with its scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore_report.style import DARK, DIVERGING, SEQUENTIAL, distinct, literal, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.image import AxesImage

    from eigencore.figures import Figure

FEW_CELLS = 8  # a matrix with at most so many columns shows its numbers in its cells
FEW_LABELS = 30
SHORT = 4  # characters of a label that needs not be turned
MOST_LETTERS = 24  # of the name of a row
TITLE_ROOM = 0.42  # inches above the images
CAPTION_ROOM = 0.17  # inches for a line below them
LETTER, CAPTION_LETTER = 0.075, 0.055  # inches of a letter in the name of a row, and in a caption
SCALE_ROOM = 0.6  # inches for the scales
SMALLEST_SIDE, LARGEST_SIDE = 0.35, 1.2  # inches of an image


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
            shade = "white" if abs(value) > 0.6 * largest else DARK
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=shade, fontsize="x-small")
    labels = distinct(figure.labels, MOST_LETTERS)
    if labels and rows <= FEW_LABELS:
        axes.set_yticks(range(rows), labels)
        if rows == columns:
            axes.set_xticks(range(columns), labels, rotation=90 if max(map(len, labels)) > SHORT else 0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)


def draw_images(figure: Figure, canvas: Canvas) -> None:
    """Draws a row of images for each series, on a canvas of the height `images_height`.

    If their captions would touch, the images are divided over several bands, one below the other.
    """
    width, height = (float(side) for side in canvas.get_size_inches())
    side, each = _side(figure, width), _columns(figure, width)
    scaled = {
        name: _scaled(np.asarray(stack, dtype=np.float64), figure.ranges.get(name))
        for name, stack in figure.series.items()
    }
    for start in range(0, _count(figure), each):
        top = height - TITLE_ROOM - (start // each) * _band_height(figure, side)
        shown = range(start, min(start + each, _count(figure)))
        for row, (name, (stack, how)) in enumerate(scaled.items(), start=1):
            bottom, left = top - row * side, _names_room(figure)
            for position, index in enumerate(shown):
                axes = _placed(canvas, left + position * side, bottom, 0.94 * side, 0.94 * side)
                axes.set(xticks=[], yticks=[])
                image = axes.imshow(stack[index], interpolation="none", aspect="equal", **how)
                for edge in axes.spines.values():
                    edge.set_visible(True)
                if position == 0:
                    axes.set_ylabel(literal(name, MOST_LETTERS), rotation=0, ha="right", va="center")
                if row == len(scaled) and figure.labels:
                    axes.set_xlabel(literal(figure.labels[index]), fontsize="small")
            if "vmin" in how:
                _draw_scale(
                    canvas, image, _placed(canvas, left + len(shown) * side, bottom, 0.08, 0.94 * side)
                )
    canvas.text(0.02, 1 - 0.16 / height, wrapped(figure.title, width, 9.0), va="top")


def images_height(figure: Figure, width: float) -> float:
    """The height in inches of a figure of images that is so wide."""
    bands = -(-_count(figure) // _columns(figure, width))
    return TITLE_ROOM + bands * _band_height(figure, _side(figure, width))


def _placed(canvas: Canvas, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    whole_width, whole_height = canvas.get_size_inches()
    return canvas.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def _draw_scale(canvas: Canvas, image: AxesImage, axes: Axes) -> None:
    low, high = image.get_clim()
    bar = canvas.colorbar(image, cax=axes)
    bar.set_ticks([low, high], labels=[f"{low:.2g}", f"{high:.2g}"])
    lowest, highest = bar.ax.get_yticklabels()
    lowest.set_verticalalignment("bottom")  # within the row, so that they do not touch those of the next one
    highest.set_verticalalignment("top")
    bar.outline.set_visible(False)


def _count(figure: Figure) -> int:
    return len(next(iter(figure.series.values())))


def _columns(figure: Figure, width: float) -> int:
    """How many images fit beside one another, with their captions."""
    longest = max((len(line) for label in figure.labels for line in label.split("\n")), default=0)
    least = max(CAPTION_LETTER * (longest + 1), SMALLEST_SIDE)
    fit = max(1, int((width - _names_room(figure) - SCALE_ROOM) / least))
    bands = -(-_count(figure) // fit)
    return -(-_count(figure) // bands)  # as many in each band


def _side(figure: Figure, width: float) -> float:
    """The side of an image in inches, with the space beside it."""
    return min((width - _names_room(figure) - SCALE_ROOM) / _columns(figure, width), LARGEST_SIDE)


def _band_height(figure: Figure, side: float) -> float:
    lines = max((label.count("\n") + 1 for label in figure.labels), default=0)
    return len(figure.series) * side + lines * CAPTION_ROOM + 0.1


def _names_room(figure: Figure) -> float:
    """The inches that the names of the rows need."""
    return 0.15 + LETTER * min(MOST_LETTERS, max(map(len, figure.series)))


def _scaled(stack: Any, limits: tuple[float, float] | None) -> tuple[Any, dict[str, Any]]:
    """The images as they are drawn, and how: grey or diverging by their range, colours from 0 to 1."""
    finite = stack[np.isfinite(stack)]
    low, high = limits or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    if stack.ndim == 4:
        return np.clip((stack - low) / (high - low), 0.0, 1.0), {}
    symmetrical = limits is not None and low == -high
    return stack, {"cmap": DIVERGING if symmetrical else SEQUENTIAL, "vmin": low, "vmax": high}
