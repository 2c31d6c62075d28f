"""The parameters that an operator covers, and their positions in its flat vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eigencore.interfaces import Parameter, Params
from eigencore.problems.sharing import FlatLayout, check_direction, flat_layout
from eigencore_numpy.network import Numbers, TwoLayer


@dataclass(frozen=True)
class TwoLayerLayout:
    """The selected parameters of a network, one after the other in a flat vector of n numbers.

    Attributes:
        network: the network whose parameters these are.
        flat: their positions in a flat vector.
    """

    network: TwoLayer
    flat: FlatLayout

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return self.flat.n

    def unflatten(self, v: Numbers) -> TwoLayer:
        """A flat vector (n,) as a direction over all weights, zero in the parameters that are not selected.

        Raises:
            UsageError: the vector has another shape.
        """
        v = np.asarray(v, dtype=self.network.dtype)
        check_direction(v, self.n)
        pieces = self.flat.unflatten(v)
        return self.network.map(lambda name, weights: pieces.get(name, np.zeros_like(weights)))

    def flatten(self, direction: TwoLayer) -> Numbers:
        """The selected parameters of a direction or gradient as a flat vector (n,)."""
        flat: Numbers = self.flat.flatten(direction.named())
        return flat

    def parameters(self) -> tuple[Parameter, ...]:
        """The name, position and norm of each selected parameter."""
        return self.flat.parameters(self.network.named())


def select(network: TwoLayer, params: Params = None) -> TwoLayerLayout:
    """The parameters whose names match one of the patterns `params`; None selects all of them.

    Raises:
        UnknownNameError, UsageError: as for `eigencore.problems.sharing.select_names`.
    """
    return TwoLayerLayout(network, flat_layout(network.named(), params))
