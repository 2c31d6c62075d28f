"""A two-layer network as a classifier: its logits, and derivatives with respect to its inputs."""

from __future__ import annotations

from collections.abc import Callable

import array_api_compat.numpy as xp

from eigencore.interfaces import Objective, Problem
from eigencore.problems.sharing import bounds_of_rows, check_row_vectors, infer_channel_axis
from eigencore_numpy.data import Samples, as_labelled_rows, as_rows
from eigencore_numpy.network import Numbers, Pass, TwoLayer


class TwoLayerClassifier:
    """A two-layer network as a classifier of inputs in rows (b, d); results have the network's data type."""

    xp = xp
    device = "cpu"

    def __init__(self, network: TwoLayer, samples: Samples, problem: Problem):
        self._network, self._samples = network, samples
        self.dtype, self.shape, self.classes = network.dtype, samples.shape, network.classes
        self.channel_axis = infer_channel_axis(self.shape, problem.channels)
        self.bounds = bounds_of_rows(problem.bounds, self.shape, self, self.channel_axis)

    def samples(self, most: int | None = None) -> tuple[Numbers, Numbers]:
        """The first `most` samples, or all of them: inputs (N, d) and labels (N,)."""
        # Copies: an attack may write into its inputs.
        return self._samples.x[:most].copy(), self._samples.y[:most].copy()

    def logits(self, x: Numbers, /) -> Numbers:
        """The logits (b, c) for inputs (b, d)."""
        return self._network.logits(as_rows(self._network, x))

    def value_and_grad(self, objective: Objective, x: Numbers, y: Numbers, /) -> tuple[Numbers, Numbers]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""
        passed = self._pass(objective, x, y)
        return passed.values(), passed.input_gradient()

    def input_products(self, objective: Objective, x: Numbers, y: Numbers, /) -> Callable[[Numbers], Numbers]:
        """A function from rows v (b, d) to each sample's Hessian over its input, times its row of v."""
        passed = self._pass(objective, x, y)

        def product(v: Numbers) -> Numbers:
            check_row_vectors(v, x)
            return passed.input_product(as_rows(self._network, v))

        return product

    def _pass(self, objective: Objective, x: Numbers, y: Numbers) -> Pass:
        return Pass(self._network, objective, *as_labelled_rows(self._network, x, y))
