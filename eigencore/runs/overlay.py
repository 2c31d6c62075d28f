"""Figures of several runs as one, with the series of each run under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eigencore.figures import Figure

OVERLAID = ("line", "scatter", "bar")  # kinds of figures whose series can share axes
MOST_SERIES = 6  # of an overlaid figure, as many as a reader can tell apart


def overlaid(figures: Mapping[str, Sequence[Figure]]) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """Figures of one title, kind and axes of several runs as one figure, whose series are named by the run.

    A figure that only one run has is left out. Atoms are left out if there would be too many series with
    them.

    Returns:
        The figures, and the titles of those that would have too many series to be read.
    """
    groups: dict[tuple[str, ...], dict[str, Figure]] = {}
    for name, own in figures.items():
        for figure in own:
            if figure.kind in OVERLAID:
                key = (figure.title, figure.kind, figure.x_label, figure.y_label)
                groups.setdefault(key, {}).setdefault(name, figure)
    found, left_out = [], []
    for (title, *_), members in groups.items():
        series = sum(len([one for one in figure.series if one != "x"]) for figure in members.values())
        if len(members) < 2:
            continue
        if series > MOST_SERIES:
            left_out.append(title)
        elif series + sum(len(one.atoms) for one in members.values()) > MOST_SERIES:
            found.append(_together({name: replace(one, atoms={}) for name, one in members.items()}))
        else:
            found.append(_together(members))
    return tuple(found), tuple(left_out)


def _together(members: Mapping[str, Figure]) -> Figure:
    first = next(iter(members.values()))
    axes = [figure.labels if figure.kind == "bar" else figure.series["x"] for figure in members.values()]
    lengths = [len(axis) for axis in axes]
    series: dict[str, Any] = {} if first.kind == "bar" else {"x": np.concatenate(axes)}
    bands: dict[str, tuple[Any, Any]] = {}
    atoms: dict[str, tuple[Any, Any]] = {}
    start = 0
    labels = tuple(dict.fromkeys(label for axis in axes for label in axis)) if first.kind == "bar" else ()
    for (name, figure), length in zip(members.items(), lengths, strict=True):
        place: Any = slice(start, start + length)
        total = sum(lengths)
        if first.kind == "bar":
            place, total = [labels.index(label) for label in figure.labels], len(labels)
        own = [one for one in figure.series if one != "x"]
        for one in own:
            label = name if len(own) == 1 else f"{name}: {one}"
            series[label] = _placed(figure.series[one], place, total)
            if one in figure.bands:
                low, high = figure.bands[one]
                bands[label] = (_placed(low, place, total), _placed(high, place, total))
        for one, atom in figure.atoms.items():
            atoms[name if not own else f"{name}: {one}"] = atom
        start += length
    scales = {(figure.x_scale, figure.y_scale) for figure in members.values()}
    shared = scales == {(first.x_scale, first.y_scale)}
    return replace(
        first,
        series=series,
        bands=bands,
        atoms=atoms,
        labels=labels,
        references=tuple(
            one for one in first.references if all(one in other.references for other in members.values())
        ),
        x_scale=first.x_scale if shared else "linear",
        y_scale=first.y_scale if shared else "linear",
        linear=min(figure.linear for figure in members.values()),
        caption=f"{first.title} of {', '.join(members)}.",
    )


def _placed(values: Any, place: Any, total: int) -> Any:
    """The values at their places among those of all runs; NaN, where nothing is drawn, elsewhere."""
    found = np.full(total, np.nan)
    found[place] = values
    return found
