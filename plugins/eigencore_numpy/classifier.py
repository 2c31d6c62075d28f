"""A two-layer network as a classifier, in logit space and over its inputs."""

from __future__ import annotations

from collections.abc import Callable

import array_api_compat.numpy as xp

from eigencore.errors import UsageError
from eigencore.interfaces import Objective
from eigencore_numpy.data import Samples, labelled, rows
from eigencore_numpy.network import Numbers, Pass, TwoLayer


class TwoLayerClassifier:
    """Inputs are rows (b, d), labels (b,); everything comes back in the network's data type."""

    xp = xp
    device = "cpu"

    def __init__(self, network: TwoLayer, samples: Samples, bounds: tuple[float, float] | None):
        self._network, self._samples, self.bounds = network, samples, bounds
        self.dtype, self.shape, self.classes = network.dtype, samples.shape, network.classes

    def samples(self, most: int | None = None) -> tuple[Numbers, Numbers]:
        # Copies: an attack may write into what it is given.
        return self._samples.x[:most].copy(), self._samples.y[:most].copy()

    def logits(self, x: Numbers, /) -> Numbers:
        return self._network.logits(rows(self._network, x))

    def value_and_grad(self, objective: Objective, x: Numbers, y: Numbers, /) -> tuple[Numbers, Numbers]:
        passed = self._pass(objective, x, y)
        return passed.values(), passed.input_gradient()

    def input_products(self, objective: Objective, x: Numbers, y: Numbers, /) -> Callable[[Numbers], Numbers]:
        passed, shape = self._pass(objective, x, y), x.shape

        def product(v: Numbers) -> Numbers:
            if v.shape != shape:
                raise UsageError(f"vectors of shape {v.shape}; expected {shape}, a row for each sample")
            return passed.input_product(rows(self._network, v))

        return product

    def _pass(self, objective: Objective, x: Numbers, y: Numbers) -> Pass:
        return Pass(self._network, objective, *labelled(self._network, x, y))
