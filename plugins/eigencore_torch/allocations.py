"""The memory that tensors take which a computation creates: what it keeps, and its peak.

The operations are observed above their kernels, so that what a kernel allocates for its own use is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, UntypedStorage
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from eigencore_torch.models.shards import own_entries

T = TypeVar("T")


@dataclass(frozen=True)
class Allocation:
    """The bytes that a computation allocates.

    Attributes:
        kept: those of the tensors that exist for as long as its first result does.
        peak: the most at any time.
    """

    kept: float
    peak: float


def allocation(make: Callable[[], T], use: Callable[[T], object] = lambda made: None) -> Allocation:
    """The memory of `make`, whose result is kept, and of `use`, which is called with that result.

    A tensor that shares the memory of one that existed before, such as a view of a weight, takes none.
    """
    with _Allocations() as counted:
        made = make()
        kept = counted.bytes
        use(made)
    return Allocation(kept, counted.peak)


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that are created inside, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._alive: dict[int, weakref.ref[UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here. PyTorch would import its compiler, which takes seconds, to say so.
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        outputs = func(*args, **(kwargs or {}))
        for storage in _storages(outputs):
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._add(storage)
        return outputs

    def _add(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def freed(_: object) -> None:
            self.bytes -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, freed)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def _storages(values: Any) -> list[UntypedStorage]:
    """The storages of the tensors in a structure, except of those that have none, such as sparse ones."""
    found = []
    for x in pytree.tree_leaves(values):
        if isinstance(x, Tensor):
            try:
                found.append(own_entries(x).untyped_storage())
            except (NotImplementedError, RuntimeError):
                continue
    return found
