"""What code may leave behind that nobody asked for: printed text, and moved random number generators."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from eigencore.testing.laws import demand


def refuse_printing(call: Callable[[], object]) -> None:
    """Raises AssertionError where the call prints, on stdout or stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        call()
    told = out.getvalue() + err.getvalue()
    demand(not told, f"it printed {told[:60]!r}")


def refuse_global_randomness(call: Callable[[], object]) -> None:
    """Raises AssertionError where the call moves a random number generator that everybody shares."""
    before = _generators()
    call()
    for name, state in _generators().items():
        demand(state == before.get(name, state), f"the global random state of {name} has moved")


def _generators() -> dict[str, bytes]:
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": np.random.get_state()}
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return {name: pickle.dumps(state) for name, state in states.items()}
