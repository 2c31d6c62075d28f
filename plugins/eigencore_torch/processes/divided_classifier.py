"""A classifier whose rows are divided between processes, each of which gets the results of all of them.

Attacks and analyses run in every process, with the same random numbers and the passes divided.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import array_api_compat.torch as xp
import torch
from torch import Tensor

from eigencore.interfaces import Objective
from eigencore.processes import Processes, own_part
from eigencore_torch.classifiers.classifier import TorchClassifier


class DividedClassifier:
    """A classifier for the same rows in every process; each of them computes its part, as equal as possible.

    Args:
        own: the classifier in this process.
        processes: those that divide the rows between them.
        holders: those that the samples are spread over; ALONE if each has all of them.
    """

    xp = xp

    def __init__(self, own: TorchClassifier, processes: Processes, holders: Processes):
        self._own, self._processes, self._holders = own, processes, holders
        self.shape, self.classes, self.bounds = own.shape, own.classes, own.bounds
        self.channel_axis = own.channel_axis
        self.dtype, self.device = own.dtype, own.device

    def samples(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """The first `most` samples of all processes, in the order of their ranks; None takes all."""
        with self._holders.together("reading the samples", most=most):
            x, y = self._own.samples(most)
            inputs = self._holders.gather(lambda: x, "the inputs of the samples")
            labels = self._holders.gather(lambda: y, "the labels of the samples")
        return inputs[:most], labels[:most]

    def logits(self, x: Tensor, /) -> Tensor:
        """The logits (b, c) for inputs x (b, d)."""
        rows = self._part(x)

        def compute() -> Tensor:
            return self._own.logits(rows) if len(rows) else x.new_zeros((0, self.classes))

        logits: Tensor = self._processes.gather(compute, "logits", x)
        return logits

    def value_and_grad(self, objective: Objective, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        """Each sample's objective (b,) and its gradient (b, d) with respect to that sample's input."""
        whole, rows = _WholeObjective(objective, y, self._processes), self._part(x)

        def compute() -> Tensor:
            if not len(rows):
                whole.gather(x.new_zeros((0, self.classes)))
                return rows
            return self._own.value_and_grad(whole, rows, self._part(y))[1]

        gradient: Tensor = self._processes.gather(compute, "gradients over the inputs", x, y)
        return whole.values, gradient

    def input_products(self, objective: Objective, x: Tensor, y: Tensor, /) -> Callable[[Tensor], Tensor]:
        """A map that multiplies rows (b, d) by the Hessians of the samples' objectives over their inputs."""
        whole, rows = _WholeObjective(objective, y, self._processes), self._part(x)
        own: Callable[[Tensor], Tensor] = torch.zeros_like
        with self._processes.together("the gradients over the inputs"):
            if len(rows):
                own = self._own.input_products(whole, rows, self._part(y))
            else:
                whole.gather(x.new_zeros((0, self.classes)))

        def product(v: Tensor) -> Tensor:
            part = self._part(v)
            found: Tensor = self._processes.gather(lambda: own(part), "products over the inputs", v)
            return found

        return product

    def _part(self, rows: Tensor) -> Tensor:
        return rows[own_part(len(rows), self._processes)]


class _WholeObjective:
    """An objective on the rows of one process, evaluated on the rows of all of them.

    It may hold something for each row, such as the class that a sample is to be classified as.

    Args:
        y: the labels (b,) of all rows.
    """

    def __init__(self, objective: Objective, y: Tensor, processes: Processes):
        self._objective, self._y, self._processes = objective, y, processes
        self._part = own_part(len(y), processes)
        self._logits: Tensor | None = None  # (b, c), of all rows

    def gather(self, logits: Tensor) -> Tensor:
        """The logits of all rows, from those of this process, which keep their graph."""
        if self._logits is None:
            self._logits = self._processes.gather(logits.detach, "the logits of an objective")
        before, after = self._logits[: self._part.start], self._logits[self._part.stop :]
        return torch.cat([before, logits, after])

    @cached_property
    def values(self) -> Tensor:
        """The objective of each row of all processes (b,), once their logits were gathered."""
        assert self._logits is not None
        values: Tensor = self._objective.value(self._logits, self._y)
        return values

    def value(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """The objective of the rows of this process."""
        self.gather(logits)
        return self.values[self._part]

    def grad(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """The gradient over the logits of the rows of this process."""
        gradient: Tensor = self._objective.grad(self.gather(logits), self._y)
        return gradient[self._part]

    def hvp(self, logits: Tensor, y: Tensor, v: Tensor, /) -> Tensor:
        """The product over the logits of the rows of this process."""
        whole = self.gather(logits)
        along = torch.zeros_like(whole)
        along[self._part] = v
        product: Tensor = self._objective.hvp(whole, self._y, along)
        return product[self._part]
