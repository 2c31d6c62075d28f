"""The selected weights of a model, one after the other in a flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Parameter
from eigencore.problems.sharing.parameters import flat_slices, select_names

if TYPE_CHECKING:
    from eigencore.interfaces import Params
    from eigencore.space import Array


@dataclass(frozen=True)
class FlatLayout:
    """The selected weights, in the order of a flat vector of n numbers; on any array library, and hashable.

    Attributes:
        names: the names of the selected weights.
        shapes: their shapes.

    Example:
        import numpy as np
        from eigencore.problems.sharing import flat_layout

        layout = flat_layout({"w": np.ones((2, 3)), "b": np.zeros(3)})
        print(layout.n, layout.unflatten(np.arange(9.0))["b"])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The positions of the selected weights in a flat vector."""
        return flat_slices(map(prod, self.shapes))

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return sum(map(prod, self.shapes))

    def unflatten(self, v: Array) -> dict[str, Array]:
        """A flat vector (n,) as one array for each selected weight."""
        xp, parts = arrays.namespace(v), zip(self.names, self.shapes, self.slices, strict=True)
        return {name: xp.reshape(v[where], shape) for name, shape, where in parts}

    def flatten(self, pieces: Mapping[str, Array]) -> Array:
        """The selected ones of some arrays as a flat vector (n,)."""
        xp = arrays.namespace(*(pieces[name] for name in self.names))
        return xp.concat([xp.reshape(pieces[name], (-1,)) for name in self.names])

    def parameters(self, weights: Mapping[str, Any]) -> tuple[Parameter, ...]:
        """Each selected weight with its slice and its norm: what `interfaces.Bound.layout` returns."""
        norms = (float(np.linalg.norm(np.asarray(weights[name], np.float64))) for name in self.names)
        return tuple(map(Parameter, self.names, self.slices, norms))


def flat_layout(weights: Mapping[str, Array], params: Params = None) -> FlatLayout:
    """The layout of the weights whose names match one of the patterns `params`; None selects all of them.

    Raises:
        UnknownNameError, UsageError: as for `eigencore.problems.sharing.select_names`.
    """
    names = select_names(weights, params)
    return FlatLayout(tuple(names), tuple(tuple(weights[name].shape) for name in names))
