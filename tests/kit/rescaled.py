"""A classifier in other units: its logits multiplied by a factor, and its inputs by another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eigencore.interfaces import Classifier, Objective
from eigencore.space import Array


@dataclass(frozen=True)
class OfMultiple:
    """An objective as a function of logits that are multiplied by a factor."""

    objective: Objective
    factor: float

    def value(self, logits: Array, y: Array, /) -> Array:
        return self.objective.value(self.factor * logits, y)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return self.factor * self.objective.grad(self.factor * logits, y)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return self.factor**2 * self.objective.hvp(self.factor * logits, y, v)


class Rescaled:
    """The classifier whose logits are `logits` times as large, for inputs that are `inputs` times as large.

    Args:
        bounded: whether it has the bounds of the original, or none.
    """

    def __init__(
        self, classifier: Classifier, *, logits: float = 1.0, inputs: float = 1.0, bounded: bool = True
    ):
        self._classifier, self._logits, self._inputs = classifier, logits, inputs
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes = classifier.shape, classifier.classes
        self.channel_axis = classifier.channel_axis
        bounds = classifier.bounds if bounded else None
        self.bounds = None if bounds is None else (inputs * bounds[0], inputs * bounds[1])

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        x, y = self._classifier.samples(most)
        return self._inputs * x, y

    def logits(self, x: Array, /) -> Array:
        return self._logits * self._classifier.logits(x / self._inputs)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        multiple = OfMultiple(objective, self._logits)
        value, gradient = self._classifier.value_and_grad(multiple, x / self._inputs, y)
        return value, gradient / self._inputs

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Any:
        raise NotImplementedError
