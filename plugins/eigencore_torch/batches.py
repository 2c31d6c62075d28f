"""Batches of data: iterating over them, and describing, splitting and joining them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from eigencore.errors import ProblemError
from eigencore.problems.sharing import check_reiterable
from eigencore_torch.number_types import converted

Batch: TypeAlias = Any

SAME_DATA_HINT = "Give data that are the same in every pass, such as a list of batches."


class Batches:
    """Data that can be iterated repeatedly, with each batch moved to the device.

    Args:
        data: an iterable of batches.
        device: where the batches are moved to.
        dtype: the type that floating-point tensors are converted to, and complex ones to the complex type of
            the same precision; None leaves their type unchanged.
        name: the name of the data in messages.

    Raises:
        ProblemError: `data` can't be iterated, can be iterated only once, or yields samples instead of
            batches.
    """

    def __init__(self, data: Any, device: torch.device, dtype: torch.dtype | None, name: str = "data"):
        _require_reiterable(data, name)
        self.data, self.device, self.dtype, self.name = data, device, dtype, name

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._iterate():
            yield self._move(batch)

    def fetch(self, wanted: Collection[int]) -> dict[int, Batch]:
        """The batches with the given numbers.

        A sequence, such as a list, is read at these indices. Other data, such as a loader, are iterated up to
        the last wanted batch.

        Raises:
            ProblemError: the data have fewer batches.
        """
        numbered: Iterable[tuple[int, Batch]]
        if isinstance(self.data, Sequence):
            numbered = ((index, self.data[index]) for index in sorted(wanted) if index < len(self.data))
        else:
            numbered = enumerate(islice(self._iterate(), max(wanted, default=-1) + 1))
        found = {index: self._move(batch) for index, batch in numbered if index in wanted}
        if missing := set(wanted) - found.keys():
            raise ProblemError(
                f"the data changed: batch {min(missing)} no longer exists",
                hint=SAME_DATA_HINT,
            )
        return found

    def _iterate(self) -> Iterator[Batch]:
        iterator = iter(self.data)
        for index in range(1 << 62):
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except (Exception, SystemExit) as error:
                raise ProblemError(
                    f"{self.name} failed at batch {index}: {type(error).__name__}: {error}",
                    hint=f"Fix the iteration over `{self.name}`, which raised this error.",
                ) from error
            yield batch

    def _move(self, batch: Batch) -> Batch:
        def move(x: Tensor) -> Tensor:
            # Detached: a loss that calls requires_grad_() on its inputs must not change the user's data.
            return converted(x.detach(), self.device, self.dtype)

        return map_tensors(batch, move, lambda x: x.to(self.device))


def _require_reiterable(data: Any, name: str) -> None:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which gives single samples; expected batches",
            hint="Wrap it in a loader: torch.utils.data.DataLoader(data, batch_size=256).",
        )
    check_reiterable(data, name, "a list of batches, such as [(x, y)], or a DataLoader")


def is_pair(batch: Batch) -> bool:
    """Whether a batch is a pair (x, y), for loss(model(x), y); any other is for loss(model, batch)."""
    return isinstance(batch, list | tuple) and len(batch) == 2


def map_tensors(
    batch: Batch, tensor: Callable[[Tensor], Tensor], other: Callable[[Any], Any] = lambda x: x
) -> Batch:
    """The batch with `tensor` applied to its tensors, and `other` to its other objects with a method `to`."""
    if isinstance(batch, Tensor):
        return tensor(batch)
    if isinstance(batch, Mapping):
        items = {key: map_tensors(value, tensor, other) for key, value in batch.items()}
        try:
            return type(batch)(items)  # type: ignore[call-arg]
        except TypeError:
            return items
    if hasattr(batch, "to"):  # an object such as a packed sequence or a graph, which moves itself
        return other(batch)
    if isinstance(batch, list | tuple):
        mapped = [map_tensors(item, tensor, other) for item in batch]
        return type(batch)(*mapped) if hasattr(batch, "_fields") else type(batch)(mapped)
    return batch


def tensors_of(batch: Batch) -> list[Tensor]:
    """All tensors in a batch, in a fixed order."""
    found: list[Tensor] = []

    def collect(x: Tensor) -> Tensor:
        found.append(x)
        return x

    map_tensors(batch, collect)
    return found


def sample_count(batch: Batch) -> int | None:
    """The number of samples: the first dimension of the batch's tensors; None if they do not share one."""
    sizes = {x.shape[0] for x in tensors_of(batch) if x.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def take_samples(batch: Batch, where: slice) -> Batch:
    """Some of the samples of a batch that has a `sample_count`."""
    return map_tensors(batch, lambda x: x[where] if x.ndim else x)


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


def join_batches(first: Batch, second: Batch) -> Batch | None:
    """The samples of two batches in one batch; None if their shapes or types differ."""
    ours, theirs = tensors_of(first), tensors_of(second)
    if [(x.shape[1:], x.dtype) for x in ours] != [(x.shape[1:], x.dtype) for x in theirs]:
        return None
    rest = iter(ours)
    return map_tensors(second, lambda x: torch.cat([y, x]) if (y := next(rest)).ndim else x)


def describe(batch: Batch) -> str:
    """The structure of a batch with the types and shapes of its tensors, for messages."""
    if isinstance(batch, Tensor):
        return f"{type_name(batch.dtype)} {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key}: {describe(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, list | tuple):
        return "(" + ", ".join(describe(value) for value in batch) + ")"
    return type(batch).__name__


def type_name(dtype: torch.dtype) -> str:
    """The name of a data type without its module: "float32"."""
    return str(dtype).removeprefix("torch.")
