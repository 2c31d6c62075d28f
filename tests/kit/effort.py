"""How many random cases the long tests try: EIGEN_EFFORT=4 tries four times as many, the same ones first."""

from __future__ import annotations

import os

_FACTOR = float(os.environ.get("EIGEN_EFFORT", "1"))


def cases_to_try(usual: int) -> int:
    """The number of cases, given that of a usual run."""
    return max(1, round(_FACTOR * usual))
