"""Small drawings of characters for a terminal: a curve on one line, and bars beside numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.figures import Figure

LEVELS = " ▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"
WIDTH = 60  # characters of a curve
BAR = 12  # characters of the longest bar
DECADES = 7  # that a curve on a logarithmic axis shows
MANY = 16  # points from which on a curve says more than its numbers


def can_draw() -> bool:
    """Whether stdout has the characters."""
    encoding = getattr(sys.stdout, "encoding", None)
    try:
        (LEVELS + EIGHTHS).encode(encoding or "utf-8")  # text in memory has no encoding, and any character
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def curve(figure: Figure) -> str | None:
    """The first series of a figure of many points on one line; None for another figure.

    The points are taken to be equally far apart on the figure's axis.

    Example:
        import numpy as np
        from eigencore.cli.sparks import curve
        from eigencore.figures import Figure

        x = np.linspace(-3.0, 3.0, 64)
        print(curve(Figure("line", "bell", "x", "y", {"x": x, "y": np.exp(-(x**2))})))
    """
    name = next((one for one in figure.series if one != "x"), None)
    if figure.kind != "line" or name is None or len(figure.series["x"]) < MANY:
        return None
    values = [float(value) for value in figure.series[name]]
    if figure.y_scale == "log":
        largest = max((value for value in values if math.isfinite(value)), default=0.0)
        if largest <= 0:
            return None
        values = [_height(value / largest) for value in values]
    else:
        low = min((value for value in values if math.isfinite(value)), default=0.0)
        values = [value - min(low, 0.0) for value in values]
    top = max((value for value in values if math.isfinite(value)), default=0.0)
    if top <= 0:
        return None
    drawn, count, width = "", len(values), min(WIDTH, len(values))
    for i in range(width):
        chosen = values[i * count // width : (i + 1) * count // width]
        finite = [value for value in chosen if math.isfinite(value)]
        # The highest value of a column, so that no peak is lost; what is above zero is visible.
        height = max(finite, default=0.0) / top * (len(LEVELS) - 1)
        drawn += LEVELS[min(len(LEVELS) - 1, math.ceil(height - 1e-9))]
    return drawn


def _height(share: float) -> float:
    """The height on a logarithmic axis of a share of the largest number."""
    return max(0.0, math.log10(share) / DECADES + 1) if share > 0 else 0.0


def bars(values: Sequence[float]) -> list[str]:
    """A bar for each number, as long as its absolute value; empty for NaN.

    Example:
        from eigencore.cli.sparks import bars

        print(bars([4.0, -2.0, 0.1]))
    """
    top = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    drawn = []
    for value in values:
        eighths = round(abs(value) / top * BAR * 8) if math.isfinite(value) else 0
        drawn.append((EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8]).strip())
    return drawn
