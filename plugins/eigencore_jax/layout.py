"""The selected weights of a model, one after the other in a flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from eigencore.errors import UsageError
from eigencore.interfaces import Array, Params
from eigencore.problems.sharing import flat_slices, select_names
from eigencore_jax.models import Weights


@dataclass(frozen=True)
class JaxLayout:
    """The selected weights, in the order of a flat vector of n numbers; hashable, as JAX requires it.

    Attributes:
        names: the names of the selected weights.
        shapes: their shapes.

    Example:
        import jax.numpy as jnp
        from eigencore_jax.layout import select

        layout = select({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
        print(layout.n, layout.unflatten(jnp.arange(9.0))["b"])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The positions of the selected weights in a flat vector."""
        return flat_slices(map(prod, self.shapes))

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return sum(map(prod, self.shapes))

    def unflatten(self, v: Array) -> Weights:
        """A flat vector (n,) as one array for each selected weight."""
        return _unflattened(self, v)

    def flatten(self, pieces: Weights) -> Array:
        """The selected ones of some arrays as a flat vector (n,)."""
        return jnp.concatenate([jnp.ravel(pieces[name]) for name in self.names])

    def checked(self, v: Array, dtype: str) -> Array:
        """A direction (n,) of any floating-point type, in the given one.

        Raises:
            UsageError: it has another shape.
        """
        if tuple(v.shape) != (self.n,):
            raise UsageError(f"a direction of shape {tuple(v.shape)}; expected ({self.n},)")
        return jnp.asarray(v, dtype=dtype)


@partial(jax.jit, static_argnames="layout")
def _unflattened(layout: JaxLayout, v: Array) -> Weights:
    pieces = zip(layout.names, layout.shapes, layout.slices, strict=True)
    return {name: jnp.reshape(v[where], shape) for name, shape, where in pieces}


def select(weights: Weights, params: Params = None) -> JaxLayout:
    """The weights whose names match one of the patterns `params`; None selects all of them.

    Raises:
        UnknownNameError, UsageError: as for `eigencore.problems.sharing.select_names`.
    """
    names = select_names(weights, params)
    return JaxLayout(tuple(names), tuple(tuple(weights[name].shape) for name in names))
