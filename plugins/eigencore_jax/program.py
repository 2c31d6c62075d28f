"""The loss of a sample as a pure function of the weights, and what is computed from it, compiled.

The loss over all data is sum_s w_s l_s over the samples s. The loss l_s is the user's function called with a
batch of one sample, and JAX computes it for all samples of a chunk at once. Chunks have one size: the last
one is padded with samples of weight zero, so that everything is compiled once. What is compiled is shared by
all problems with the same functions and shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from eigencore.interfaces import Array
from eigencore.problems.sharing import CALLS
from eigencore_jax.layout import JaxLayout
from eigencore_jax.models import Weights

Curvature = Literal["hessian", "ggn"]


@dataclass(frozen=True)
class Program:
    """The functions of a problem; hashable.

    Attributes:
        model: (weights, constants, *arguments) -> outputs.
        loss: the user's function.
        call: how it is called, one of `eigencore.problems.sharing.CALLS`.
    """

    model: Callable[..., Any]
    loss: Callable[..., Any]
    call: str

    def batch_loss(self, weights: Weights, constants: Any, batch: Any) -> Array:
        """What the user's function returns for a batch: a number, or one for each sample."""
        if self.call == CALLS[0]:
            x, y = batch
            return self.loss(self.model(weights, constants, x), y)
        return self.loss(partial(self.model, weights, constants), batch)

    def sample_losses(self, weights: Weights, constants: Any, batch: Any) -> Array:
        """The loss of each sample (c,), as that of a batch of this sample alone."""

        def one(sample: Any) -> Array:
            alone = jax.tree.map(lambda leaf: leaf[None], sample)
            return jnp.sum(self.batch_loss(weights, constants, alone))

        return jax.vmap(one)(batch)

    def outputs(self, weights: Weights, constants: Any, batch: Any) -> Any:
        """The outputs of the model for each sample of pairs (x, y), each as those of a batch of one."""
        x, _ = batch
        one = jax.tree.map(lambda leaf: leaf[:, None], x)
        return jax.vmap(partial(self.model, weights, constants))(one)

    def output_losses(self, outputs: Any, batch: Any) -> Array:
        """The loss of each sample (c,), from what `outputs` returns."""
        _, y = batch
        one = jax.tree.map(lambda leaf: leaf[:, None], y)
        return jax.vmap(lambda z, label: jnp.sum(self.loss(z, label)))(outputs, one)


@dataclass(frozen=True)
class Chunk:
    """Some samples of the data.

    Attributes:
        batch: a pair (x, y) or any other pytree, whose arrays have c samples.
        factors: the weight of each sample in the loss (c,); zero for padding, which repeats a sample.
    """

    batch: Any
    factors: Array


jax.tree_util.register_dataclass(Chunk, data_fields=["batch", "factors"], meta_fields=[])


def _risk(program: Program, weights: Weights, constants: Any, chunk: Chunk) -> Array:
    return jnp.sum(chunk.factors * program.sample_losses(weights, constants, chunk.batch))


def _field(
    program: Program, kind: Curvature, weights: Weights, constants: Any, chunk: Chunk
) -> Callable[[Weights], Weights]:
    """A function of the selected weights whose Jacobian is the operator.

    For the Hessian it is the gradient. For J'HJ it is J(w0)' g(z(w)), with the gradient g of the loss over
    the outputs z, and the Jacobian J at the weights w0 of the problem.
    """

    def gradient(selected: Weights) -> Weights:
        of_selected = jax.grad(lambda chosen: _risk(program, weights | chosen, constants, chunk))
        found: Weights = of_selected(selected)
        return found

    def pulled_back(selected: Weights) -> Weights:
        def model(chosen: Weights) -> Any:
            return program.outputs(weights | chosen, constants, chunk.batch)

        def risk(outputs: Any) -> Array:
            return jnp.sum(chunk.factors * program.output_losses(outputs, chunk.batch))

        _, pull = jax.vjp(model, {name: weights[name] for name in selected})
        (pulled,) = pull(jax.grad(risk)(model(selected)))
        along: Weights = pulled
        return along

    return gradient if kind == "hessian" else pulled_back


@partial(jax.jit, static_argnames="layout")
def moved(layout: JaxLayout, weights: Weights, v: Array) -> Weights:
    """The weights plus a direction (n,) over the selected ones."""
    return weights | {name: weights[name] + step for name, step in layout.unflatten(v).items()}


@partial(jax.jit, static_argnames="program")
def risk(program: Program, weights: Weights, constants: Any, chunk: Chunk) -> Array:
    """sum_s w_s l_s () over the samples of a chunk."""
    return _risk(program, weights, constants, chunk)


@partial(jax.jit, static_argnames=("program", "layout"))
def gradient(
    program: Program, layout: JaxLayout, weights: Weights, constants: Any, chunk: Chunk
) -> tuple[Array, Array]:
    """The loss () of a chunk and its gradient (n,) over the selected weights."""

    def of_selected(selected: Weights) -> Array:
        return _risk(program, weights | selected, constants, chunk)

    value, pieces = jax.value_and_grad(of_selected)({name: weights[name] for name in layout.names})
    return value, layout.flatten(pieces)


@partial(jax.jit, static_argnames=("program", "layout", "kind"))
def product(
    program: Program,
    layout: JaxLayout,
    kind: Curvature,
    weights: Weights,
    constants: Any,
    chunk: Chunk,
    v: Array,
    before: Array,
) -> Array:
    """`before` (n,) plus the product of the operator of a chunk and v (n,), by forward over reverse mode."""
    field = _field(program, kind, weights, constants, chunk)
    at = {name: weights[name] for name in layout.names}
    _, along = jax.jvp(field, (at,), (layout.unflatten(v),))
    return before + layout.flatten(along)


@partial(jax.jit, static_argnames=("program", "layout", "kind"))
def linearized(
    program: Program, layout: JaxLayout, kind: Curvature, weights: Weights, constants: Any, chunk: Chunk
) -> Callable[[Weights], Weights]:
    """The operator of a chunk as a linear function, a pytree that holds what all its products share."""
    field = _field(program, kind, weights, constants, chunk)
    _, linear = jax.linearize(field, {name: weights[name] for name in layout.names})
    return linear


@partial(jax.jit, static_argnames="layout")
def apply(layout: JaxLayout, linear: Callable[[Weights], Weights], v: Array, before: Array) -> Array:
    """`before` (n,) plus a linear function of `linearized` times v (n,)."""
    return before + layout.flatten(linear(layout.unflatten(v)))
