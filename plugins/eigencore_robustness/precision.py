"""The precision of margins and curvatures, in which rounding matters most."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.interfaces import Bound


def highest_precision(bound: Bound) -> str | None:
    """Returns "float64" where the problem can be computed in it; None: the precision of the operator."""
    return "float64" if "float64" in bound.precisions else None
