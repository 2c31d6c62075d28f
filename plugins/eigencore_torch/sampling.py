"""Minibatches of batches, under the names that this backend uses."""

from __future__ import annotations

from eigencore.problems.sharing import Minibatch as Sample
from eigencore.problems.sharing import draw_minibatch as draw

__all__ = ["Sample", "draw"]
