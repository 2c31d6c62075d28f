"""The samples of all batches, and chunks of them of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
import numpy.typing as npt

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CALLS, Minibatch, check_reiterable
from eigencore_jax.program import Chunk

if TYPE_CHECKING:
    from eigencore.space import Floats

Indices: TypeAlias = npt.NDArray[np.intp]

# With fewer samples at once, a processor is not busy.
SMALLEST_CHUNK = 256


@dataclass(frozen=True)
class JaxSamples:
    """The samples of all batches, one batch after the other, in the host's memory.

    Attributes:
        batch: a pair (x, y) or another pytree of arrays (N, ...).
        sizes: the number of samples in each batch.
        weights: the weight of each sample in a loss that is a mean (N,); see `sample_weights`.
    """

    batch: Any
    sizes: tuple[int, ...]
    weights: Floats

    def __len__(self) -> int:
        """The number of samples N."""
        return sum(self.sizes)

    def rows(self, index: Indices) -> Any:
        """Some samples."""
        return jax.tree.map(lambda leaf: leaf[index], self.batch)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The indices of the first sample of each batch, and of that after its last."""
        ends = [0, *np.cumsum(self.sizes).tolist()]
        return list(pairwise(ends))

    @property
    def batch_weights(self) -> list[float]:
        """The weight of each batch, the sum of those of its samples."""
        return [float(self.weights[start:end].sum()) for start, end in self.ranges]

    def drawn(self, minibatch: Minibatch) -> tuple[Indices, Floats]:
        """The indices of the samples in a minibatch, and the factor of each."""
        return minibatch.samples(self.sizes)

    def chunk_size(self, most: int | None) -> int:
        """The number of samples that are computed at once: at most `most`, and at most N."""
        usual = max(*self.sizes, SMALLEST_CHUNK) if most is None else most
        return min(usual, len(self))


def chunks_of(samples: JaxSamples, rows: Indices, factors: Floats, size: int, place: Any) -> list[Chunk]:
    """Some samples with the weight of each, in chunks of `size`, without those of weight zero.

    If there are fewer samples, the size is the next power of two: few sizes are compiled.

    Args:
        place: puts a pytree of host arrays on the device, in the data type to compute in.
    """
    rows, factors = rows[factors != 0], factors[factors != 0]
    size = min(size, 1 << (len(rows) - 1).bit_length())
    chunks = []
    for start in range(0, len(rows), size):
        part, own = rows[start : start + size], factors[start : start + size]
        padding = size - len(part)
        part, own = np.pad(part, (0, padding), mode="edge"), np.pad(own, (0, padding))
        chunks.append(Chunk(place(samples.rows(part)), place(own)))
    return chunks


def gather(data: Iterable[Any], call: str | None, name: str = "data") -> tuple[JaxSamples, str]:
    """All samples of the batches, and how the loss is called with a batch.

    Args:
        call: `Problem.call`.
        name: the name of the data in messages.

    Raises:
        ProblemError: the data are empty or can't be iterated repeatedly, or a batch does not consist of
            arrays of finite numbers with one row for each sample; the message names the batch.
    """
    check_reiterable(data, name)
    batches, pairs = [], []
    for index, batch in enumerate(data):
        pairs.append(isinstance(batch, tuple | list) and len(batch) == 2)
        batch = tuple(batch) if pairs[-1] else batch
        batches.append(_on_host(batch, f"batch {index} of {name}"))
    if len(set(pairs)) > 1:
        raise ProblemError(f"{name} has pairs (x, y) and other batches; expected one of the two")
    sizes = tuple(_size(batch, f"batch {index} of {name}") for index, batch in enumerate(batches))
    if not sum(sizes):
        raise ProblemError(f"{name} is empty: it has no samples", hint="Give at least one batch (x, y).")
    if call is None:
        call = CALLS[0] if pairs[0] else CALLS[1]
    if call == CALLS[0] and not pairs[0]:
        raise ProblemError(f"call is {call!r}, but the batches of {name} are not pairs (x, y)")
    return JaxSamples(_joined(batches, name), sizes, np.ones(sum(sizes))), call


def _on_host(batch: Any, name: str) -> Any:
    def array(leaf: Any) -> Any:
        try:
            x = np.asarray(leaf)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ProblemError(f"{name} has something else than arrays: {error}") from error
        if x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
            raise ProblemError(f"{name} has values of type {x.dtype}; expected numbers")
        if x.dtype.kind == "f" and not np.all(np.isfinite(x)):
            raise ProblemError(
                f"{name} has numbers that are NaN or infinite", hint="Remove or replace these samples."
            )
        return x

    return jax.tree.map(array, batch)


def _size(batch: Any, name: str) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ProblemError(
            f"{name} has arrays of shape {', '.join(map(str, shapes)) or 'none'}; expected one row for each "
            "sample in every array"
        )
    return int(shapes[0][0])


def _joined(batches: Sequence[Any], name: str) -> Any:
    kinds = [
        (jax.tree.structure(batch), [leaf.shape[1:] for leaf in jax.tree.leaves(batch)]) for batch in batches
    ]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ProblemError(
                f"batches 0 and {index} of {name} differ beyond their number of samples: arrays of shape "
                f"{kinds[0][1]} and {kind[1]} for each sample",
                hint="Pad all samples to one shape, with a loss that leaves the padding out.",
            )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)
