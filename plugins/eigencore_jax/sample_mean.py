"""The mean over drawn samples on JAX, and how much each sample may contribute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from eigencore.interfaces import Array, CachingOperator
from eigencore.operators import MatrixLike
from eigencore.problems.sharing import CALLS
from eigencore_jax.checks import explain_errors
from eigencore_jax.layout import JaxLayout
from eigencore_jax.models import Weights
from eigencore_jax.program import Chunk, Curvature, Program
from eigencore_jax.risk import JaxRisk, Placement

if TYPE_CHECKING:
    from eigencore.space import Floats

# The trace over the outputs takes a product for each of them. With more, it would cost more than it saves.
MOST_OUTPUTS = 1024


class JaxSampleMean(MatrixLike):
    """The weighted mean over some samples; see `eigencore.space.SampleMean`.

    Args:
        risk: the loss over all data.
        layout, kind: the selected weights, and which operator.
        groups, weights: the samples and their weights, as `MeanOperator.sampled` has them.
        shift: the number c of c I.
        over: makes the operator of some chunks of samples, plus a multiple of the identity.
    """

    xp = jnp

    def __init__(
        self,
        risk: JaxRisk,
        layout: JaxLayout,
        kind: Curvature,
        groups: Sequence[Sequence[int]],
        weights: Floats,
        shift: float,
        over: Callable[[list[Chunk], float], CachingOperator],
    ):
        self._risk, self._layout, self._kind, self._over = risk, layout, kind, over
        self._rows = np.concatenate([np.asarray(group, dtype=np.intp) for group in groups])
        # Each factor multiplies the weight of a sample in the loss, which is about 1 / N for a mean.
        self._factors = len(risk.samples) * weights
        self._ranges = list(pairwise([0, *np.cumsum([len(group) for group in groups]).tolist()]))
        self._mean = over(risk.chunks_of(self._rows, self._factors / len(weights)), shift)
        self.shape, self.dtype, self.device = self._mean.shape, self._mean.dtype, self._mean.device
        self.shift = shift

    def matvec(self, v: Array, /) -> Array:
        """The mean times v (n,)."""
        return self._mean.matvec(v)

    def matmat(self, V: Array, /) -> Array:
        """The mean times V (n, b)."""
        return self._mean.matmat(V)

    def group_products(self, V: Array | Callable[[int], Array], /) -> Iterator[Array]:
        """Each group's mean times V (n, b), or times a block of its own."""
        for number, (start, end) in enumerate(self._ranges):
            rows, factors = self._rows[start:end], self._factors[start:end] / (end - start)
            group = self._over(self._risk.chunks_of(rows, factors), 0.0)
            yield group.matmat(V(number) if callable(V) else V)

    def curvatures(self, V: Array, /) -> Floats:
        """The weighted curvature of each draw along each column of V, (draws, b)."""
        risk, counted = self._risk, np.flatnonzero(self._factors * self._risk.sample_weights[self._rows])
        parts = (risk.program, self._layout, self._kind, risk.weights, risk.constants)
        found = np.zeros((len(self._rows), V.shape[1]))
        start = 0
        with explain_errors("computing the curvature of the samples"):
            for chunk in risk.chunks_of(self._rows, self._factors):
                rows = counted[start : start + len(chunk.factors)]  # the others are padding
                for column in range(V.shape[1]):
                    found[rows, column] = np.asarray(_curvatures(*parts, chunk, V[:, column]))[: len(rows)]
                start += len(rows)
        return found

    def release(self, needed: int | None = None) -> None:
        """Frees the linearisations; see `JaxOperator.release`."""
        self._mean.release(needed)


def sample_scores(risk: JaxRisk) -> Floats:
    """The trace of the Hessian of each sample's loss over the outputs (N,), times its weight, without sign.

    If the outputs are not known or too many for that, the weights. Outputs are computed in the data type of
    the operator, and the traces in float64: those of samples that a trained network is sure of are
    differences of nearly equal numbers.
    """
    program, weights, chunks = risk.program, risk.sample_weights, risk.chunks
    if program.call != CALLS[0] or not _has_few_outputs(risk, chunks[0]):
        return weights
    found = []
    with explain_errors("computing the scores of the samples"):
        for chunk in chunks:
            outputs = jax.device_get(_outputs(program, risk.weights, risk.constants, chunk.batch))
            targets = jax.device_get(chunk.batch[1])
            with jax.enable_x64(True):
                wide = Placement("float64", risk.place.device)
                found.append(np.asarray(_traces(program, *wide((outputs, targets)))))
    scores = np.zeros(len(weights))
    counted = np.flatnonzero(weights)  # the samples in the chunks
    scores[counted] = np.concatenate(found)[: len(counted)]
    return np.abs(scores * weights)


def _has_few_outputs(risk: JaxRisk, chunk: Chunk) -> bool:
    outputs = jax.eval_shape(partial(_outputs, risk.program), risk.weights, risk.constants, chunk.batch)
    leaves = jax.tree.leaves(outputs)
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    return floating and sum(prod(leaf.shape[1:]) for leaf in leaves) <= MOST_OUTPUTS


@partial(jax.jit, static_argnames="program")
def _outputs(program: Program, weights: Weights, constants: Any, batch: Any) -> Any:
    return program.outputs(weights, constants, batch)


@partial(jax.jit, static_argnames="program")
def _traces(program: Program, outputs: Any, targets: Any) -> Array:
    """The trace of the Hessian of each sample's loss over its outputs (c,)."""
    flat = jax.vmap(lambda z: ravel_pytree(z)[0])(outputs)
    _, unflatten = ravel_pytree(jax.tree.map(lambda z: z[0], outputs))

    def gradient(rows: Array) -> Array:
        of_rows = jax.grad(
            lambda own: jnp.sum(program.output_losses(jax.vmap(unflatten)(own), (None, targets)))
        )
        found: Array = of_rows(rows)
        return found

    def entry(i: Array) -> Array:
        along = jnp.zeros_like(flat).at[:, i].set(1)
        return jax.jvp(gradient, (flat,), (along,))[1][:, i]

    return jnp.sum(jax.lax.map(entry, jnp.arange(flat.shape[1])), axis=0)


@partial(jax.jit, static_argnames=("program", "layout", "kind"))
def _curvatures(
    program: Program,
    layout: JaxLayout,
    kind: Curvature,
    weights: Weights,
    constants: Any,
    chunk: Chunk,
    v: Array,
) -> Array:
    """The second derivative of each sample's loss along v (n,), times its factor: forward over forward mode.

    For J'HJ it is that of the loss over the outputs, along their derivative.
    """
    along, batch = layout.unflatten(v), chunk.batch
    zero, one = jnp.zeros((), v.dtype), jnp.ones((), v.dtype)

    def moved(t: Array) -> Weights:
        return weights | {name: weights[name] + t * step for name, step in along.items()}

    def of_weights(t: Array) -> Array:
        return program.sample_losses(moved(t), constants, batch)

    def of_outputs(t: Array) -> Array:
        return program.output_losses(jax.tree.map(lambda z, u: z + t * u, outputs, slopes), batch)

    losses = of_weights
    if kind == "ggn":
        outputs, slopes = jax.jvp(lambda t: program.outputs(moved(t), constants, batch), (zero,), (one,))
        losses = of_outputs
    _, second = jax.jvp(lambda t: jax.jvp(losses, (t,), (one,))[1], (zero,), (one,))
    return chunk.factors * second
