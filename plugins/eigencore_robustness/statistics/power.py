"""What so many samples could have shown."""

from __future__ import annotations

import math

from scipy.special import ndtri


def smallest_detectable(n: int, controls: int = 0, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest |correlation| that n samples show with this power, in a two-sided test at alpha.

    By Fisher's z: atanh of a correlation given c controls varies by 1 / sqrt(n - 3 - c). Anything smaller
    would rather go unnoticed. 1.0 where n is too small for any.
    """
    free = n - 3 - controls
    if free <= 0:
        return 1.0
    return math.tanh(float(ndtri(1 - alpha / 2) + ndtri(power)) / math.sqrt(free))
