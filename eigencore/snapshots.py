"""What is asked of a solver's snapshots: that each is whole, and that they get somewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Snapshot

if TYPE_CHECKING:
    from eigencore.interfaces import Array


def refuse_malformed(snapshot: object, k: int) -> Snapshot:
    """The snapshot, which is whole.

    Raises:
        TypeError, ValueError: it is none, or its parts don't fit each other or the k pairs asked for.
    """
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"it yielded a {type(snapshot).__name__}; expected a Snapshot")
    shapes = [np.shape(part) for part in (snapshot.values, snapshot.residuals)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] > k:
        raise ValueError(
            f"it yielded values {shapes[0]} and residuals {shapes[1]}; expected at most {k} of each"
        )
    if not callable(snapshot.vectors):
        told = type(snapshot.vectors).__name__
        raise TypeError(f"its snapshot's vectors are a {told}; expected a function that forms them")
    return snapshot


def vectors_of(snapshot: Snapshot, n: int) -> Array:
    """The block (n, pairs) that it forms.

    Raises:
        ValueError: it forms another.
    """
    vectors, expected = snapshot.vectors(), (n, len(snapshot.values))
    if tuple(getattr(vectors, "shape", ())) != expected:
        told = getattr(vectors, "shape", type(vectors).__name__)
        raise ValueError(f"its snapshot formed vectors {told}; expected {expected}")
    return vectors


@dataclass
class Pace:
    """Whether a solver gets somewhere: in every `patience` products it must find a pair more, or halve its
    worst residual over what passes.
    """

    patience: float
    at: float
    pairs: int = 0
    best: float = math.inf

    def stalled(self, spent: float, pairs: int, worst: float) -> bool:
        if pairs > self.pairs or worst < self.best / 2:
            self.pairs, self.best, self.at = pairs, worst, spent
        return spent - self.at > self.patience
