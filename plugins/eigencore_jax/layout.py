"""The selected weights of a model, one after the other in a flat vector."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import jax

from eigencore.interfaces import Array
from eigencore.problems.sharing import FlatLayout
from eigencore.problems.sharing import flat_layout as select
from eigencore_jax.models import Weights

__all__ = ["JaxLayout", "select", "unflattened"]

JaxLayout: TypeAlias = FlatLayout


@partial(jax.jit, static_argnames="layout")
def unflattened(layout: JaxLayout, v: Array) -> Weights:
    """A flat vector (n,) as one array for each selected weight, by one program for all of them."""
    return layout.unflatten(v)
