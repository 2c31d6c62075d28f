"""Recorded products captured as CUDA graphs: one launch in place of one for each operation.

A captured product reads and writes the same addresses in every replay. What it reads and writes is therefore
kept for as long as it exists, or copied into and out of memory that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from eigencore_torch.kinds.recording import Recording
from eigencore_torch.models.params import Layout


class CaptureMemory:
    """The memory that captured products share: a direction, its product, and a pool for everything between.

    One pool serves all of them, because they run one after the other and nothing in the pool is used after a
    product: its result is in `product`, and what it reads is not in the pool.

    Attributes:
        pool: the pool, which exists from the first capture in it until its last CUDA graph is freed; a new
            capture then needs a new pool.
        direction, product: one piece per parameter of the layout.
        reserved: the bytes that the pool takes.
    """

    def __init__(self, layout: Layout):
        self.device = layout.device
        self.pool = torch.cuda.graph_pool_handle()
        self.direction, self.product = (
            [torch.zeros(p.shape, dtype=p.dtype, device=self.device) for p in layout.parameters]
            for _ in range(2)
        )
        self.reserved = 0


class CapturedGraph:
    """A term of the risk whose product is a CUDA graph; see `TermGraph`.

    The pieces of a product are valid until the next product in the same memory.

    Args:
        recording: the recorded product.
        kept: what `recording.prepare` returns for the term.
        memory: the memory that it shares with other terms.

    Raises:
        RuntimeError: an operation can't be captured.
    """

    outputs: Sequence[Node | None] = ()

    def __init__(self, recording: Recording, kept: Sequence[Any], memory: CaptureMemory):
        self.memory = memory
        # Aliases keep the memory of tensors of the user's that move to another one, as by model.cpu().
        self._kept = [x.detach() if isinstance(x, Tensor) else x for x in kept]
        self._constants = [x.detach() for x in recording.constants]
        self._streams = _streams(memory.device)
        self._streams.begin()
        side = self._streams.capture
        with torch.cuda.device(memory.device), torch.no_grad(), torch._C.DisableTorchFunction():
            side.wait_stream(torch.cuda.current_stream())
            # If a capture fails, torch.cuda.graph does not leave its stream; the outer context does.
            with torch.cuda.stream(side):
                # The first product loads kernels and allocates workspaces, which a capture must not do.
                pieces = recording.multiply(*self._kept, *memory.direction)
                used = [piece is not None for piece in pieces]
                del pieces
                self._product = [own if is_ else None for own, is_ in zip(memory.product, used, strict=True)]
                self._graph = self._captured(recording, side) if any(used) else None
            torch.cuda.current_stream().wait_stream(side)

    def _captured(self, recording: Recording, side: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        memory, graph = self.memory, torch.cuda.CUDAGraph()
        # The mode lets other threads do what is forbidden during a capture, such as allocating memory.
        with torch.cuda.graph(graph, memory.pool, side, capture_error_mode="thread_local"):
            before = torch.cuda.memory_reserved()
            pieces = recording.multiply(*self._kept, *memory.direction)
            for own, piece in zip(memory.product, pieces, strict=True):
                if piece is not None:
                    own.copy_(piece)
            memory.reserved += torch.cuda.memory_reserved() - before
        return graph

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block times a direction: a product with zeros in all other parameters."""
        self._streams.begin()
        for i, own in enumerate(self.memory.direction):
            if i in pieces:
                own.copy_(pieces[i])
            else:
                own.zero_()
        if self._graph is not None:
            self._graph.replay()
        return [self._product[i] for i in pieces]


@dataclass
class _Streams:
    """The streams of all captured products on a device.

    Libraries have a workspace for each stream. Those of the stream `capture` are used by all captured
    products, which therefore never run at the same time, not even those of several operators.

    Attributes:
        capture: the stream in which products are captured.
        latest: the stream of the latest product.
    """

    capture: torch.cuda.Stream
    latest: torch.cuda.Stream

    def begin(self) -> None:
        """Makes the current stream wait for the latest product, and for the use of its result."""
        current = torch.cuda.current_stream(self.capture.device)
        if current != self.latest:
            current.wait_stream(self.latest)
            self.latest = current


@cache
def _streams(device: torch.device) -> _Streams:
    capture = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _Streams(capture, torch.cuda.current_stream(device))
