"""Tables and figures as plain data; they are drawn only when they are displayed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A small table: rows under named columns, as they are printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Reference:
    """A reference line of a figure.

    Attributes:
        axis: "x" or "y": all points with the coordinate `value` on that axis; "diagonal": y = value x.
        value: the coordinate, or the slope.
        label: what the line means; empty: no label.
    """

    axis: str
    value: float
    label: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure as plain data, which is drawn only when it is displayed.

    Attributes:
        kind: one of
            "scatter": points;
            "line": lines, which are interrupted where a number is NaN;
            "bar": horizontal bars, one for each of `labels`; several series are drawn side by side;
            "matrix": a square or rectangular array of numbers, as colours symmetrical about zero;
            "images": stacks of images, a row of images for each series.
        title, x_label, y_label: the title and the labels of the axes. For "bar", `x_label` is that of the
            axis of the numbers.
        series: arrays by name. For "scatter" and "line": "x" (p,) and any number of others (p,), which are
            drawn over it under their names. For "bar": arrays (b,). For "matrix": one array (b, c). For
            "images": arrays (p, height, width) in grey or (p, height, width, 3) in colour.
        bands: the lower and the upper end (p,) of an error band at each "x", or of an error bar at each point
            or bar, under the name of its series. Where an end is NaN, none is drawn.
        atoms: positions and heights of vertical strokes, such as eigenvalues in a density, by name.
        references: reference lines.
        x_scale, y_scale: "linear", "log", or "symlog": logarithmic but for numbers smaller than `linear`.
        linear: where a "symlog" axis is linear, in absolute value.
        labels: the names of the bars, or of the rows and columns of a square matrix; or the captions below
            the columns of images, which may have several lines. Empty for other kinds.
        ranges: the numbers shown as black and white in each series of images. A range (-a, a) is shown in
            colours symmetrical about zero. Without one, the range is that of the finite numbers.
        caption: one or two sentences that say what the figure shows; they are its text alternative, too.

    Example:
        import numpy as np
        from eigencore.figures import Figure, Reference

        x = np.linspace(0.0, 1.0, 5)
        figure = Figure(
            "line", "density", "eigenvalue", "density", {"x": x, "density": x**2},
            bands={"density": (x**2 - 0.1, x**2 + 0.1)}, references=(Reference("x", 0.5, "mean"),),
        )
        print(figure.series["density"], figure.y_scale)
    """

    kind: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Any]
    bands: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    atoms: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    x_scale: str = "linear"
    y_scale: str = "linear"
    linear: float = 1.0
    labels: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    caption: str = ""


WIDE = 30.0  # positive numbers that span a larger factor are drawn on a logarithmic axis
KINDS = ("scatter", "line", "bar", "matrix", "images")
SCALES = ("linear", "log", "symlog")
AXES = ("x", "y", "diagonal")


def fitting_scale(numbers: Iterable[float]) -> str:
    """The scale of an axis on which these numbers can be told apart: "log" or "linear"; NaN is left out.

    Example:
        from eigencore.figures import fitting_scale

        print(fitting_scale([0.1, 20.0]), fitting_scale([-1.0, 20.0]))
    """
    finite = [float(number) for number in numbers if math.isfinite(number)]
    return "log" if finite and min(finite) > 0 and max(finite) > WIDE * min(finite) else "linear"


def check_figure(figure: Figure) -> None:
    """Checks that a figure can be drawn; its arrays are NumPy's.

    Raises:
        ValueError: it can't be drawn; the message names the figure and the fault.

    Example:
        import numpy as np
        from eigencore.figures import Figure, check_figure

        check_figure(Figure("line", "loss", "step", "loss", {"x": np.arange(3), "loss": np.ones(3)}))
    """
    fault = _fault(figure)
    if fault:
        raise ValueError(f"the figure {figure.title!r}: {fault}")


def _fault(figure: Figure) -> str:
    """What keeps a figure from being drawn; empty if nothing does."""
    if figure.kind not in KINDS:
        return f"its kind is {figure.kind!r}; expected one of {', '.join(KINDS)}"
    for scale in (figure.x_scale, figure.y_scale):
        if scale not in SCALES:
            return f"a scale is {scale!r}; expected one of {', '.join(SCALES)}"
    for reference in figure.references:
        if reference.axis not in AXES:
            return f"the axis of a reference is {reference.axis!r}; expected one of {', '.join(AXES)}"
    shapes = {name: tuple(array.shape) for name, array in figure.series.items()}
    drawn = {name: shape for name, shape in shapes.items() if name != "x"}
    if not drawn and not figure.atoms:
        return "it has no series"
    if figure.kind in ("scatter", "line") and "x" not in shapes:
        return "it has no series 'x'"
    fault = _fault_of_shapes(figure, shapes)
    if fault:
        return fault
    for name, (low, high) in figure.bands.items():
        if name not in drawn or not low.shape == high.shape == figure.series[name].shape:
            return f"the band {name!r} does not fit a series of that name"
    different = [name for name, (at, heights) in figure.atoms.items() if at.shape != heights.shape]
    return f"positions and heights of the atoms {different[0]!r} differ in length" if different else ""


def _fault_of_shapes(figure: Figure, shapes: Mapping[str, tuple[int, ...]]) -> str:
    first, count = next(iter(shapes.values()), (0,)), len(figure.labels)
    alike = {shape[:1] for shape in shapes.values()} <= {first[:1]}
    if figure.kind == "images":
        fits = alike and all(
            len(shape) == 3 or (len(shape) == 4 and shape[3] == 3) for shape in shapes.values()
        )
        expected, labelled = "stacks of as many images each", count in (0, first[0])
    elif figure.kind == "matrix":
        fits = len(shapes) == 1 and len(first) == 2
        expected, labelled = "one matrix", count in (0, first[0])
    else:
        fits = alike and all(len(shape) == 1 for shape in shapes.values())
        expected, labelled = "arrays of one length", figure.kind != "bar" or count == first[0]
    if not fits:
        return f"its series have the shapes {shapes}; expected {expected}"
    return "" if labelled else f"it has {count} labels; expected {first[0]}"
