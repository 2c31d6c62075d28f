"""Side effects that no plugin may have: printing, changed global states and switches, swallowed errors."""

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


def refuse_global_switches(call: Callable[[], object]) -> None:
    """Raises AssertionError if the call changes a setting that other code in the process computes by."""
    with np.errstate():  # restores those of NumPy
        before = _global_switches()
        call()
        for name, value in _global_switches().items():
            kept = before.get(name, value)
            demand(value == kept, f"it changed {name} from {kept} to {value}, for the whole process")


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


def _global_switches() -> dict[str, Any]:
    """The settings of the array libraries that are imported, by name."""
    switches: dict[str, Any] = {"numpy.seterr": np.geterr()}
    if torch := sys.modules.get("torch"):
        switches["torch.set_default_dtype"] = torch.get_default_dtype()
        switches["torch.set_grad_enabled"] = torch.is_grad_enabled()
        switches["torch.use_deterministic_algorithms"] = torch.are_deterministic_algorithms_enabled()
        switches["torch.set_float32_matmul_precision"] = torch.get_float32_matmul_precision()
    if jax := sys.modules.get("jax"):
        switches["jax_enable_x64"] = jax.config.jax_enable_x64
        switches["jax_default_matmul_precision"] = jax.config.jax_default_matmul_precision
    return switches
