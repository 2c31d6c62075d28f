"""What to write instead if a model or a loss fails on a batch, for the usual reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from eigencore.problems.sharing import CALLS
from eigencore_torch.data.batch_tensors import Batch, attributes_of, tensors_of
from eigencore_torch.data.batches import is_pair, type_name

NESTED_HINT = (
    "PyTorch can't differentiate most operations on nested tensors twice: begin with x.to_padded_tensor(0.0) "
    "in the model or the loss, or compute each sample of x.unbind() separately."
)
# The usual names of the targets in a batch that is a mapping.
_TARGETS = ("labels", "label", "targets", "target", "y")


def hint_for_model(error: BaseException, model: nn.Module, x: Any) -> str | None:
    """What to do if model(x) failed for a batch (x, y)."""
    if isinstance(error, TypeError | AttributeError) and not isinstance(x, PackedSequence):
        if isinstance(x, Mapping):
            return _hint_for_call("loss(model(**batch[0]), batch[1])")
        if isinstance(x, list | tuple):
            return _hint_for_call("loss(model(*batch[0]), batch[1])")
    return _hint_for_tensors(error, model, x)


def hint_for_pair(error: BaseException, model: nn.Module, outputs: Any, y: Any) -> str | None:
    """What to do if loss(outputs, y) failed, with the outputs of the model."""
    if (part := _main_part(outputs)) is not None:
        kind = type(outputs).__name__
        return f"The model returns a {kind}: write lambda outputs, y: loss({part}, y) as the loss."
    if "'Tensor' object" in str(error):
        return (
            f"A batch (x, y) means {CALLS[0]}. If the loss takes the model and the batch, write "
            f'Problem(..., call="{CALLS[1]}").'
        )
    if isinstance(outputs, Tensor) and isinstance(y, Tensor):
        if "Long" in str(error) and y.dtype != torch.int64:
            return f"The labels are {type_name(y.dtype)}: convert them, as in y.long()."
        if not outputs.is_nested and outputs.shape != y.shape and outputs.numel() == y.numel():
            return reshape_hint(outputs)
    return _hint_for_tensors(error, model, (outputs, y))


def hint_for_batch(error: BaseException, model: nn.Module, batch: Batch, declared: bool) -> str | None:
    """What to do if loss(model, batch) failed.

    Args:
        declared: whether the problem requires this call; otherwise the kind of batch does.
    """
    # A loss that takes outputs and targets fails on the model that it gets as its first argument.
    signs = (type(model).__name__, "positional argument", "not callable")
    of_outputs = isinstance(error, TypeError | AttributeError) and any(sign in str(error) for sign in signs)
    if of_outputs and not declared:
        return _hint_for_kind(batch)
    return _hint_for_tensors(error, model, batch)


def single_sample_hint(batch: Batch) -> str | None:
    """What to do if the batch looks like a single sample (x, y); None if it does not."""
    if not (is_pair(batch) and all(isinstance(part, Tensor) for part in batch)):
        return None
    x, y = batch
    if y.ndim == 0 or (x.ndim == y.ndim == 1 and len(x) != len(y)):
        return (
            "If these are single samples, put them into batches: data=torch.utils.data.DataLoader(data, "
            "batch_size=256)."
        )
    return None


def reshape_hint(outputs: Tensor) -> str:
    """What to do if the targets have another shape than the outputs (n, ...), but as many elements."""
    shape = ", ".join(map(str, (-1, *outputs.shape[1:])))
    return f"Give the targets the shape of the outputs: y.reshape({shape})."


def _hint_for_call(body: str) -> str:
    return (
        f"A batch (x, y) means {CALLS[0]}. To pass the parts of x separately, write "
        f'Problem(model, data, lambda model, batch: {body}, call="{CALLS[1]}").'
    )


def _hint_for_kind(batch: Batch) -> str:
    convention = f"A batch that is not a pair means {CALLS[1]}"
    if isinstance(batch, Tensor):
        return f"{convention}. If the data are inputs x and targets y, write data=[(x, y)]."
    if isinstance(batch, list | tuple):
        x, y = "batch[0]", "batch[1]"
    elif isinstance(batch, Mapping):
        keys = [key for key in batch if key not in _TARGETS] or ["x"]
        targets = [key for key in batch if key in _TARGETS] or [*keys[1:], "y"]
        x, y = f"batch[{keys[0]!r}]", f"batch[{targets[0]!r}]"
    else:
        x, y = "batch", "batch.y"
    return f"{convention}: write lambda model, batch: loss(model({x}), {y}) as the loss."


def _main_part(outputs: Any) -> str | None:
    """An expression for a tensor in outputs that are not a tensor themselves, such as outputs["logits"]."""
    if isinstance(outputs, Tensor):
        return None
    if isinstance(outputs, list | tuple):
        return "outputs[0]"
    mapping = isinstance(outputs, Mapping)
    parts = outputs if mapping else attributes_of(outputs)
    names = [name for name, value in parts.items() if isinstance(value, Tensor)]
    if not names:
        return None
    name = "logits" if "logits" in names else names[0]
    return f"outputs[{name!r}]" if mapping else f"outputs.{name}"


def _hint_for_tensors(error: BaseException, model: nn.Module, batch: Batch) -> str | None:
    weights = {p.dtype for p in model.parameters() if p.is_floating_point()}
    ours = type_name(weights.pop()) if len(weights) == 1 else ""
    if "numpy" in str(error):
        return f"Give tensors instead of NumPy arrays: torch.as_tensor(x, dtype=torch.{ours or 'float32'})."
    tensors = tensors_of(batch)
    if any(x.is_nested for x in tensors):
        return NESTED_HINT
    floats = sorted({type_name(x.dtype) for x in tensors if x.is_floating_point()} - {ours})
    if not ours or "type" not in str(error):
        return None
    if floats:
        other = f', or set dtype="{floats[0]}"' if floats[0] in ("float32", "float64") else ""
        convert = f"convert the data, as in x.to(torch.{ours})"
        return f"The data are {floats[0]} and the weights {ours}: {convert}{other}."
    if isinstance(batch, Tensor) and not batch.is_floating_point():
        return f"The inputs are {type_name(batch.dtype)}: convert them, as in x.to(torch.{ours})."
    return None
