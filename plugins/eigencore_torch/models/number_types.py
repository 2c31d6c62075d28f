"""The types of numbers that weights consist of: those to compute with, and those that only store numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn


def is_computed_with(x: Tensor) -> bool:
    """Whether the numbers are real or complex in at least 16 bits; types of fewer bits only store numbers."""
    return (x.is_floating_point() or x.is_complex()) and x.element_size() > 1


def real_types(tensors: Iterable[Tensor]) -> list[torch.dtype]:
    """The types of the tensors that are computed with; of complex ones, the type of their real parts."""
    return [x.dtype.to_real() for x in tensors if is_computed_with(x)]


def computing_type(model: nn.Module) -> torch.dtype:
    """The data type that a model computes in: the smallest that represents its trainable weights exactly.

    A frozen model computes in the type of all its weights, and one without weights in that of its buffers.
    Complex weights count as their real and imaginary parts.
    """
    for tensors in (
        [p for p in model.parameters() if p.requires_grad],
        list(model.parameters()),
        list(model.buffers()),
    ):
        if types := real_types(tensors):
            return reduce(torch.promote_types, types)
    return torch.get_default_dtype()


def converted(x: Tensor, device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    """The tensor on the device and in the type `dtype`, or in the complex type of the same precision.

    Integers and types that only store numbers keep their type. Module.to() would discard imaginary parts.
    """
    if dtype is not None and x.is_complex():
        return x.to(device, dtype.to_complex())
    return x.to(device, dtype if is_computed_with(x) else None)


def count_not_finite(x: Tensor, allow_infinite: bool = False) -> int:
    """How many numbers are NaN, or infinite unless that is allowed."""
    if not (x.is_floating_point() or x.is_complex()):
        return 0
    try:
        numbers = x.detach() if is_computed_with(x) else x.detach().float()
        if numbers.layout is torch.strided and math.isfinite(torch.linalg.vector_norm(numbers)):
            return 0  # one pass; counting takes several
        return int((numbers.isnan() if allow_infinite else ~numbers.isfinite()).sum())
    except NotImplementedError:
        return 0  # PyTorch can't compute with these numbers, for example with 4-bit ones
