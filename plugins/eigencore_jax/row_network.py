"""A network over rows of inputs and its derivatives, compiled for each number of rows.

No objective is compiled: what is needed of one is its gradient and its products over the logits, which it
states itself. So the same few functions serve all objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from eigencore.interfaces import Array
from eigencore_jax.models import Weights


@dataclass(frozen=True)
class RowNetwork:
    """A model of inputs in rows; hashable.

    Attributes:
        model: (weights, constants, x) -> logits (b, c), for inputs x (b, *shape).
        shape: the shape of one input.
        classes: the number of classes c.
        usual: "first" or "last", where the channels of images usually are in such models.
    """

    model: Callable[..., Any]
    shape: tuple[int, ...]
    classes: int
    usual: str

    @property
    def d(self) -> int:
        """The number of values in one input."""
        return prod(self.shape)

    def __call__(self, weights: Weights, constants: Any, x: Array) -> Array:
        """The logits (b, c) of rows (b, d)."""
        return self.model(weights, constants, jnp.reshape(x, (-1, *self.shape)))


@partial(jax.jit, static_argnames="network")
def logits(network: RowNetwork, weights: Weights, constants: Any, x: Array) -> Array:
    """The logits (b, c) of rows (b, d)."""
    return network(weights, constants, x)


@partial(jax.jit, static_argnames="network")
def with_pullback(
    network: RowNetwork, weights: Weights, constants: Any, x: Array
) -> tuple[Array, Callable[[Array], tuple[Array]]]:
    """The logits (b, c), and the function g -> J'g of `pulled`, as a pytree of what it keeps."""
    found: tuple[Array, Any] = jax.vjp(partial(network, weights, constants), x)
    return found


@jax.jit
def pulled(pullback: Callable[[Array], tuple[Array]], g: Array) -> Array:
    """J'g (b, d) for rows g (b, c): each row's gradient of g . logits over its input."""
    (gradient,) = pullback(g)
    return gradient


@partial(jax.jit, static_argnames="network")
def linearized(
    network: RowNetwork, weights: Weights, constants: Any, x: Array, g: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """The derivative of the logits z(x) and of J(x)'g, with g (b, c) constant, as a pytree; see `along`."""

    def both(rows: Array) -> tuple[Array, Array]:
        z, pull = jax.vjp(partial(network, weights, constants), rows)
        (gradient,) = pull(g)
        return z, gradient

    linear: Callable[[Array], tuple[Array, Array]] = jax.linearize(both, x)[1]
    return linear


@jax.jit
def along(linear: Callable[[Array], tuple[Array, Array]], v: Array) -> tuple[Array, Array]:
    """J v (b, c), and the derivative of J'g along v (b, d), for rows v (b, d)."""
    return linear(v)


@partial(jax.jit, static_argnames="network")
def along_weights(
    network: RowNetwork, weights: Weights, direction: Weights, constants: Any, x: Array
) -> tuple[Array, Array, Array]:
    """The logits at weights + t v and their first two derivatives by t at t = 0, each (b, c).

    By forward over forward mode.

    Args:
        direction: v, an array for each of some weights.
    """

    def z(t: Array) -> Array:
        there = {name: weights[name] + t * step for name, step in direction.items()}
        return network(weights | there, constants, x)

    def slope(t: Array) -> tuple[Array, Array]:
        return jax.jvp(z, (t,), (jnp.ones_like(t),))

    zero = jnp.zeros((), x.dtype)
    (value, first), (_, second) = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))
    return value, first, second
