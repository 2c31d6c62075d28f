"""Rounding of the numbers of a report."""

from __future__ import annotations

import math


def rounded(x: float | None, digits: int) -> float | None:
    """Returns a number to some decimals; None if it is not finite."""
    # Adding zero turns -0.0 into 0.0.
    return None if x is None or not math.isfinite(x) else round(float(x), digits) + 0.0


def percent(share: float | None) -> float | None:
    """Returns a share as a percentage to one decimal."""
    return None if share is None else rounded(100 * share, 1)


def significant(x: float | None) -> float | None:
    """Returns a number to three significant digits; None if it is not finite."""
    return None if x is None or not math.isfinite(x) else float(f"{x:.3g}")
