"""The states of snapshots: as the core forms them, and what a solver itself goes on with."""

from __future__ import annotations

import inspect
from typing import Any

from eigencore.interfaces import Snapshot


def state_of(snapshot: Snapshot) -> Any:
    """The value to resume from, as the core forms it."""
    assert snapshot.state is not None
    return snapshot.state(snapshot.vectors())


def iteration_of(snapshot: Snapshot) -> Any:
    """The solver's own blocks, which a state leaves out once all pairs have converged."""
    assert snapshot.state is not None
    return inspect.getclosurevars(snapshot.state).nonlocals["state"]
