"""The device, data type and weights used for a problem, and the copy of the model made for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import nn

from eigencore.errors import ProblemError, UsageError
from eigencore.problems.sharing import check_dtype
from eigencore_torch import checkpoint
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.batches import type_name

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# float32 represents every number of these types exactly, so that a copy has the same weights.
HALF_TYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class PlacedLoss:
    """A model and its loss, as they were given or copied.

    Attributes:
        dtype: the type that floating-point tensors of the data are converted to; None leaves their type
            unchanged.
        original_parameters: the parameters of the given model, if `loss` has a copy of it.
        note: where the weights come from, if they are not the given model's own in their own type.
    """

    loss: BatchLoss
    dtype: torch.dtype | None
    original_parameters: Sequence[nn.Parameter] = ()
    note: str = ""


def place(
    loss: BatchLoss, device: str | None, dtype: str | None, checkpoint_file: str | Path | None
) -> PlacedLoss:
    """The given model and loss, or copies if another device, data type or checkpoint is requested.

    16-bit weights are copied to float32, since a product in 16 bits can't be distinguished from its rounding
    error. The given model is never changed.

    Raises:
        UsageError: the device, data type or file does not exist.
        ProblemError: the model can't be copied, or the checkpoint does not match it.
    """
    target_device = None if device is None else _device(device)
    target_dtype = None if dtype is None else _dtype(dtype)
    parameters = [p for p in loss.model.parameters() if p.is_floating_point()]
    halves = sorted({type_name(p.dtype) for p in parameters if p.dtype in HALF_TYPES})
    note = ""
    if halves and target_dtype is None:
        target_dtype = reduce(torch.promote_types, (p.dtype for p in parameters), torch.float32)
        note = f"a copy of {' and '.join(halves)} weights"
    if checkpoint_file is None and all(
        target_device in (None, p.device) and target_dtype in (None, p.dtype) for p in parameters
    ):
        return PlacedLoss(loss, target_dtype)
    originals = [p for p in parameters if p.requires_grad]
    placed = PlacedLoss(_copied(loss, target_device, target_dtype), target_dtype, originals, note)
    if checkpoint_file is None:
        return placed
    # After the change of type: a checkpoint may have more digits than the model had.
    checkpoint.load(placed.loss.model, checkpoint_file)
    return replace(placed, note=f"weights of {Path(checkpoint_file).name}")


def _copied(loss: BatchLoss, device: torch.device | None, dtype: torch.dtype | None) -> BatchLoss:
    try:
        # In one call, so that the copies share what the originals share.
        copied = BatchLoss(*copy.deepcopy((loss.model, loss.function)), loss.call)
    except (RuntimeError, TypeError) as error:
        raise ProblemError(
            "the model can't be copied, which is necessary for another device, another data type or a "
            f"checkpoint: {error}",
            hint="Call model.to(...) and model.load_state_dict(...) before binding, and leave out device, "
            "dtype and checkpoint.",
        ) from error
    if not _tensors(loss).isdisjoint(_tensors(copied)):
        raise ProblemError(
            "the model can't be copied, which is necessary for another device, another data type or a "
            "checkpoint: a part of it has a method __deepcopy__ that returns the original weights"
        )
    for module in copied.modules:
        module.to(device=device, dtype=dtype)
    return copied


def _tensors(loss: BatchLoss) -> set[torch.Tensor]:
    return {x for module in loss.modules for x in (*module.parameters(), *module.buffers())}


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"device is {name!r}; CUDA devices that PyTorch finds: {torch.cuda.device_count()}",
                hint="Use --device cpu, or install a PyTorch built for CUDA.",
            )
        # PyTorch does not consider "cuda" and "cuda:0" equal.
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return torch.device("cpu")


def _dtype(name: str) -> torch.dtype:
    # str(): the value may also be torch.float64 itself, as is usual in Python.
    known = str(name).removeprefix("torch.")
    check_dtype(known)
    return DTYPES[known]
