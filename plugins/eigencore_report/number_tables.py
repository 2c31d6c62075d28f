"""The numbers of a figure as a table: what was drawn, for readers who need the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eigencore.figures import Figure, Table


def tables_of(figure: Figure) -> dict[str, Table]:
    """The numbers of a figure as tables by name; none for images, whose range is drawn beside them."""
    if figure.kind == "images":
        return {}
    if figure.kind == "matrix":
        return {figure.title: _matrix(figure)}
    found = {figure.title: _table(_columns(figure))} if figure.series else {}
    for name, (at, heights) in figure.atoms.items():
        found[name] = _table({figure.x_label or "x": at, figure.y_label or "height": heights})
    return found


def _columns(figure: Figure) -> dict[str, Any]:
    """The columns of a figure with one axis in common: x or the labels, each series, and its band."""
    columns: dict[str, Any] = {}
    if figure.kind == "bar":
        columns[figure.y_label or "name"] = list(figure.labels)
    else:
        columns[figure.x_label or "x"] = figure.series["x"]
    for name, values in figure.series.items():
        if name == "x":
            continue
        columns[name if name not in columns else f"{name} (drawn)"] = values
        if name in figure.bands:
            columns[f"{name}, lower end"], columns[f"{name}, upper end"] = figure.bands[name]
    return columns


def _matrix(figure: Figure) -> Table:
    matrix = np.asarray(next(iter(figure.series.values())))
    rows = figure.labels or tuple(map(str, range(1, matrix.shape[0] + 1)))
    square = matrix.shape[0] == matrix.shape[1]
    columns = rows if square else tuple(map(str, range(1, matrix.shape[1] + 1)))
    return Table(("", *columns), tuple((name, *_plain(row)) for name, row in zip(rows, matrix, strict=True)))


def _table(columns: Mapping[str, Any]) -> Table:
    return Table(tuple(columns), tuple(zip(*map(_plain, columns.values()), strict=True)))


def _plain(values: Any) -> list[Any]:
    if isinstance(values, list):
        return values
    return [None if isinstance(one, float) and one != one else one for one in np.asarray(values).tolist()]
