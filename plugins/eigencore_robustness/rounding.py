"""Rounding of the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence


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


def alike(column: Sequence[float]) -> list[float | None]:
    """Returns numbers with the decimals that the largest one needs for four significant digits."""
    largest = max((abs(x) for x in column if math.isfinite(x)), default=0.0)
    decimals = 3 - math.floor(math.log10(largest)) if largest else 0
    return [rounded(x, max(decimals, 0)) for x in column]
