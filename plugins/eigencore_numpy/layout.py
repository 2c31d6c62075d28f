"""Which weights are looked at, and where each lies in the flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise

import numpy as np

from eigencore.errors import UnknownNameError, UsageError
from eigencore.interfaces import Parameter
from eigencore_numpy.network import PARAMETERS, Numbers, TwoLayer


@dataclass(frozen=True)
class Layout:
    """The chosen parameters of a network, one after the other in a flat vector of n numbers."""

    network: TwoLayer
    slices: dict[str, slice]

    @property
    def n(self) -> int:
        return int(max(where.stop for where in self.slices.values()))

    def direction(self, v: Numbers) -> TwoLayer:
        """A flat vector (n,) as a direction in all weights, zero in those that aren't chosen."""
        v = np.asarray(v, dtype=self.network.dtype)
        if v.shape != (self.n,):
            raise UsageError(f"a direction of shape {v.shape}; expected ({self.n},)")
        return self.network.each(
            lambda name, weights: (
                v[self.slices[name]].reshape(weights.shape) if name in self.slices else np.zeros_like(weights)
            )
        )

    def flat(self, direction: TwoLayer) -> Numbers:
        """The chosen part of a direction or gradient, (n,)."""
        return np.concatenate([getattr(direction, name).reshape(-1) for name in self.slices])

    def told(self) -> tuple[Parameter, ...]:
        return tuple(
            Parameter(name, where, float(np.linalg.norm(getattr(self.network, name))))
            for name, where in self.slices.items()
        )


def select(network: TwoLayer, pattern: str | None = None) -> Layout:
    """The parameters whose name matches the glob `pattern` (None: all of them).

    Raises:
        UnknownNameError: no parameter matches; the nearest names are told.
    """
    chosen = [name for name in PARAMETERS if pattern is None or fnmatchcase(name, pattern)]
    if not chosen:
        raise UnknownNameError("parameter", str(pattern), PARAMETERS)
    ends = accumulate((getattr(network, name).size for name in chosen), initial=0)
    slices = [slice(start, end) for start, end in pairwise(ends)]
    return Layout(network, dict(zip(chosen, slices, strict=True)))
