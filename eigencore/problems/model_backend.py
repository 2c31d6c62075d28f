"""The backend that a model is written for, from the packages that define the model's class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eigencore.entries import DEFAULT_BACKEND, BackendEntry
from eigencore.errors import UsageError

_LARGEST = 10_000  # items of a container that are looked at


def backend_of_model(model: Any, entries: Iterable[BackendEntry]) -> str:
    """The name of the backend that takes models of this type; the default if none declares that it does.

    A model that is a tuple, a list or a mapping, such as a pytree of parameters, is of the type of what it
    contains. Nothing is imported: an entry names packages.

    Args:
        entries: the installed backends.

    Raises:
        UsageError: several backends other than the default take such models.

    Example:
        import numpy as np
        from eigencore.entries import BackendEntry
        from eigencore.problems.model_backend import backend_of_model

        entry = BackendEntry(name="mine", summary="", load="mine:bind", models=("numpy",))
        print(backend_of_model({"w": np.zeros(3)}, [entry]))
    """
    packages = set(_packages(model))
    found = sorted({entry.name for entry in entries if packages & set(entry.models)})
    if len(found) > 1 and DEFAULT_BACKEND not in found:
        raise UsageError(
            f"the model can be bound to several backends: {', '.join(found)}", hint=f"Name one: {found[0]}."
        )
    return found[0] if len(found) == 1 else DEFAULT_BACKEND


def _packages(model: Any) -> Iterator[str]:
    """The top-level packages of the class of a model and of its base classes, or of what it contains."""
    pending = [model]
    for _ in range(_LARGEST):
        if not pending:
            return
        one = pending.pop()
        if isinstance(one, Mapping):
            pending.extend(one.values())
        elif isinstance(one, list | tuple):
            pending.extend(one)
        for base in type(one).__mro__:
            yield base.__module__.partition(".")[0]
