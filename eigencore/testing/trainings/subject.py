"""The training under test, and what a monitor sees of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.entries import MonitorEntry
from eigencore.interfaces import Bound, Problem
from eigencore.problems import backend_of, bind
from eigencore.registry import load, registry
from eigencore.training import Training, TrainingBackend

if TYPE_CHECKING:
    from eigencore.space import Floats

# The problem with the model that is trained, its optimizer, and a step of the training.
Start: TypeAlias = Callable[[], tuple[Problem, Any, Callable[[], object]]]


class Started(NamedTuple):
    """A training that has begun, as `Start` makes it, and what watches it."""

    problem: Problem
    optimizer: Any
    step: Callable[[], object]
    training: Training

    def bound(self) -> Bound:
        """The problem, bound at the weights that the model has now."""
        return bind(self.problem)


@dataclass(frozen=True)
class TrainingSubject:
    """A training that can be started again, and the backend of its problem.

    Attributes:
        backend: replaces the registered one.
    """

    start: Start
    backend: TrainingBackend | None = None

    @property
    def where(self) -> str:
        return getattr(self.start, "__name__", type(self.start).__name__)

    def started(self) -> Started:
        """A new training, which is watched."""
        problem, optimizer, step = self.start()
        make = self.backend
        if make is None:
            entry = backend_of(problem)
            assert entry is not None, "the problem has a model"
            make = load(registry().find(MonitorEntry, entry.name))
        training: Training = make(partial(bind, problem))
        return Started(problem, optimizer, step, training)


def gradient(bound: Bound) -> Floats:
    """The gradient (n,) of the loss over all data, on the host."""
    found: Floats = np.asarray(arrays.to_host(bound.gradient()))
    return found
