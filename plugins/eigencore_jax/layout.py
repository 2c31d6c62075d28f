"""The selected weights of a model, one after the other in a flat vector."""

from __future__ import annotations

from typing import TypeAlias

from eigencore.problems.sharing import FlatLayout
from eigencore.problems.sharing import flat_layout as select

__all__ = ["JaxLayout", "select"]

JaxLayout: TypeAlias = FlatLayout
