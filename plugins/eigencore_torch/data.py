"""Batches: walking over them, what they are made of, their size and parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

from eigencore.errors import ProblemError

Batch: TypeAlias = Any
Signature: TypeAlias = list[tuple[tuple[int, ...], torch.dtype, int]]


class Batches:
    """Data that can be walked over again and again, each batch put on the device.

    Args:
        dtype: what floating tensors are turned into; None leaves them as they are.
        name: what the data are called in errors.

    Raises:
        ProblemError: `data` can't be iterated, or only once, or gives samples instead of batches.
    """

    def __init__(self, data: Any, device: torch.device, dtype: torch.dtype | None, name: str = "data"):
        _refuse_unless_iterable_again(data, name)
        self.data, self.device, self.dtype, self.name = data, device, dtype, name

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._walk():
            yield self._move(batch)

    def fetch(self, wanted: Collection[int]) -> dict[int, Batch]:
        """The batches of these numbers: read at their index where `data` is a list or the like.

        Other data, such as a loader, are walked over up to the last of them.

        Raises:
            ProblemError: there are fewer batches.
        """
        numbered: Iterable[tuple[int, Batch]]
        if isinstance(self.data, Sequence):
            numbered = ((index, self.data[index]) for index in sorted(wanted) if index < len(self.data))
        else:
            numbered = enumerate(islice(self._walk(), max(wanted, default=-1) + 1))
        found = {index: self._move(batch) for index, batch in numbered if index in wanted}
        if missing := set(wanted) - found.keys():
            raise ProblemError(
                f"the data changed: there is no batch {min(missing)} any more",
                hint="Give data that are the same at each walk, such as a list of batches.",
            )
        return found

    def _walk(self) -> Iterator[Batch]:
        iterator = iter(self.data)
        for index in range(1 << 62):
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except (Exception, SystemExit) as error:
                raise ProblemError(
                    f"{self.name} failed at batch {index}: {type(error).__name__}: {error}",
                    hint=f"The error comes from the iteration over `{self.name}`.",
                ) from error
            yield batch

    def _move(self, batch: Batch) -> Batch:
        def move(x: Tensor) -> Tensor:
            # Detached: what a loss asks of its inputs, as requires_grad_() does, must not stay with the data.
            return x.detach().to(self.device, self.dtype if x.is_floating_point() else None)

        return convert(batch, move, lambda x: x.to(self.device))


def _refuse_unless_iterable_again(data: Any, name: str) -> None:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which gives single samples; expected batches",
            hint="Wrap it: torch.utils.data.DataLoader(data, batch_size=256).",
        )
    # Asked, not tried: a loader's iter() draws random numbers.
    if isinstance(data, str | bytes) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which can't be iterated; expected batches",
            hint="Give a list of batches, such as [(x, y)], or a DataLoader.",
        )
    if isinstance(data, Iterator):
        raise ProblemError(
            f"{name} is a {type(data).__name__} that can be walked over only once, and is needed many times",
            hint="Give a list or a DataLoader, or call list() on it if it fits in memory.",
        )


def is_pair(batch: Batch) -> bool:
    """Whether a batch is (x, y), for loss(model(x), y); any other is for loss(model, batch)."""
    return isinstance(batch, list | tuple) and len(batch) == 2


def convert(
    batch: Batch, tensor: Callable[[Tensor], Tensor], other: Callable[[Any], Any] = lambda x: x
) -> Batch:
    """The batch with `tensor` applied to each tensor in it, and `other` to what else has a `to` method."""
    if isinstance(batch, Tensor):
        return tensor(batch)
    if isinstance(batch, Mapping):
        items = {key: convert(value, tensor, other) for key, value in batch.items()}
        try:
            return type(batch)(items)  # type: ignore[call-arg]
        except TypeError:
            return items
    if hasattr(batch, "to"):  # a packed sequence, a graph: a thing of its own
        return other(batch)
    if isinstance(batch, list | tuple):
        parts = [convert(part, tensor, other) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        found.append(x)
        return x

    convert(batch, keep)
    return found


def size(batch: Batch) -> int | None:
    """The number of samples: the first dimension, where all tensors of the batch agree on one."""
    sizes = {x.shape[0] for x in tensors(batch) if x.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def part(batch: Batch, where: slice) -> Batch:
    """Some of the samples of a batch that has a `size`."""
    return convert(batch, lambda x: x[where] if x.ndim else x)


def parts(batch: Batch, index: int, most: int | None) -> Sequence[Batch]:
    """Batch number `index` in parts of at most `most` samples; None: as it is.

    Raises:
        ProblemError: it would have to be split and has no `size`.
    """
    if most is None:
        return [batch]
    n = size(batch)
    if n is None:
        raise ProblemError(
            f"batch {index}, {shapes(batch)}, has no first dimension that all its tensors share, so it can't "
            "be split",
            hint="Set torch.microbatch=none, and give batches that the device can hold.",
        )
    return [batch] if n <= most else [part(batch, slice(i, i + most)) for i in range(0, n, most)]


def join(first: Batch, second: Batch) -> Batch | None:
    """The samples of two batches in one; None where they don't fit together."""
    ours, theirs = tensors(first), tensors(second)
    if [(x.shape[1:], x.dtype) for x in ours] != [(x.shape[1:], x.dtype) for x in theirs]:
        return None
    rest = iter(ours)
    return convert(second, lambda x: torch.cat([y, x]) if (y := next(rest)).ndim else x)


def shapes(batch: Batch) -> str:
    """What a batch is made of, in words."""
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key}: {shapes(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, list | tuple):
        return "(" + ", ".join(shapes(value) for value in batch) + ")"
    return type(batch).__name__


def signature(batch: Batch) -> Signature:
    """What tells a batch from another: the shapes, types and bits of its tensors."""
    return [(tuple(x.shape), x.dtype, int(bits(x))) for x in tensors(batch)]


def bits(x: Tensor) -> Tensor:
    """The sum of a tensor's bits, eight bytes at a time, as int64: one changed number changes it."""
    flat = x.detach().reshape(-1).contiguous()
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    raw = flat.view(torch.uint8)
    whole = len(raw) // 8 * 8
    rest = functional.pad(raw[whole:], (0, whole + 8 - len(raw)))
    # Summing int64 as it is takes a thirtieth of the time that summing 32-bit integers into it does.
    return raw[:whole].view(torch.int64).sum() + rest.view(torch.int64).sum()
