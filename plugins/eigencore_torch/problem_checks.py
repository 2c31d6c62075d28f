"""Checks of the model, data and loss before the first product, so that faults raise errors with hints.

Together they cost less than two gradient passes: one forward pass over the whole data, less than two more in
parts if the reduction has to be inferred, and one pass over the data without the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.batches import Batch, Batches, sample_count, split_batch, tensors_of, type_name
from eigencore_torch.fingerprints import BatchFingerprint, batch_fingerprint


def check_layers(model: nn.Module) -> None:
    """Raises ProblemError for layers and weights that make the Hessian unavailable, naming them."""
    for name, module in model.named_modules():
        layer = name or "the model"
        if getattr(module, "max_norm", None) is not None:
            raise ProblemError(
                f"{layer} changes its own weights in every forward pass (max_norm)",
                hint="Set its max_norm to None; all rows used so far have been renormalised already.",
            )
        if getattr(module, "sparse", False) and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise ProblemError(
                f"{layer} has sparse gradients, which PyTorch can't differentiate again",
                hint="Set its attribute sparse to False; the outputs stay the same.",
            )
    for name, parameter in model.named_parameters():
        _check_type(name, parameter)


def _check_type(name: str, parameter: nn.Parameter) -> None:
    if nn.parameter.is_lazy(parameter):
        raise ProblemError(f"{name} has no shape yet", hint="Run the model on one batch first.")
    if parameter.is_meta:
        raise ProblemError(
            f"{name} has a shape but no values, because it is on the meta device",
            hint="Call model.to_empty(device='cpu') and load its weights.",
        )
    if parameter.is_complex():
        raise ProblemError(f"{name} is complex; expected real weights")
    if parameter.element_size() < 2:
        raise ProblemError(
            f"{name} is {type_name(parameter.dtype)}, a type for storing weights, not for computing "
            "with them",
            hint="Give the model in float32 or bfloat16, with its weights multiplied by their scales.",
        )


def check_weights(model: nn.Module) -> None:
    """Raises ProblemError for weights that are not finite or not all on one device, naming the parameter."""
    devices = {}
    for name, parameter in model.named_parameters():
        devices[parameter.device] = name
        finite = torch.isfinite(parameter.detach())
        if not bool(finite.all()):
            raise ProblemError(
                f"{name} contains NaN or infinite weights: {int((~finite).sum())} of {parameter.numel()}",
                hint="Load weights from before the training diverged.",
            )
    if len(devices) > 1:
        places = " and ".join(f"{name} on {device}" for device, name in devices.items())
        raise ProblemError(
            f"the weights are on several devices: {places}", hint="Give one device for all: device=..."
        )


def check_problem(
    loss: BatchLoss,
    batches: Batches,
    *,
    microbatch: int | None = None,
    batch_weight: Callable[[Batch, int], float] | None = None,
    observe: Callable[[Batch, int, Tensor], None] | None = None,
    original_parameters: Sequence[nn.Parameter] = (),
) -> tuple[Batch, int] | None:
    """Checks every batch and its loss.

    Args:
        microbatch: the largest number of samples in a forward pass; larger batches are checked in parts.
        batch_weight: the weight of a batch, or of a part of one; at weight zero its loss is not checked.
        observe: is called with each batch, or each part of one, its number and its loss.
        original_parameters: the parameters of the given model, if `loss` has a copy of it.

    Returns:
        The first batch, or part of one, whose weight is not zero, and the number of that batch.

    Raises:
        ProblemError: there are no batches; labels are out of range; the loss is random, not finite or does
            not depend on the weights; or two passes over the data differ. The message names the batch.
    """
    fingerprints: list[BatchFingerprint] = []
    first: tuple[Batch, int] | None = None
    for index, batch in enumerate(batches):
        fingerprints.append(batch_fingerprint(batch))
        for part in split_batch(batch, index, microbatch):
            if batch_weight is not None and not batch_weight(part, index):
                continue
            if sample_count(part) == 0:
                raise ProblemError(f"batch {index} has no samples", hint="Remove it from the data.")
            value = loss(part, index, inspect=partial(_check_labels, loss.function, index))
            _check_value(value, part, index)
            if first is None:
                _check_reproducible(value, loss(part, index), index)
                _check_model_used(value, original_parameters)
                first = part, index
            if observe is not None:
                observe(part, index, value)
    if not fingerprints:
        raise ProblemError("data is empty: it yields no batch", hint="Give at least one batch (x, y).")
    _check_passes_agree(fingerprints, [batch_fingerprint(batch) for batch in batches])
    return first


def _check_value(value: Tensor, batch: Batch, index: int) -> None:
    if not bool(torch.isfinite(value)):
        finite = all(bool(torch.isfinite(x).all()) for x in tensors_of(batch))
        raise ProblemError(
            f"the loss of batch {index} is {float(value.detach())}",
            hint="Check the model and the loss: all values in the batch are finite."
            if finite
            else "Remove the NaN or infinite values that the batch itself contains.",
        )
    if not value.requires_grad:
        raise ProblemError(
            f"the loss of batch {index} does not depend on the trainable weights",
            hint="Look for detach(), .item(), .data or no_grad() in the model and the loss.",
        )


def _check_reproducible(once: Tensor, again: Tensor, index: int) -> None:
    first, second = float(once.detach()), float(again.detach())
    # Kernels that sum in no fixed order differ by rounding.
    if abs(first - second) > 1e3 * torch.finfo(once.dtype).eps * max(abs(first), abs(second)):
        raise ProblemError(
            f"the loss of batch {index} is not reproducible in evaluation mode: it is {first:.6g} in one "
            f"forward pass and {second:.6g} in the next",
            hint="Look for something that is random or changes with each call: a dropout without "
            "training=self.training, noise, or a buffer that is updated.",
        )


def _check_model_used(value: Tensor, original_parameters: Sequence[nn.Parameter]) -> None:
    """Refuses a loss that depends on the given model's weights although it was called with a copy."""
    if not original_parameters:
        return
    gradients = torch.autograd.grad(value, original_parameters, retain_graph=True, allow_unused=True)
    if any(gradient is not None for gradient in gradients):
        raise ProblemError(
            "the loss uses the weights of the given model, but a copy of that model is in use (for another "
            "device or data type, or for a checkpoint)",
            hint="Make the loss use the model that it is called with, as in loss(model, batch); or convert "
            "the given model yourself before binding it.",
        )


def _check_passes_agree(first: list[BatchFingerprint], second: list[BatchFingerprint]) -> None:
    hint = "Use shuffle=False and no random augmentation, or draw the batches once: data=list(loader)."
    for index, (once, again) in enumerate(zip(first, second, strict=False)):
        if once != again:
            raise ProblemError(f"two passes over the data differ, first at batch {index}", hint=hint)
    if len(first) != len(second):
        raise ProblemError(
            f"the data gave {len(first)} batches in the first pass and {len(second)} in the second", hint=hint
        )


def _check_labels(loss_function: Any, index: int, outputs: Any, labels: Any) -> None:
    """Refuses labels out of range for losses that take class labels; on a GPU they would end the process."""
    by_class = isinstance(loss_function, nn.CrossEntropyLoss | nn.NLLLoss)
    if not (by_class or loss_function in (functional.cross_entropy, functional.nll_loss)):
        return
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)) or labels.is_floating_point():
        return
    if outputs.ndim != labels.ndim + 1:
        return  # the loss function itself raises an error about the shapes
    classes = outputs.shape[1 if labels.ndim else 0]
    counted = labels[labels != (loss_function.ignore_index if by_class else -100)]
    if counted.numel() and not (int(counted.min()) >= 0 and int(counted.max()) < classes):
        raise ProblemError(
            f"the labels of batch {index} range from {int(counted.min())} to {int(counted.max())}; expected "
            f"0 to {classes - 1}, since the model distinguishes {classes} classes",
            hint="Number the labels from 0, or give the model as many outputs as there are classes.",
        )
