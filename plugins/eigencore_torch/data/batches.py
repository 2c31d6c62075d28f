"""Batches of data: iterating over them, and describing, splitting and joining them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from eigencore.errors import ProblemError
from eigencore.problems.sharing import check_reiterable
from eigencore_torch.data.batch_tensors import Batch, first_dimensions, map_tensors, moved, tensors_of
from eigencore_torch.data.data_part import DataPart
from eigencore_torch.data.transfers import Begun, Send, Transfer, one_ahead, transfer_to
from eigencore_torch.user_errors import explain_errors

SAME_DATA_HINT = "Give data that are the same in every pass, such as a list of batches."


class Batches:
    """Data that can be iterated repeatedly, with each batch moved to the device.

    Args:
        data: an iterable of batches.
        device: where the batches are moved to.
        dtype: the type that floating-point tensors are converted to, and complex ones to the complex type of
            the same precision; None leaves their type unchanged.
        name: the name of the data in messages.
        join: batches of fewer samples are joined with those after them; None: they are left as they are.
        part: the samples that are iterated over; None: all. Batches are numbered from the first one of these.

    Raises:
        ProblemError: `data` can't be iterated, can be iterated only once, or yields samples instead of
            batches.
    """

    def __init__(
        self,
        data: Any,
        device: torch.device,
        dtype: torch.dtype | None,
        name: str = "data",
        join: int | None = None,
        part: DataPart | None = None,
    ):
        _require_reiterable(data, name)
        self.data, self.device, self.dtype, self.name = data, device, dtype, name
        self._join, self.part = join, part

    @property
    def joins(self) -> bool:
        """Whether batches are joined."""
        return self._join is not None

    def of_part(self, part: DataPart) -> Batches:
        """The same batches, of which only a part is iterated over."""
        return Batches(self.data, self.device, self.dtype, self.name, self._join, part)

    def __iter__(self) -> Iterator[Batch]:
        batches = (batch for _, batch in self._moved(self._of_part()))
        return batches if self._join is None else _joined(batches, self._join)

    def fetch(self, wanted: Collection[int]) -> dict[int, Batch]:
        """The batches with the given numbers.

        A sequence, such as a list, is read at these indices. Other data, such as a loader, and batches that
        are joined are iterated up to the last wanted batch.

        Raises:
            ProblemError: the data have fewer batches.
        """
        upto = max(wanted, default=-1) + 1
        if self._join is not None:
            found = {index: batch for index, batch in enumerate(islice(self, upto)) if index in wanted}
        else:
            first = 0 if self.part is None else self.part.first
            numbered = self._of_part({first + index for index in wanted})
            found = {index - first: batch for index, batch in self._moved(numbered)}
        if missing := set(wanted) - found.keys():
            raise ProblemError(
                f"the data changed: batch {min(missing)} no longer exists",
                hint=SAME_DATA_HINT,
            )
        return found

    def _of_part(self, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Batch]]:
        """The batches of the part with their numbers in the data, as they are given.

        Args:
            wanted: the numbers of the batches; None: all of the part.
        """
        part = self.part
        if wanted is None and part is None:
            yield from enumerate(self._iterate())
            return
        chosen = range(part.first, part.last + 1) if wanted is None and part is not None else wanted or ()
        if isinstance(self.data, Sequence):
            yield from ((index, self._read(index)) for index in sorted(chosen) if index < len(self.data))
            return
        numbered = enumerate(islice(self._iterate(), max(chosen, default=-1) + 1))
        yield from ((index, batch) for index, batch in numbered if index in chosen)

    def _iterate(self) -> Iterator[Batch]:
        with self._explained(0):
            iterator = iter(self.data)
        for index in range(1 << 62):
            with self._explained(index):
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    def _read(self, index: int) -> Batch:
        with self._explained(index):
            return self.data[index]

    def _explained(self, index: int) -> AbstractContextManager[None]:
        hint = f"Fix the iteration over `{self.name}`, which raised this error."
        return explain_errors(f"{self.name} failed at batch {index}", hint=hint)

    def _moved(self, numbered: Iterator[tuple[int, Batch]]) -> Iterator[tuple[int, Batch]]:
        """Numbered batches on the device; on a GPU, each is copied while the one before is in use."""
        if self._transfer is None:
            return ((index, self._move(batch, index)) for index, batch in numbered)
        return one_ahead(numbered, partial(self._begin, self._transfer))

    def _begin(self, transfer: Transfer, one: tuple[int, Batch]) -> Begun[tuple[int, Batch]]:
        index, batch = one
        begun = transfer.begin(batch, lambda send: self._move(batch, index, send))
        return Begun(lambda: (index, begun.finish()), begun.may_wait)

    @cached_property
    def _transfer(self) -> Transfer | None:
        return transfer_to(self.device)

    def _move(self, batch: Batch, index: int, send: Send | None = None) -> Batch:
        place = f"{self.device}" if self.dtype is None else f"{self.device} and {type_name(self.dtype)}"
        with explain_errors(
            f"batch {index} of {self.name}, {describe(batch)}, can't be converted to {place}",
            hint="Convert the data before you give them, or give their tensors in a dictionary.",
        ):
            batch = moved(batch, self.device, self.dtype, send)
        where = None if self.part is None else self.part.of_batch(index)
        return batch if where is None else take_samples(batch, where)


def _require_reiterable(data: Any, name: str) -> None:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which gives single samples; expected batches",
            hint="Wrap it in a loader: torch.utils.data.DataLoader(data, batch_size=256).",
        )
    if isinstance(data, Tensor | np.ndarray | Mapping):
        raise ProblemError(
            f"{name} is {describe(data)}, and not a list of batches",
            hint=f"For one batch, write {name}=[{name}]; for one batch of inputs x and targets y, "
            f"{name}=[(x, y)].",
        )
    check_reiterable(data, name, "a list of batches, such as [(x, y)], or a DataLoader")


def is_pair(batch: Batch) -> bool:
    """Whether a batch is a pair (x, y), for loss(model(x), y); any other is for loss(model, batch)."""
    return isinstance(batch, list | tuple) and len(batch) == 2


def sample_count(batch: Batch) -> int | None:
    """The number of samples: the first dimension of the batch's tensors; None if they do not share one."""
    sizes = {x.size(0) for x in tensors_of(batch) if x.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def sample_count_beside_objects(batch: Batch) -> int | None:
    """Like `sample_count`, but objects count only if their own tensors share a first dimension.

    So the samples of (graphs, y) are those of y.
    """
    sizes = first_dimensions(batch)
    return sizes.pop() if len(sizes) == 1 else None


def take_samples(batch: Batch, where: slice) -> Batch:
    """Some of the samples of a batch that has a `sample_count`."""

    def take(x: Tensor) -> Tensor:
        return _nested_like(x, list(x.unbind()[where])) if x.is_nested else x[where] if x.ndim else x

    return map_tensors(batch, take)


def first_samples(batch: Batch, samples: int) -> Batch | None:
    """The first samples of a batch; None if it has no more than these, or can't be split."""
    n = sample_count(batch)
    if n is None or n <= samples:
        return None
    try:
        return take_samples(batch, slice(samples))
    except (ProblemError, RuntimeError, NotImplementedError):  # an object without copies, a sparse tensor
        return None


def _nested_like(x: Tensor, samples: list[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor(samples, layout=x.layout)


def split_batch(batch: Batch, index: int, microbatch: int | None) -> Sequence[Batch]:
    """Batch number `index` in parts of at most `microbatch` samples; None leaves it whole.

    Raises:
        ProblemError: the batch must be split, but its tensors do not share a first dimension.
    """
    if microbatch is None:
        return [batch]
    n = sample_count(batch)
    if n is None:
        raise ProblemError(
            f"the tensors of batch {index}, {describe(batch)}, do not share a first dimension, so the batch "
            "can't be split",
            hint="Set torch.microbatch=none, and give batches that fit into the device's memory.",
        )
    if n <= microbatch:
        return [batch]
    return [take_samples(batch, slice(i, i + microbatch)) for i in range(0, n, microbatch)]


def join_batches(*batches: Batch) -> Batch | None:
    """The samples of several batches in one batch; None if their shapes or types differ."""
    if any(_sample_kind(batch) != _sample_kind(batches[0]) for batch in batches[1:]):
        return None
    tensors = [tensors_of(batch) for batch in batches]
    before = iter(zip(*tensors[:-1], strict=True))

    def join(x: Tensor) -> Tensor:
        parts = [*next(before), x]
        if x.is_nested:
            return _nested_like(x, [sample for part in parts for sample in part.unbind()])
        return torch.cat(parts) if x.ndim else x

    return map_tensors(batches[-1], join)


def _sample_kind(batch: Batch) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """The shape of a sample in each tensor of a batch, and its type."""
    return [(sample_shape(x), x.dtype) for x in tensors_of(batch)]


def _joined(batches: Iterator[Batch], least: int) -> Iterator[Batch]:
    """Batches of at least so many samples, from consecutive ones whose shapes and types agree."""
    pending: list[Batch] = []
    samples = 0
    for batch in batches:
        count = sample_count(batch)
        if pending and (count is None or _sample_kind(batch) != _sample_kind(pending[0])):
            yield _whole(pending)
            pending, samples = [], 0
        pending.append(batch)
        samples += least if count is None else count
        if samples >= least:
            yield _whole(pending)
            pending, samples = [], 0
    if pending:
        yield _whole(pending)


def _whole(batches: list[Batch]) -> Batch:
    return batches[0] if len(batches) == 1 else join_batches(*batches)


def sample_shape(x: Tensor) -> tuple[int, ...]:
    """The shape of one sample; -1 in every dimension of a nested tensor, where it differs between samples."""
    return (-1,) * (x.ndim - 1) if x.is_nested else tuple(x.shape[1:])


def describe(batch: Batch, levels: int = 4) -> str:
    """The structure of a batch with the types and shapes of its tensors, for messages.

    Args:
        levels: how many levels of containers are described.
    """
    if isinstance(batch, Tensor):
        shape = f"of {batch.size(0)} samples" if batch.is_nested else tuple(batch.shape)
        return f"{'nested ' if batch.is_nested else ''}{type_name(batch.dtype)} {shape}"
    if isinstance(batch, np.ndarray):
        return f"array {batch.dtype} {batch.shape}"
    if not isinstance(batch, Mapping | list | tuple):
        return type(batch).__name__
    if not levels:
        return "..."
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key}: {describe(x, levels - 1)}" for key, x in batch.items()) + "}"
    return "(" + ", ".join(describe(x, levels - 1) for x in batch) + ")"


def type_name(dtype: torch.dtype) -> str:
    """The name of a data type without its module: "float32"."""
    return str(dtype).removeprefix("torch.")
