"""A basis on the host for an operator on a GPU, whose memory then holds the vectors of a product only.

The orthogonalisation runs on the host; a product takes one transfer of a vector to the device, and one back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as xp
import numpy as np

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot
from eigencore.request import Request
from eigencore_krylov.state import LanczosState, WholeBasis

if TYPE_CHECKING:
    from eigencore.space import Array, Floats


class HostOperator:
    """An operator as one on NumPy arrays of the same precision; of shards, if the operator's vectors are."""

    xp, device = xp, "cpu"

    def __init__(self, A: LinearOperator):
        self._A, self.shape = A, A.shape
        self.dtype = np.dtype(np.float64 if arrays.itemsize(A) == 8 else np.float32)
        if arrays.is_sharded(A):
            self.sum, self.shard = partial(self._apply, A.sum), A.shard

    def matvec(self, v: Array, /) -> Array:
        return self._apply(self._A.matvec, v)

    def matmat(self, V: Array, /) -> Array:
        return self._apply(self._A.matmat, V)

    def brought(self, x: Array | None) -> Any:
        """An array of the operator on the host; None for None."""
        return None if x is None else arrays.to_host(x).astype(self.dtype, copy=False)

    def returned(self, x: Floats) -> Array:
        """An array of the host in the space of the operator."""
        return arrays.from_host(x, self._A)

    def _apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        return self.brought(function(self.returned(x)))


def on_host(
    solver: Callable[..., Generator[Snapshot, Array | None, None]],
    operator: LinearOperator,
    request: Request,
    state: WholeBasis | LanczosState | None,
) -> Generator[Snapshot, Array | None, None]:
    """The snapshots of a solver that works on the host, with vectors in the space of the operator.

    Args:
        solver: takes an operator and a request, and the keyword `state`.
    """
    host = HostOperator(operator)
    if isinstance(state, LanczosState):
        state = replace(state, vectors=host.brought(state.vectors))
    elif state is not None:
        missed = tuple(map(host.brought, state.missed))
        state = replace(state, rows=host.brought(state.rows), missed=missed)
    snapshots = solver(host, replace(request, start=host.brought(request.start)), state=state)
    sent: Array | None = None
    while True:
        try:
            snapshot = snapshots.send(host.brought(sent))
        except StopIteration:
            return
        sent = yield replace(snapshot, vectors=partial(_formed, host, snapshot.vectors))


def _formed(host: HostOperator, vectors: Callable[[], Array]) -> Array:
    return host.returned(vectors())
