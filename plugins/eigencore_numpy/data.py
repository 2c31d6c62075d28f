"""Batches (x, y) gathered into one block of samples, each looked over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from eigencore.errors import ProblemError, UsageError
from eigencore_numpy.network import Numbers, TwoLayer


@dataclass(frozen=True)
class Samples:
    """The samples of all batches, one after the other.

    Attributes:
        x, y: inputs (N, d) and labels (N,).
        shape: of one input.
        sizes: the samples in each batch.
    """

    x: Numbers
    y: npt.NDArray[np.int64]
    shape: tuple[int, ...]
    sizes: npt.NDArray[np.int64]

    def astype(self, dtype: npt.DTypeLike) -> Samples:
        return replace(self, x=self.x.astype(dtype))

    def of(self, batches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The numbers of the samples in some batches."""
        ends = np.cumsum(self.sizes)
        return np.concatenate([np.arange(ends[b] - self.sizes[b], ends[b]) for b in batches])


def gather(data: Any, network: TwoLayer, what: str = "data") -> Samples:
    """A copy of all samples of the batches, in the network's data type.

    Raises:
        ProblemError: the data can't be walked over again and again, are empty, or a batch is not of inputs
            and labels that fit the network; the batch is named.
    """
    if not isinstance(data, Iterable) or isinstance(data, Iterator):
        once = " that can be walked over only once" if isinstance(data, Iterator) else ""
        raise ProblemError(
            f"{what} is a {type(data).__name__}{once}; expected batches",
            hint="Give a list of batches, such as [(x, y)].",
        )
    pairs = [_pair(batch, f"batch {index} of {what}", network) for index, batch in enumerate(data)]
    if not sum(len(y) for _, y in pairs):
        raise ProblemError(f"{what} is empty: it gave no sample", hint="Give at least one batch (x, y).")
    shapes = sorted({x.shape[1:] for x, _ in pairs})
    if len(shapes) > 1:
        raise ProblemError(f"{what} has inputs of shape {shapes[0]} and {shapes[1]}; expected one shape")
    x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    rows = np.array(x.reshape(len(x), -1), dtype=network.dtype)
    sizes = np.array([len(labels) for _, labels in pairs])
    return Samples(rows, y.astype(np.int64), shapes[0], sizes)


def rows(network: TwoLayer, x: Numbers) -> Numbers:
    """Inputs as the network takes them, (b, d) in its data type.

    Raises:
        UsageError: they have another shape.
    """
    if x.ndim != 2 or x.shape[1] != network.inputs:
        raise UsageError(f"inputs of shape {x.shape}; expected (b, {network.inputs})")
    return np.asarray(x, dtype=network.dtype)


def labelled(network: TwoLayer, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Inputs with a label each.

    Raises:
        UsageError: they have another shape.
    """
    if y.shape != x.shape[:1]:
        raise UsageError(f"labels of shape {y.shape}; expected {x.shape[:1]}, one for each input")
    return rows(network, x), y


def _pair(batch: Any, what: str, network: TwoLayer) -> tuple[Numbers, Numbers]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise ProblemError(
            f"{what} is a {type(batch).__name__}; expected a pair (x, y)",
            hint="Give a list of batches, such as [(x, y)].",
        )
    try:
        x, y = (np.asarray(part) for part in batch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProblemError(f"{what} is no pair of arrays: {error}") from error
    if x.dtype.kind not in "fiub" or x.ndim < 1 or x[:1].size != network.inputs * min(len(x), 1):
        raise ProblemError(
            f"the inputs of {what} are {x.dtype} {x.shape}; expected numbers (b, {network.inputs}), "
            "or any shape of a row that has as many"
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise ProblemError(
            f"the labels of {what} are {y.dtype} {y.shape}; expected whole numbers ({len(x)},)"
        )
    if not np.all(np.isfinite(x)):
        raise ProblemError(f"{what} holds inputs that are NaN or infinite")
    if y.size and not (y.min() >= 0 and y.max() < network.classes):
        raise ProblemError(
            f"the labels of {what} run from {y.min()} to {y.max()}; the model tells {network.classes} "
            f"classes apart, so 0 to {network.classes - 1} were expected",
            hint="Number the labels from 0, or give the model as many outputs as there are classes.",
        )
    return x, y
