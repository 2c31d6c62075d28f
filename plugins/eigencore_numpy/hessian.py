"""The Hessian of a two-layer classifier's loss, as an operator on flat vectors."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np

from eigencore.interfaces import LinearOperator, Objective
from eigencore.operators import FunctionOperator, WeightOperator
from eigencore.problems.sharing import draw_minibatch
from eigencore_numpy.data import Samples
from eigencore_numpy.layout import TwoLayerLayout
from eigencore_numpy.network import Numbers, Pass, TwoLayer


class TwoLayerHessian(WeightOperator):
    """A symmetric operator on flat vectors (n,), where n is the number of selected weights.

    All samples pass through the network once, when the operator is created; every product reuses the result.

    Args:
        sample_weights: the weight of each sample in the loss (N,).
    """

    xp = xp
    device = "cpu"

    def __init__(
        self, layout: TwoLayerLayout, objective: Objective, samples: Samples, sample_weights: Numbers
    ):
        self._layout, self._objective, self._samples = layout, objective, samples
        self._sample_weights = sample_weights
        self.shape = (layout.n, layout.n)
        self.dtype = layout.network.dtype
        self._pass = Pass(layout.network, objective, samples.x, samples.y, sample_weights)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each selected parameter by its name, in the order of the flat vector."""
        return {name: getattr(self._layout.network, name).shape for name in self._layout.slices}

    def matvec(self, v: Numbers, /) -> Numbers:
        """H v, for a vector v (n,)."""
        return self._multiply(self._pass, v)

    def matmat(self, V: Numbers, /) -> Numbers:
        """H V, for a block V (n, b)."""
        return np.stack([self.matvec(v) for v in V.T], axis=1) if V.shape[1] else np.zeros_like(V)

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """An unbiased estimate of the Hessian from random batches, and their share of the data.

        Batches are drawn with replacement, each with a probability proportional to its number of samples
        (see `eigencore.problems.sharing.weight_minibatch`).
        """
        sizes = self._samples.sizes
        minibatch = draw_minibatch(sizes.tolist(), step, seed, batches)
        drawn = np.array(sorted(minibatch.factors))
        rows = self._samples.rows_of(drawn)
        factors = np.repeat([minibatch.factors[int(b)] for b in drawn], sizes[drawn]).astype(self.dtype)
        x, y = self._samples.x[rows], self._samples.y[rows]
        part = Pass(self._layout.network, self._objective, x, y, self._sample_weights[rows] * factors)
        operator = FunctionOperator(
            lambda v: self._multiply(part, v), self._layout.n, xp=xp, dtype=self.dtype, device=self.device
        )
        return operator, minibatch.share

    def _multiply(self, samples: Pass, v: Numbers) -> Numbers:
        product: TwoLayer = samples.weight_product(self._layout.unflatten(v))
        return self._layout.flatten(product)
