"""The kinds of operator of a two-layer classifier's loss: the Hessian and the Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import array_api_compat.numpy as xp
import numpy as np

from eigencore.interfaces import LinearOperator
from eigencore.operators import FunctionOperator, MatrixLike, WeightOperator
from eigencore.problems.sharing import CurvatureOptions, draw_minibatch
from eigencore_numpy.layout import TwoLayerLayout
from eigencore_numpy.network import Numbers, Pass, TwoLayer

if TYPE_CHECKING:
    from eigencore.space import Floats
    from eigencore_numpy.backend import NumpyBound

Product: TypeAlias = Callable[[Pass, TwoLayer], TwoLayer]
# v' A_s v of each sample s of a pass, times its weight.
Curvature: TypeAlias = Callable[[Pass, TwoLayer], Numbers]


def hessian(bound: NumpyBound, layout: TwoLayerLayout, options: CurvatureOptions) -> TwoLayerOperator:
    """The Hessian of the loss; see `eigencore.interfaces.Kind`."""
    return TwoLayerOperator(bound, layout, Pass.weight_product, Pass.weight_curvature, options)


def ggn(bound: NumpyBound, layout: TwoLayerLayout, options: CurvatureOptions) -> TwoLayerOperator:
    """The generalised Gauss-Newton matrix J'HJ: J is the Jacobian of the logits, H the Hessian over them.

    It is the Hessian of the loss if the network is replaced by its linearisation at the weights, and
    semidefinite if the objective is convex (Schraudolph, Neural Computation 14 (2002) 1723-1738).
    """
    return TwoLayerOperator(bound, layout, Pass.gauss_newton_product, Pass.gauss_newton_curvature, options)


class TwoLayerOperator(WeightOperator):
    """A symmetric operator on flat vectors (n,), where n is the number of selected weights.

    All samples pass through the network once, when the operator is created; every product reuses the result.

    Args:
        bound: the problem.
        layout: the selected weights.
        product: multiplies the matrix of the samples of a pass by a direction.
        curvature: the curvature of each sample of a pass along a direction.
        options: what is added to the matrix.
    """

    xp = xp
    device = "cpu"

    def __init__(
        self,
        bound: NumpyBound,
        layout: TwoLayerLayout,
        product: Product,
        curvature: Curvature,
        options: CurvatureOptions,
    ):
        self._layout, self._product, self._objective = layout, product, bound.objective
        self._curvature = curvature
        self._samples, self._sample_weights = bound.samples, bound.sample_weights
        self._shift = options.weight_decay + options.damping
        self.shape = (layout.n, layout.n)
        self.dtype = layout.network.dtype
        self._pass = self._pass_of(self._samples.x, self._samples.y, self._sample_weights)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each selected parameter by its name, in the order of the flat vector."""
        return dict(zip(self._layout.flat.names, self._layout.flat.shapes, strict=True))

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
        minibatch = draw_minibatch(self._samples.sizes.tolist(), step, seed, batches)
        rows, factors = self._samples.drawn(minibatch)
        x, y = self._samples.x[rows], self._samples.y[rows]
        part = self._pass_of(x, y, self._sample_weights[rows] * factors.astype(self.dtype))
        operator = FunctionOperator(
            lambda v: self._multiply(part, v), self._layout.n, xp=xp, dtype=self.dtype, device=self.device
        )
        return operator, minibatch.share

    def sample_scores(self) -> Floats:
        """The trace of each sample's Hessian over the logits (N,), without its sign."""
        return np.abs(self._pass.logit_hessian_traces()).astype(np.float64)

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> TwoLayerSample:
        """The weighted mean over drawn samples; see `eigencore.space.MeanOperator`."""
        draws, N = len(weights), len(self._sample_weights)
        factors = iter(np.split(weights, np.cumsum([len(group) for group in groups])[:-1]))
        passes, shares = [], []
        for group in groups:
            rows = np.asarray(group)
            scale = (N / len(rows) * next(factors)).astype(self.dtype)
            x, y = self._samples.x[rows], self._samples.y[rows]
            passes.append(self._pass_of(x, y, self._sample_weights[rows] * scale))
            shares.append(len(rows) / draws)
        return TwoLayerSample(self._layout, self._product, self._curvature, passes, shares, self._shift)

    def _multiply(self, samples: Pass, v: Numbers) -> Numbers:
        product = self._layout.flatten(self._product(samples, self._layout.unflatten(v)))
        return product + self._shift * v if self._shift else product

    def _pass_of(self, x: Numbers, y: Numbers, weights: Numbers) -> Pass:
        return Pass(self._layout.network, self._objective, x, y, weights)


class TwoLayerSample(MatrixLike):
    """The weighted mean over some samples, in groups; see `eigencore.space.SampleMean`.

    Args:
        passes: the samples of each group, weighted so that their sum is the mean of the group.
        shares: the share of each group in the draws.
        shift: the number c of c I.
    """

    xp = xp
    device = "cpu"

    def __init__(
        self,
        layout: TwoLayerLayout,
        product: Product,
        curvature: Curvature,
        passes: Sequence[Pass],
        shares: Sequence[float],
        shift: float,
    ):
        self._layout, self._product, self._curvature = layout, product, curvature
        self._passes, self._shares, self.shift = passes, shares, shift
        self.shape = (layout.n, layout.n)
        self.dtype = layout.network.dtype

    def matvec(self, v: Numbers, /) -> Numbers:
        """The mean times v (n,)."""
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Numbers, /) -> Numbers:
        """The mean times V (n, b)."""
        total = self.shift * V
        for share, product in zip(self._shares, self.group_products(V), strict=True):
            total = total + share * product
        return total

    def group_products(self, V: Numbers | Callable[[int], Numbers], /) -> Iterator[Numbers]:
        """Each group's mean times V (n, b), or times a block of its own."""
        for number, one in enumerate(self._passes):
            block = V(number) if callable(V) else V
            columns = [self._layout.flatten(self._product(one, self._layout.unflatten(v))) for v in block.T]
            yield np.stack(columns, axis=1)

    def curvatures(self, V: Numbers, /) -> Floats:
        """The weighted curvature of each draw along each column of V, (draws, b)."""
        draws = round(len(self._passes[0]) / self._shares[0])
        rows = [
            np.stack([self._curvature(one, self._layout.unflatten(v)) for v in V.T], axis=1) * (share * draws)
            for one, share in zip(self._passes, self._shares, strict=True)
        ]
        return np.concatenate(rows).astype(np.float64)
