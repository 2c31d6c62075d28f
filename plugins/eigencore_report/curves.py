"""Scatter plots, lines and bars on the axes of matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rcParams
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from eigencore_report.style import COLOURS, HATCHES, INK, LINE_STYLES, MARKERS, MUTED, distinct, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eigencore.figures import Figure

DOTTED = (0, (1, 1.5))
FEW_POINTS = 25  # lines through at most so many points show them as markers
MANY_POINTS = 1500  # scatter plots of more points are an image within a vector figure
LONG_NAME = 40  # characters of a name in a legend
LONG_LABEL = 26  # characters of a label of a bar, beyond which its middle is left out
BAR_SPACE = 0.8  # of the distance between two bars
DECADES = 7  # of a logarithmic axis below the largest number
MOST_TICKS = 3  # on each side of a "symlog" axis


def draw_curves(figure: Figure, axes: Axes) -> None:
    """Draws the series of a scatter plot or of lines, with bands, atoms and references."""
    names = [name for name in figure.series if name != "x"]
    x = np.asarray(figure.series["x"], dtype=np.float64)
    _set_scales(figure, axes)
    for index, name in enumerate(names):
        y = np.asarray(figure.series[name], dtype=np.float64)
        _draw_band(figure, axes, x, name, index)
        _draw_series(figure, axes, x, y, name, index)
    _set_ticks(figure, axes)
    beside = [axes]
    if figure.atoms:
        # The weight of an eigenvalue and a density have different units, and an axis each.
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        right.set_ylabel("weight")
        for index, (name, (at, heights)) in enumerate(figure.atoms.items(), start=len(names)):
            _draw_atoms(right, np.asarray(at), np.asarray(heights), name, index)
        tops = [float(np.nanmax(heights, initial=0.0)) for _, heights in figure.atoms.values()]
        right.set_ylim(0.0, 1.5 * max(tops) or 1.0)
        right.yaxis.set_major_locator(MaxNLocator(3))
        right.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        beside.append(right)
    _draw_references(figure, axes)
    _add_legend(figure, beside, len(names) + len(figure.atoms))


def draw_bars(figure: Figure, axes: Axes) -> None:
    """Draws horizontal bars, the first at the top, with error bars."""
    count, positions = len(figure.series), np.arange(len(figure.labels), dtype=np.float64)
    width = BAR_SPACE / count
    _set_scales(figure, axes)
    for index, (name, values) in enumerate(figure.series.items()):
        values = np.asarray(values, dtype=np.float64)
        at = positions + (index - (count - 1) / 2) * width
        colour = COLOURS[index % len(COLOURS)]
        axes.barh(
            at,
            values,
            height=width,
            color=colour,
            alpha=0.85,
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="white" if HATCHES[index % len(HATCHES)] else colour,
            linewidth=0.0,
            label=_named(name),
        )
        if name in figure.bands:
            low, high = (np.asarray(end, dtype=np.float64) for end in figure.bands[name])
            errors = np.maximum(0.0, np.stack([values - low, high - values]))
            axes.errorbar(values, at, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.8)
    axes.set_yticks(positions, distinct(figure.labels, LONG_LABEL))
    axes.set_ylim(len(positions) - 0.4, -0.6)  # the first bar at the top
    axes.tick_params(axis="y", length=0)
    _set_ticks(figure, axes)
    _draw_references(figure, axes)
    _add_legend(figure, [axes], count)


def _set_scales(figure: Figure, axes: Axes) -> None:
    both = (figure.x_scale, axes.set_xscale, _on_x(figure)), (figure.y_scale, axes.set_yscale, _on_y(figure))
    for scale, choose, numbers in both:
        if scale == "symlog":
            choose("symlog", linthresh=figure.linear, linscale=0.7)
        elif scale == "log" and any((np.isfinite(one) & (one > 0)).any() for one in numbers):
            # A bar begins at zero, beyond the left end of its axis; a point or a line there is left out.
            choose("log", nonpositive="clip" if figure.kind == "bar" else "mask")
        else:  # without a positive number there is no logarithmic axis
            choose("linear")
    x = np.asarray(figure.series.get("x", np.empty(0)))
    # Ranks and counts have no halves.
    if figure.x_scale == "linear" and x.size and x.dtype.kind in "iu":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(x) == 1:
            axes.set_xlim(x[0] - 1, x[0] + 1)


def _on_x(figure: Figure) -> list[Any]:
    """The numbers along the horizontal axis."""
    if figure.kind == "bar":
        return [np.asarray(values, dtype=np.float64) for values in figure.series.values()]
    strokes = [at for at, _ in figure.atoms.values()]
    return [np.asarray(values, dtype=np.float64) for values in (figure.series["x"], *strokes)]


def _on_y(figure: Figure) -> list[Any]:
    return [np.asarray(values, dtype=np.float64) for name, values in figure.series.items() if name != "x"]


def _set_ticks(figure: Figure, axes: Axes) -> None:
    """Few ticks on logarithmic axes, whose labels do not touch, and no more decades than matter."""
    if axes.get_yscale() == "log" and figure.kind == "line":
        _cut_tiny_numbers(figure, axes)
    for scale, axis in ((figure.x_scale, axes.xaxis), (figure.y_scale, axes.yaxis)):
        if scale == "symlog":
            low, high = axis.get_view_interval()
            axis.set_major_locator(FixedLocator(_symlog_ticks(float(low), float(high), figure.linear)))
            axis.set_minor_locator(NullLocator())


def _cut_tiny_numbers(figure: Figure, axes: Axes) -> None:
    """Ends the axis where numbers are too small to matter: the tails of a smoothed density never end."""
    positive = [part[np.isfinite(part) & (part > 0)] for part in _on_y(figure)]
    largest = max((float(part.max()) for part in positive if len(part)), default=1.0)
    smallest = largest * 10.0**-DECADES
    if axes.get_ylim()[0] < smallest:
        axes.set_ylim(smallest, 3 * largest)


def _symlog_ticks(low: float, high: float, linear: float) -> list[float]:
    """Zero and powers of ten beyond the linear part, so few that their labels fit."""
    first = math.ceil(math.log10(linear) + 0.3)  # a power closer to the linear part would touch the zero
    ticks = [0.0] if low <= 0 <= high else []
    for sign, end in ((1.0, high), (-1.0, -low)):
        if end <= 0:
            continue
        last = math.floor(math.log10(end) + 1e-9)
        step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
        # From the largest one inwards, which is the one that readers look for.
        ticks += [sign * 10.0**power for power in range(last, first - 1, -step)]
    return sorted(ticks)


def _draw_series(figure: Figure, axes: Axes, x: Any, y: Any, name: str, index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    if figure.kind == "line":
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=LINE_STYLES[index % len(LINE_STYLES)],
            marker=marker if len(x) <= FEW_POINTS else "",
            label=_named(name),
        )
        return
    few = len(x) <= 2 * FEW_POINTS
    axes.plot(
        x,
        y,
        linestyle="",
        marker=marker,
        markersize=4.0 if few else 2.6,
        # The second series is hollow, so that it does not hide the first one.
        markerfacecolor="none" if index % 2 else colour,
        markeredgecolor=colour,
        markeredgewidth=0.7 if index % 2 else 0.0,
        alpha=1.0 if few else 0.65,
        rasterized=len(x) > MANY_POINTS,
        label=_named(name),
    )


def _draw_band(figure: Figure, axes: Axes, x: Any, name: str, index: int) -> None:
    if name not in figure.bands:
        return
    low, high = (np.asarray(end, dtype=np.float64) for end in figure.bands[name])
    colour = COLOURS[index % len(COLOURS)]
    if figure.kind == "line":
        axes.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
        return
    y = np.asarray(figure.series[name], dtype=np.float64)
    errors = np.maximum(0.0, np.stack([y - low, high - y]))
    axes.errorbar(x, y, yerr=errors, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.8)


def _draw_atoms(axes: Axes, at: Any, heights: Any, name: str, index: int) -> None:
    """Draws strokes from the bottom of the axis, and a mark at their heights."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    axes.vlines(at, 0.0, heights, color=colour, linewidth=0.9)
    axes.plot(at, heights, linestyle="", marker=marker, color=colour, label=_named(name))


def _draw_references(figure: Figure, axes: Axes) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    labels = [one.label for one in figure.references if one.label]
    for one in figure.references:
        # Lines that the legend names differ from one another; the others are alike.
        style = LINE_STYLES[(labels.index(one.label) + 1) % len(LINE_STYLES)] if one.label else DOTTED
        how: dict[str, Any] = {"color": MUTED, "linewidth": 0.8, "zorder": 0.5}
        how |= {"linestyle": style, "label": _named(one.label) or None}
        if one.axis == "x":
            axes.axvline(one.value, **how)
        elif one.axis == "y":
            axes.axhline(one.value, **how)
        else:
            _draw_diagonal(axes, one.value, limits, how)


def _draw_diagonal(axes: Axes, slope: float, limits: Any, how: dict[str, Any]) -> None:
    (left, right), (bottom, top) = limits
    log = "log" in (axes.get_xscale(), axes.get_yscale())
    x = np.geomspace(left, right, 50) if log and left > 0 else np.linspace(left, right, 50)
    axes.plot(x, slope * x, scalex=False, scaley=False, **how)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _add_legend(figure: Figure, beside: Sequence[Axes], count: int) -> None:
    """A legend, unless the only thing that it would name is the label of an axis."""
    found = [one for axes in beside for one in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles, labels = [handle for handle, _ in found], [label for _, label in found]
    if not handles or (count == 1 and len(handles) == 1 and labels[0] in (figure.y_label, figure.x_label)):
        return
    if figure.kind != "bar" and not figure.atoms:
        beside[0].legend(handles, labels, loc="best")
        return
    canvas: Any = beside[0].figure  # bars and strokes leave no empty corner
    size = float(rcParams["legend.fontsize"])
    each = (max(map(len, labels)) * 0.6 * size + 5 * size) / 72  # inches of a name with its patch
    columns = max(1, min(len(labels), int(canvas.get_figwidth() / each)))
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns)


def _named(name: str) -> str:
    """A name as it stands in a legend, which leaves out those that begin with an underscore."""
    shown = literal(name, LONG_NAME)
    return f" {shown}" if name.startswith("_") else shown
