"""A monitor of another framework: gradient descent on a network of the NumPy backend, with its own clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigencore.errors import CapabilityError
from eigencore.interfaces import Bound
from eigencore.training import StepRule, UpdateLine

SECONDS_OF_A_LOOK = 3.0


class ManualClock:
    """The time, which passes only when a step or a look says so."""

    now = 0.0


@dataclass
class GradientDescent:
    """Steps of a network of the NumPy backend, each of which takes a second."""

    network: Any
    rate: float

    def step(self, gradient: np.ndarray, layout: Any) -> None:
        ManualClock.now += 1
        for parameter in layout:
            weights = getattr(self.network, parameter.name)
            weights -= self.rate * gradient[parameter.where].reshape(weights.shape)


class NumpyTraining:
    """See `eigencore.training.Training`. Binding copies the weights, so that a moment is a new binding."""

    def __init__(self, bind: Callable[[], Bound]):
        self._bind = bind

    def clock(self) -> float:
        return ManualClock.now

    def at(self, optimizer: GradientDescent) -> NumpyMoment:
        ManualClock.now += SECONDS_OF_A_LOOK
        return NumpyMoment(self._bind(), StepRule(optimizer.rate, 2 / optimizer.rate, 2 / optimizer.rate))


@dataclass(frozen=True)
class NumpyMoment:
    """See `eigencore.training.Moment`."""

    bound: Bound
    rule: StepRule

    @contextmanager
    def update_line(self, batch: Any) -> Iterator[UpdateLine]:
        if batch is not None:
            raise CapabilityError("the loss is that of all data", hint="Leave the batch out.")
        loss, gradient = self.bound.loss(), self.bound.gradient()
        rounding = float(np.finfo(gradient.dtype).eps) * abs(loss)
        slope = -float(gradient @ gradient)
        length = float(np.linalg.norm(gradient))
        yield UpdateLine(loss, slope, length, rounding, lambda step: self.bound.loss(-step * gradient))
