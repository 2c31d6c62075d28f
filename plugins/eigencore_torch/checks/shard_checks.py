"""What processes with shards of the weights must have in common, and what is not available for them."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from torch import Tensor

from eigencore.errors import CapabilityError, ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batch_tensors import tensors_of
from eigencore_torch.data.batches import Batches
from eigencore_torch.data.fingerprints import batch_fingerprint
from eigencore_torch.models.params import differentiable
from eigencore_torch.models.shards import is_dtensor
from eigencore_torch.options import TorchOptions

_DATA_HINT = (
    "Give every process all data, or cut the batches: each tensor x as "
    "torch.distributed.tensor.distribute_tensor(x, mesh, [Shard(0)])."
)


def check_shard_options(options: TorchOptions) -> None:
    """Raises CapabilityError for options that are not available for weights cut into shards."""
    for name, value, default in (
        ("route", options.route, "graph"),
        ("products", options.products, "full"),
        ("vocabulary_chunk", options.vocabulary_chunk, None),
        ("batch_norm", options.batch_norm, "running"),
    ):
        if value != default:
            raise CapabilityError(
                f"torch.{name}={value} is not available for weights that are cut into shards (DTensor)",
                hint=f"Leave torch.{name} at {default or 'none'}.",
            )


def check_shard_kind(kind: str) -> None:
    """Raises CapabilityError for a kind that is not available for weights cut into shards."""
    if kind.partition("@")[0] != "hessian":
        raise CapabilityError(
            f"the kind {kind} is not available for weights that are cut into shards (DTensor)",
            hint="Choose the kind hessian, or give a model whose weights are not cut.",
        )


def check_same_everywhere(loss: BatchLoss, batches: Batches) -> None:
    """Raises ProblemError if processes have different data or weights that are not cut.

    They compute every product together. If one had another batch, the others would wait for it, or the
    product would be that of no loss.
    """
    shards = differentiable(loss.model).shards
    if shards is None:
        return

    def own() -> tuple[list[int], dict[str, int]]:
        tensors = (*loss.model.named_parameters(), *loss.model.named_buffers())
        return [_digest(batch) for batch in batches], {name: _digest(x) for name, x in tensors}

    found = shards.processes.collect(own, "the digests of data and weights")
    for rank, (theirs, others) in enumerate(found):
        for index, (first, second) in enumerate(zip(found[0][0], theirs, strict=False)):
            if first != second:
                raise ProblemError(f"batch {index} differs between processes 0 and {rank}", hint=_DATA_HINT)
        if len(theirs) != len(found[0][0]):
            raise ProblemError(
                f"the data have {len(found[0][0])} batches in process 0, and {len(theirs)} in process {rank}",
                hint=_DATA_HINT,
            )
        for name, first in found[0][1].items():
            if others.get(name) != first:
                raise ProblemError(
                    f"{name} differs between processes 0 and {rank}",
                    hint="Load the same weights in every process.",
                )


def _digest(batch: Any) -> int:
    """A number that depends on all tensors, but of a DTensor only on how it is cut."""
    parts = [_placement(x) if is_dtensor(x) else batch_fingerprint([x]) for x in tensors_of(batch)]
    return crc32(repr(parts).encode())


def _placement(x: Tensor) -> Any:
    assert is_dtensor(x)
    return tuple(x.shape), x.dtype, x.placements
