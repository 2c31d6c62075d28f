"""The course of an estimate as products or draws are added: the columns and the figure of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.figures import Figure, Table
from eigencore.findings import AnalysisResult

if TYPE_CHECKING:
    from eigencore_spectrum.intervals import IntervalEstimate


@dataclass
class Course:
    """The traces so far, each after so many products or draws.

    Args:
        of: what is added, "products" or "draws".
    """

    of: str
    _rows: list[tuple[float, float, float, float]] = field(default_factory=list)

    def add(self, count: int, found: IntervalEstimate, *, refused: bool = False) -> None:
        """Adds a row, in place of the last one if the count is the same."""
        ends = (np.nan, np.nan) if refused else (found.low, found.high)
        if self._rows and self._rows[-1][0] == count:
            self._rows.pop()
        self._rows.append((count, found.value, *ends))

    def result(
        self, *, verdict: str, title: str, numbers: Mapping[str, Any], tables: Mapping[str, Table]
    ) -> AnalysisResult:
        """A result with the columns and the figure of all rows so far."""
        columns = dict(zip((self.of, "trace", "low", "high"), np.array(self._rows).T, strict=True))
        figure = Figure(
            "line" if len(self._rows) > 1 else "scatter",
            f"The trace as {self.of} are added",
            self.of,
            "trace",
            {"x": columns[self.of], "trace": columns["trace"]},
            bands={"trace": (columns["low"], columns["high"])},
            caption=self._caption(columns, numbers["confidence"]),
        )
        return AnalysisResult(
            verdict=verdict, title=title, numbers=numbers, tables=tables, columns=columns, figures=(figure,)
        )

    def _caption(self, columns: Mapping[str, Any], confidence: float) -> str:
        text = f"The estimate of the trace after so many {self.of}, with its {100 * confidence:g} % interval."
        refused = int(np.isnan(columns["low"]).sum())
        if not refused:
            return text
        return (
            f"{text} {refused} of {len(columns['low'])} estimates have none, because none was shown to hold."
        )
