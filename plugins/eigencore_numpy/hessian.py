"""The Hessian of a two-layer classifier's loss, as an operator on flat vectors."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np

from eigencore.errors import UsageError
from eigencore.interfaces import LinearOperator, Objective
from eigencore.operators import FunctionOperator
from eigencore_numpy.data import Samples
from eigencore_numpy.layout import Layout
from eigencore_numpy.network import Numbers, Pass


class HessianOperator:
    """A symmetric operator on flat vectors (n,), n the number of chosen weights.

    The pass of all samples through the network is made once, and kept.

    Args:
        share: what each sample counts in the loss (N,).
    """

    xp = xp
    device = "cpu"

    def __init__(self, layout: Layout, objective: Objective, samples: Samples, share: Numbers):
        self._layout, self._objective, self._samples, self._share = layout, objective, samples, share
        self.shape = (layout.n, layout.n)
        self.dtype = layout.network.dtype
        self._pass = Pass(layout.network, objective, samples.x, samples.y, share)

    def matvec(self, v: Numbers, /) -> Numbers:
        return self._product(self._pass, v)

    def matmat(self, V: Numbers, /) -> Numbers:
        return np.stack([self.matvec(v) for v in V.T], axis=1) if V.shape[1] else np.zeros_like(V)

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """The Hessian of some batches, drawn with replacement by their size, and their share of the data.

        A batch b of m drawn, of probability p_b, counts times_b / (m p_b): over the draws the mean is the
        whole Hessian (Hansen & Hurwitz 1943). One that was drawn twice is computed once.
        """
        if batches < 1 or step < 0 or seed < 0:
            raise UsageError(
                f"batches={batches}, step={step}, seed={seed}; expected batches of at least 1, others of 0"
            )
        sizes = self._samples.sizes
        p = sizes / sizes.sum()
        draws = np.random.default_rng([seed, step]).choice(len(sizes), size=batches, p=p)
        drawn, times = np.unique(draws, return_counts=True)
        rows = self._samples.of(drawn)
        factors = np.repeat(times / (batches * p[drawn]), sizes[drawn]).astype(self.dtype)
        x, y, share = self._samples.x[rows], self._samples.y[rows], self._share[rows] * factors
        sample = Pass(self._layout.network, self._objective, x, y, share)
        operator = FunctionOperator(
            lambda v: self._product(sample, v), self._layout.n, xp=xp, dtype=self.dtype, device=self.device
        )
        return operator, len(rows) / len(self._samples.x)

    def _product(self, samples: Pass, v: Numbers) -> Numbers:
        return self._layout.flat(samples.weight_product(self._layout.direction(v)))
