"""Snapshots of a solver: they must be well formed, and they must make progress."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Snapshot
from eigencore.results import Step

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array


def refuse_malformed(snapshot: object, k: int) -> Snapshot:
    """The snapshot, if it is well formed.

    Raises:
        TypeError, ValueError: it is not a Snapshot, or its parts do not match each other or the k pairs
            requested.
    """
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"it yielded a {type(snapshot).__name__}; expected a Snapshot")
    shapes = [np.shape(part) for part in (snapshot.values, snapshot.residuals)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] > k:
        raise ValueError(
            f"it yielded values of shape {shapes[0]} and residuals of shape {shapes[1]}; "
            f"expected at most {k} of each"
        )
    if not callable(snapshot.vectors):
        found = type(snapshot.vectors).__name__
        raise TypeError(f"its snapshot's vectors are a {found}; expected a function that forms them")
    if snapshot.state is not None and not callable(snapshot.state):
        found = type(snapshot.state).__name__
        raise TypeError(f"its snapshot's state is a {found}; expected a function that forms it, or None")
    return snapshot


def vectors_of(snapshot: Snapshot, n: int) -> Array:
    """The block (n, pairs) that the snapshot forms. Raises ValueError if it has another shape."""
    vectors, expected = snapshot.vectors(), (n, len(snapshot.values))
    if tuple(getattr(vectors, "shape", ())) != expected:
        found = getattr(vectors, "shape", type(vectors).__name__)
        raise ValueError(f"its snapshot formed vectors {found}; expected {expected}")
    return vectors


def step_of(snapshot: Snapshot, passed: npt.NDArray[np.bool_], worst: float) -> Step:
    """The row of the history for a snapshot, without its cost.

    Args:
        passed: which pairs (m,) have passed, by their estimated residuals.
        worst: the largest estimated residual relative to its threshold; infinite with fewer than k pairs.
    """
    first = next((i for i, fine in enumerate(passed) if not fine), None)
    return Step(
        matvecs=0.0,
        seconds=0.0,
        values=tuple(float(value) for value in snapshot.values),
        converged=int(np.sum(passed)),
        value=None if first is None else float(snapshot.values[first]),
        residual=None if first is None else float(snapshot.residuals[first]),
        restarts=snapshot.restarts,
        worst=worst if math.isfinite(worst) else None,
    )


@dataclass
class Pace:
    """Decides whether a solver still makes progress.

    Within every `patience` products it must find another pair, or halve its worst estimated residual
    relative to the threshold.
    """

    patience: float
    at: float
    pairs: int = 0
    best: float = math.inf

    def stalled(self, spent: float, pairs: int, worst: float) -> bool:
        if pairs > self.pairs or worst < self.best / 2:
            self.pairs, self.best, self.at = pairs, worst, spent
        return spent - self.at > self.patience
