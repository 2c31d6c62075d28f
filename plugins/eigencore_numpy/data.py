"""Batches (x, y) collected into one block of samples, each batch validated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from eigencore.errors import ProblemError
from eigencore.problems.sharing import Minibatch, check_labels, check_reiterable, check_rows
from eigencore_numpy.network import Numbers, TwoLayer


@dataclass(frozen=True)
class Samples:
    """The samples of all batches, one batch after the other.

    Attributes:
        x, y: inputs (N, d) and labels (N,).
        shape: the shape of one input before it was flattened into a row.
        sizes: the number of samples in each batch.
    """

    x: Numbers
    y: npt.NDArray[np.int64]
    shape: tuple[int, ...]
    sizes: npt.NDArray[np.int64]

    def astype(self, dtype: npt.DTypeLike) -> Samples:
        """A copy with the inputs in another data type."""
        return replace(self, x=self.x.astype(dtype))

    def drawn(self, minibatch: Minibatch) -> tuple[npt.NDArray[np.intp], Numbers]:
        """The row indices of the samples in a minibatch, and the factor of each."""
        return minibatch.samples(self.sizes.tolist())


def gather(data: Iterable[Any], network: TwoLayer, name: str = "data") -> Samples:
    """A copy of all samples of the batches, in the network's data type.

    Args:
        name: the name of the data in messages.

    Raises:
        ProblemError: the data are empty or can't be iterated repeatedly, or a batch does not consist of
            inputs and labels that fit the network; the message names the batch.
    """
    check_reiterable(data, name)
    pairs = [_check_batch(batch, f"batch {index} of {name}", network) for index, batch in enumerate(data)]
    if not sum(len(y) for _, y in pairs):
        raise ProblemError(f"{name} is empty: it has no samples", hint="Give at least one batch (x, y).")
    shapes = sorted({x.shape[1:] for x, _ in pairs})
    if len(shapes) > 1:
        raise ProblemError(
            f"{name} has inputs of shape {shapes[0]} and {shapes[1]}; expected the same shape for all inputs"
        )
    x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    rows = np.array(x.reshape(len(x), -1), dtype=network.dtype)
    sizes = np.array([len(labels) for _, labels in pairs])
    return Samples(rows, y.astype(np.int64), shapes[0], sizes)


def as_rows(network: TwoLayer, x: Numbers) -> Numbers:
    """Inputs as the network takes them: rows (b, d) in the network's data type.

    Raises:
        UsageError: the inputs have another shape.
    """
    check_rows(x, network.inputs)
    return np.asarray(x, dtype=network.dtype)


def as_labelled_rows(network: TwoLayer, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Inputs as rows (b, d), with one label per row (b,).

    Raises:
        UsageError: inputs or labels have another shape.
    """
    check_labels(y, x)
    return as_rows(network, x), y


def _check_batch(batch: Any, name: str, network: TwoLayer) -> tuple[Numbers, Numbers]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise ProblemError(
            f"{name} is a {type(batch).__name__}; expected a pair (x, y)",
            hint="Give a list of batches, such as [(x, y)].",
        )
    try:
        x, y = (np.asarray(part) for part in batch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProblemError(f"{name} is not a pair of arrays: {error}") from error
    if x.dtype.kind not in "fiub" or x.ndim < 1 or x[:1].size != network.inputs * min(len(x), 1):
        raise ProblemError(
            f"the inputs of {name} are {x.dtype} {x.shape}; expected numbers of shape (b, {network.inputs}), "
            f"or of another shape with {network.inputs} numbers per sample"
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise ProblemError(f"the labels of {name} are {y.dtype} {y.shape}; expected integers ({len(x)},)")
    if not np.all(np.isfinite(x)):
        raise ProblemError(f"{name} has inputs that are NaN or infinite")
    if y.size and not (y.min() >= 0 and y.max() < network.classes):
        raise ProblemError(
            f"the labels of {name} range from {y.min()} to {y.max()}; the model has {network.classes} "
            f"classes, so labels from 0 to {network.classes - 1} were expected",
            hint="Number the labels from 0, or give the model one output per class.",
        )
    return x, y
