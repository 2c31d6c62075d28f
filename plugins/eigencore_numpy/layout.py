"""The parameters that an operator covers, and their positions in its flat vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eigencore.errors import UsageError
from eigencore.interfaces import Parameter, Params
from eigencore.problems.sharing import flat_slices, select_names
from eigencore_numpy.network import PARAMETERS, Numbers, TwoLayer


@dataclass(frozen=True)
class TwoLayerLayout:
    """The selected parameters of a network, one after the other in a flat vector of n numbers.

    Attributes:
        network: the network whose parameters these are.
        slices: the position of each selected parameter in a flat vector, by name.
    """

    network: TwoLayer
    slices: dict[str, slice]

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return int(max(where.stop for where in self.slices.values()))

    def unflatten(self, v: Numbers) -> TwoLayer:
        """A flat vector (n,) as a direction over all weights, zero in the parameters that are not selected.

        Raises:
            UsageError: the vector has another shape.
        """
        v = np.asarray(v, dtype=self.network.dtype)
        if v.shape != (self.n,):
            raise UsageError(f"a direction of shape {v.shape}; expected ({self.n},)")
        return self.network.map(
            lambda name, weights: (
                v[self.slices[name]].reshape(weights.shape) if name in self.slices else np.zeros_like(weights)
            )
        )

    def flatten(self, direction: TwoLayer) -> Numbers:
        """The selected parameters of a direction or gradient as a flat vector (n,)."""
        return np.concatenate([getattr(direction, name).reshape(-1) for name in self.slices])

    def parameters(self) -> tuple[Parameter, ...]:
        """The name, position and norm of each selected parameter."""
        return tuple(
            Parameter(name, where, float(np.linalg.norm(getattr(self.network, name))))
            for name, where in self.slices.items()
        )


def select(network: TwoLayer, params: Params = None) -> TwoLayerLayout:
    """The parameters whose names match one of the patterns `params`; None selects all of them.

    Raises:
        UnknownNameError, UsageError: as for `eigencore.problems.sharing.select_names`.
    """
    names = select_names(PARAMETERS, params)
    slices = flat_slices(getattr(network, name).size for name in names)
    return TwoLayerLayout(network, dict(zip(names, slices, strict=True)))
