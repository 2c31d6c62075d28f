"""Where a model is put: its device, data type and checkpoint, and the copy that is made for these."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import nn

from eigencore.errors import ProblemError, UsageError
from eigencore_torch import checkpoint
from eigencore_torch.risk import BatchLoss, modules_of

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# float32 holds each of their numbers exactly, so that a copy has the same weights.
HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Placed:
    """A model with its loss, as they are or copied.

    Attributes:
        dtype: what floating tensors of the data are turned into; None leaves them as they are.
        left: the parameters of the model that was given, where this is a copy.
        note: whose weights these are, where it is not the given model's own as they stand.
    """

    loss: BatchLoss
    dtype: torch.dtype | None
    left: Sequence[nn.Parameter] = ()
    note: str = ""


def place(loss: BatchLoss, device: str | None, dtype: str | None, weights: str | Path | None) -> Placed:
    """Model and loss as they are, or copies where device, dtype or a checkpoint ask for something else.

    16-bit weights are copied to float32, since a product in 16 bits can't be told from its rounding. The
    model that was given is never changed.

    Args:
        weights: the file of a checkpoint.

    Raises:
        UsageError: there is no such device, dtype or file.
        ProblemError: the model can't be copied, or the checkpoint does not fit it.
    """
    where = None if device is None else _device(device)
    kind = None if dtype is None else _dtype(dtype)
    own = [p for p in loss.model.parameters() if p.is_floating_point()]
    halves = sorted({str(p.dtype).removeprefix("torch.") for p in own if p.dtype in HALVES})
    note = ""
    if halves and kind is None:
        kind = reduce(torch.promote_types, (p.dtype for p in own), torch.float32)
        note = f"a copy of {' and '.join(halves)} weights"
    if weights is None and all(where in (None, p.device) and kind in (None, p.dtype) for p in own):
        return Placed(loss, kind)
    placed = replace(_copied(loss, where, kind), left=[p for p in own if p.requires_grad], note=note)
    if weights is None:
        return placed
    # After the change of type: a checkpoint may have more digits than the model had.
    checkpoint.load(placed.loss.model, weights)
    return replace(placed, note=f"weights of {Path(weights).name}")


def _copied(loss: BatchLoss, device: torch.device | None, dtype: torch.dtype | None) -> Placed:
    try:
        # Together, so that what they share stays shared.
        copied = BatchLoss(*copy.deepcopy((loss.model, loss.loss)))
    except (RuntimeError, TypeError) as error:
        raise ProblemError(
            f"the model can't be copied, which another device or data type or a checkpoint needs: {error}",
            hint="Give it as it is to be used: model.to(...) and model.load_state_dict(...) before, and "
            "nothing of it here.",
        ) from error
    for module in modules_of(copied):
        module.to(device=device, dtype=dtype)
    return Placed(copied, dtype)


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
                f"device is {name!r}, and PyTorch sees {torch.cuda.device_count()} CUDA devices",
                hint="Use --device cpu, or install a PyTorch built for CUDA.",
            )
        # "cuda" and "cuda:0" are not equal to PyTorch.
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return torch.device("cpu")


def _dtype(name: str) -> torch.dtype:
    # Also torch.float64 itself, as one writes it in Python.
    kind = str(name).removeprefix("torch.")
    if kind not in DTYPES:
        raise UsageError(
            f"dtype is {kind!r}; expected {' or '.join(DTYPES)}",
            hint="Products in fewer digits can't be told from their rounding.",
        )
    return DTYPES[kind]
