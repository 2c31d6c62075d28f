"""The memory of a forward pass, from its autograd graph: an estimate that takes no computation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from eigencore_torch.checks.suspects import nodes_of
from eigencore_torch.data.batch_tensors import Batch, tensors_of
from eigencore_torch.data.batches import sample_count
from eigencore_torch.evaluation.convolutions import Convolution

# The shapes of tensors without the number of samples, and their types.
SampleKind: TypeAlias = tuple[tuple[object, torch.dtype], ...]


@dataclass(frozen=True)
class ForwardSize:
    """The bytes of what the operations of a forward pass over some samples return.

    Attributes:
        kind: that of the samples.
    """

    kind: SampleKind
    samples: int
    bytes: int


def forward_size(value: Tensor, batch: Batch) -> ForwardSize | None:
    """The memory of the forward pass over a batch, given its loss with the graph.

    Returns:
        None if the graph does not show it: it has nested tensors, or custom autograd functions, which hide
        operations; or the tensors of the batch share no number of samples.
    """
    samples = sample_count(batch)
    if not samples:
        return None
    size = 0
    for node in nodes_of(value):
        if getattr(node, "_forward_cls", Convolution) is not Convolution:
            return None
        for output in () if hasattr(node, "variable") else node._input_metadata:
            if output.is_nested_tensor:
                return None
            size += math.prod(output.shape) * output.dtype.itemsize
    return ForwardSize(sample_kind(batch, samples), samples, size)


def sample_kind(batch: Batch, samples: int | None) -> SampleKind:
    """The shapes and types of a batch's tensors, without the number of samples.

    A nested tensor has no shape: samples of all shapes count as alike.
    """
    first = 0 if samples is None else 1
    return tuple(("nested" if x.is_nested else tuple(x.shape[first:]), x.dtype) for x in tensors_of(batch))
