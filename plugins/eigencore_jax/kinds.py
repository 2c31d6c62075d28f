"""The kinds of operator of a loss on JAX: the Hessian and the Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from eigencore import arrays
from eigencore.errors import CapabilityError, UsageError
from eigencore.interfaces import Array, LinearOperator
from eigencore.operators import FunctionOperator, WeightOperator
from eigencore.problems.sharing import CALLS, CurvatureOptions, draw_minibatch
from eigencore_jax import program as compiled
from eigencore_jax.layout import JaxLayout
from eigencore_jax.memory import free_bytes
from eigencore_jax.models import Weights
from eigencore_jax.program import Chunk, Curvature
from eigencore_jax.risk import JaxRisk
from eigencore_jax.sample_mean import JaxSampleMean, sample_scores

if TYPE_CHECKING:
    from eigencore.space import Floats
    from eigencore_jax.bound import JaxBound


def hessian(bound: JaxBound, layout: JaxLayout, options: CurvatureOptions) -> JaxOperator:
    """The Hessian of the loss; see `eigencore.interfaces.Kind`."""
    return JaxOperator(bound.risk, layout, "hessian", options, linearize=bound.linearize)


def ggn(bound: JaxBound, layout: JaxLayout, options: CurvatureOptions) -> JaxOperator:
    """The generalised Gauss-Newton matrix J'HJ: J is the Jacobian of the outputs, H the Hessian over them.

    It is the Hessian of the loss if the model is replaced by its linearisation at the weights, and
    semidefinite if the loss is convex in the outputs (Schraudolph, Neural Computation 14 (2002) 1723-1738).
    """
    if bound.risk.program.call != CALLS[0]:
        raise CapabilityError(
            "the kind ggn needs the outputs of the model, which are not known with call='loss(model, batch)'",
            hint="Give batches (x, y) and a loss of the outputs and y.",
        )
    return JaxOperator(bound.risk, layout, "ggn", options, linearize=bound.linearize)


class JaxOperator(WeightOperator):
    """A symmetric operator on flat vectors (n,), where n is the number of selected weights.

    A product is the derivative of the gradient along a vector. What all products of a chunk share, the
    linearisation of the gradient, is kept if memory allows; the first product computes it.

    Args:
        risk: the loss over all data.
        layout: the selected weights.
        kind: which operator.
        options: what is added to it.
        linearize: whether linearisations may be kept.
    """

    xp = jnp

    def __init__(
        self,
        risk: JaxRisk,
        layout: JaxLayout,
        kind: Curvature,
        options: CurvatureOptions,
        *,
        linearize: bool,
    ):
        self._risk, self._layout, self._kind = risk, layout, kind
        self._chunks = risk.chunks
        self._shift = options.weight_decay + options.damping
        self._linearize, self._kept = linearize, dict[int, Callable[[Weights], Weights]]()
        self.shape = (layout.n, layout.n)
        self.dtype, self.device = jnp.dtype(risk.place.dtype), risk.place.device

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each selected weight by its name, in the order of the flat vector."""
        return dict(zip(self._layout.names, self._layout.shapes, strict=True))

    def matvec(self, v: Array, /) -> Array:
        """H v, for a vector v (n,)."""
        v = self._checked(v)
        if self._linearize and self._chunks and not self._kept:
            self._keep()
        total = self._start(v)
        for number, chunk in enumerate(self._chunks):
            if number in self._kept:
                total = compiled.apply(self._layout, self._kept[number], v, total)
            else:
                total = self._product(chunk, v, total)
        return total

    def matmat(self, V: Array, /) -> Array:
        """H V, for a block V (n, b), a column at a time: a block of every width would be compiled."""
        if not V.shape[1]:
            return jnp.zeros_like(V)
        return jnp.stack([self.matvec(V[:, i]) for i in range(V.shape[1])], axis=1)

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """An unbiased estimate of the operator from random batches, and their share of the data.

        Batches are drawn with replacement, each with a probability proportional to its number of samples
        (see `eigencore.problems.sharing.weight_minibatch`).
        """
        drawn = draw_minibatch(self._risk.samples.batch_weights, step, seed, batches)
        chunks = self._risk.minibatch(drawn)

        def multiply(v: Array) -> Array:
            v = self._checked(v)
            total = self._start(v)
            for chunk in chunks:
                total = self._product(chunk, v, total)
            return total

        operator = FunctionOperator(multiply, self.shape[0], xp=jnp, dtype=self.dtype, device=self.device)
        return operator, drawn.share

    def sample_scores(self) -> Floats:
        """How much each sample may contribute (N,); see `eigencore.space.MeanOperator`."""
        return sample_scores(self._risk)

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> JaxSampleMean:
        """The weighted mean over drawn samples; see `eigencore.space.MeanOperator`."""
        return JaxSampleMean(
            self._risk, self._layout, self._kind, groups, weights, self._shift, self._of_chunks
        )

    def _of_chunks(self, chunks: list[Chunk], shift: float) -> JaxOperator:
        """The operator of other samples, plus a multiple of the identity."""
        other = copy(self)
        other._chunks, other._shift, other._kept = chunks, shift, {}
        return other

    def release(self, needed: int | None = None) -> None:
        """Frees the linearisations, which are then not kept any more if memory is short."""
        if needed is None:
            self._kept.clear()
        elif (free := free_bytes(self.device)) is not None and needed > free:
            self._kept.clear()
            self._linearize = False

    def _product(self, chunk: Chunk, v: Array, before: Array) -> Array:
        risk = self._risk
        return compiled.product(
            risk.program, self._layout, self._kind, risk.weights, risk.constants, chunk, v, before
        )

    def _keep(self) -> None:
        """Keeps the linearisations of all chunks if they take at most half of the free memory."""
        risk = self._risk
        arguments = (risk.program, self._layout, self._kind, risk.weights, risk.constants)
        free, chunks = free_bytes(self.device), self._chunks
        if free is not None:
            needed = _bytes(jax.eval_shape(lambda: compiled.linearized(*arguments, chunks[0])))
            if needed * len(chunks) > free / 2:
                self._linearize = False
                return
        for number, chunk in enumerate(chunks):
            self._kept[number] = compiled.linearized(*arguments, chunk)

    def _start(self, v: Array) -> Array:
        return self._shift * v if self._shift else arrays.zeros(self.shape[:1], self)

    def _checked(self, v: Array) -> Array:
        if tuple(v.shape) != self.shape[:1]:
            raise UsageError(f"a vector of shape {tuple(v.shape)}; expected {self.shape[:1]}")
        return v


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
