"""Side effects that no plugin may have: printed text, changed global random state, swallowed errors."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from eigencore.testing.checks import demand


class InjectedInterrupt(BaseException):
    """Raised on purpose inside a call, as the core does at the end of a budget: it is not an Exception."""


class InjectedError(Exception):
    """Raised on purpose inside a call, as an operator or a classifier that fails does."""


def refuse_printing(call: Callable[[], object]) -> None:
    """Raises AssertionError if the call prints to stdout or stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        call()
    printed = out.getvalue() + err.getvalue()
    demand(not printed, f"it printed {printed[:60]!r}")


def refuse_global_randomness(call: Callable[[], object]) -> None:
    """Raises AssertionError if the call changes the state of a global random generator."""
    before = _global_generators()
    call()
    for name, state in _global_generators().items():
        demand(state == before.get(name, state), f"the global random state of {name} has changed")


def refuse_swallowed_errors(call: Callable[[type[BaseException]], object], source: str) -> None:
    """Raises AssertionError if an error that is raised inside the call does not propagate out of it.

    Args:
        call: makes a call during which an error of the given class is raised.
        source: where the error is raised, as in "by the operator".
    """
    for error in (InjectedInterrupt, InjectedError):
        try:
            call(error)
        except error:
            continue
        raise AssertionError(f"{error.__name__}, raised {source}, did not propagate")


def _global_generators() -> dict[str, bytes]:
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": np.random.get_state()}
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().tolist()
    return {name: pickle.dumps(state) for name, state in states.items()}
