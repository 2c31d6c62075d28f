"""Batches on their way to a GPU: each is copied there while the GPU computes with the one before.

A batch is copied from pinned memory on a stream of its own, and the next one is read from the data before it
is used. Batches that are on the device already are used one after the other: data may overwrite them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from eigencore_torch.data.batch_tensors import Batch, tensors_of

T = TypeVar("T")
U = TypeVar("U")

# Copies a tensor to the device.
Send: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Begun(Generic[U]):
    """Something that has been begun, such as a copy.

    Attributes:
        finish: returns it when it is done.
        may_wait: whether it stays what it is while the next one is begun.
    """

    finish: Callable[[], U]
    may_wait: bool = True


def one_ahead(items: Iterator[T], begin: Callable[[T], Begun[U]]) -> Iterator[U]:
    """What `begin` makes of the items, each begun before the one before it is used.

    An error in an item is raised where it would be raised otherwise: after the items before it.
    """
    waiting: Begun[U] | None = None
    error: Exception | None = None
    while error is None:
        try:
            begun = begin(next(items))
        except StopIteration:
            break
        except Exception as raised:
            error = raised
        else:
            if waiting is not None:
                yield waiting.finish()
            waiting = begun if begun.may_wait else None
            if waiting is None:
                yield begun.finish()
    if waiting is not None:
        yield waiting.finish()
    if error is not None:
        raise error


class Transfer:
    """Moves batches to a GPU on a stream of its own."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._borrowed = False  # whether the latest batch is copied from pinned memory of the data

    def begin(self, batch: Batch, move: Callable[[Send], Batch]) -> Begun[Batch]:
        """Begins to move a batch.

        Args:
            move: returns the batch on the device, given what copies a tensor there.
        """
        if any(x.device == self._device for x in tensors_of(batch)):
            there = move(lambda x: x.to(self._device))
            return Begun(lambda: there, may_wait=False)
        self._borrowed = False
        with torch.cuda.stream(self._stream):
            copied = move(self._copy)
            arrived = self._stream.record_event()
        if self._borrowed:
            arrived.synchronize()  # the data may write the next batch into this memory
        return Begun(lambda: self._arrived(copied, arrived))

    def _copy(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor or x.layout is not torch.strided or x.is_nested:
            return x.to(self._device)
        if x.is_pinned():
            self._borrowed = True
            return x.to(self._device, non_blocking=True)
        # Not by Tensor.pin_memory, which refuses expanded tensors. PyTorch does not use the pinned memory
        # again before the copy from it is done.
        return torch.empty_like(x, pin_memory=True).copy_(x).to(self._device, non_blocking=True)

    def _arrived(self, batch: Batch, event: torch.cuda.Event) -> Batch:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        for x in tensors_of(batch):
            if x.device == self._device:
                x.record_stream(current)  # its memory is not used again before this stream is done with it
        return batch


def transfer_to(device: torch.device) -> Transfer | None:
    """What moves batches to a device; None if it is the host, where nothing has to be copied."""
    return Transfer(device) if device.type == "cuda" else None
