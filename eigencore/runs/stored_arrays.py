"""The arrays of a run's analyses that are stored in `arrays.npz`: columns, and the images of figures.

The JSON object has the names of the columns and, in place of a stack of images, its name in `arrays.npz`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from eigencore.figures import Figure
from eigencore.results import AnalysisResult


def stored_arrays(name: str, result: AnalysisResult) -> dict[str, Any]:
    """The arrays of the analysis of this name, by their names in `arrays.npz`."""
    images = {place: figure.series[series] for place, figure, series in _images(name, result)}
    return {**{f"{name}/{column}": values for column, values in result.columns.items()}, **images}


def without_arrays(name: str, result: AnalysisResult) -> AnalysisResult:
    """The result for the JSON object: without columns, and with the place of each stack of images."""
    return replace(
        result,
        columns={},
        figures=tuple(
            replace(figure, series={series: _place(name, i, series) for series in figure.series})
            if figure.kind == "images"
            else figure
            for i, figure in enumerate(result.figures)
        ),
    )


def with_images(figure: Figure, stored: Mapping[str, Any]) -> Figure:
    """A figure of images that was read from the JSON object, with its images.

    Raises:
        KeyError: they are not stored.
    """
    return replace(figure, series={series: stored[place] for series, place in figure.series.items()})


def _images(name: str, result: AnalysisResult) -> Iterator[tuple[str, Figure, str]]:
    for i, figure in enumerate(result.figures):
        if figure.kind == "images":
            for series in figure.series:
                yield _place(name, i, series), figure, series


def _place(name: str, index: int, series: str) -> str:
    return f"{name}/figures/{index}/{series}"
