"""A classifier whose rows are divided between processes, each of which gets the results of all of them.

Attacks and analyses run in every process, with the same random numbers and the passes divided.
"""

from __future__ import annotations

from collections.abc import Callable

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
        rows, labels = self._part(x), self._part(y)

        def compute() -> Tensor:
            if not len(rows):
                return x.new_zeros((0, 1 + x.shape[1]))
            value, gradient = self._own.value_and_grad(objective, rows, labels)
            return torch.cat([value[:, None], gradient], dim=1)

        both = self._processes.gather(compute, "values and gradients", x, y)
        return both[:, 0].contiguous(), both[:, 1:].contiguous()

    def input_products(self, objective: Objective, x: Tensor, y: Tensor, /) -> Callable[[Tensor], Tensor]:
        """A map that multiplies rows (b, d) by the Hessians of the samples' objectives over their inputs."""
        rows, labels = self._part(x), self._part(y)
        with self._processes.together("the gradients over the inputs"):
            own = self._own.input_products(objective, rows, labels) if len(rows) else torch.zeros_like

        def product(v: Tensor) -> Tensor:
            rows: Tensor = self._processes.gather(lambda: own(self._part(v)), "products over the inputs", v)
            return rows

        return product

    def _part(self, rows: Tensor) -> Tensor:
        return rows[own_part(len(rows), self._processes)]
