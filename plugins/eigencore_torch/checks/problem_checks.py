"""Checks of the model, data and loss before the first product, so that faults raise errors with hints.

Together they cost about one forward pass and one pass over the data without the model. Inferring the
reduction takes a few gradients of some samples in addition, and of batches that are not pairs a second
forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore.news import counter, report
from eigencore.problems.sharing import check_finite_weights
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.checks.failure_hints import NESTED_HINT
from eigencore_torch.checks.target_checks import ElementwiseShapes, check_targets
from eigencore_torch.data.batch_tensors import Batch, map_tensors, strided_parts, tensors_of
from eigencore_torch.data.batches import Batches, first_samples, sample_count, split_batch
from eigencore_torch.data.fingerprints import BatchFingerprint, batch_fingerprint
from eigencore_torch.models.number_types import count_not_finite
from eigencore_torch.models.shards import whole
from eigencore_torch.user_errors import explain_errors

# Samples that show whether a loss is random: so many, or this part of the batch.
_FEW, _PART = 4, 16


def check_layers(model: nn.Module) -> None:
    """Raises ProblemError for layers and weights with which the loss can't be computed, naming them."""
    for name, module in model.named_modules():
        layer = name or "the model"
        if getattr(module, "max_norm", None) is not None:
            raise ProblemError(
                f"{layer} changes its own weights in every forward pass (max_norm)",
                hint="Set its max_norm to None; all rows used so far have been renormalised already.",
            )
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ProblemError(f"{name} has no shape yet", hint="Run the model on one batch first.")
        if parameter.is_meta:
            raise ProblemError(
                f"{name} has a shape but no values, because it is on the meta device",
                hint="Call model.to_empty(device='cpu') and load its weights.",
            )


def check_weights(model: nn.Module) -> None:
    """Raises ProblemError for weights that are not finite or not all on one device, naming the parameter."""
    devices = {}
    for name, parameter in model.named_parameters():
        devices[parameter.device] = name
        check_finite_weights(name, count_not_finite(parameter), parameter.numel())
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
    observe: Callable[[Batch, int, Tensor, Any], None] | None = None,
    inspect_first: Callable[[Batch, int, Tensor], None] | None = None,
    original_parameters: Sequence[nn.Parameter] = (),
) -> None:
    """Checks every batch and its loss.

    Args:
        microbatch: the largest number of samples in a forward pass; larger batches are checked in parts.
        batch_weight: the weight of a batch, or of a part of one; at weight zero its loss is not checked.
        observe: is called with each batch, or each part of one, its number, its loss, which it checks to be
            finite, and the outputs of the model if it is a pair.
        inspect_first: is called with the first batch, or part of one, whose weight is not zero, its number
            and its loss.
        original_parameters: the parameters of the given model, if `loss` has a copy of it.

    Raises:
        ProblemError: there are no batches; labels are out of range; the loss is random, not finite or does
            not depend on the weights; or two passes over the data differ. The message names the batch.
    """
    fingerprints: list[BatchFingerprint] = []
    first = True
    outputs: list[Any] = []
    trainable = any(p.requires_grad for p in loss.model.parameters())
    done = counter(report, "checking data and loss", None, "batches")
    for index, batch in enumerate(batches):
        fingerprints.append(batch_fingerprint(batch))
        for part in split_batch(batch, index, microbatch):
            if batch_weight is not None and not batch_weight(part, index):
                continue
            if sample_count(part) == 0:
                raise ProblemError(f"batch {index} has no samples", hint="Remove it from the data.")
            outputs.clear()
            with ElementwiseShapes(index):
                value = loss(part, index, inspect=partial(_inspect, loss.function, index, outputs))
            finite = bool(torch.isfinite(value))
            if finite or observe is None:
                check_finite(float(value.detach()), part, index)
                _check_depends_on_weights(value, index, trainable)
            if finite and first:
                _check_reproducible(loss, part, index, value)
                _check_model_used(value, original_parameters)
                _check_nested(value, part, loss.model)
                if inspect_first is not None:
                    inspect_first(part, index, value)
                first = False
            if observe is not None:
                observe(part, index, value, outputs[0] if outputs else None)
        done(index + 1)
    if not fingerprints:
        raise no_batch()
    report("checking that a second pass over the data yields the same batches")
    _check_passes_agree(fingerprints, [batch_fingerprint(batch) for batch in batches])


def no_batch() -> ProblemError:
    """The error for empty data."""
    return ProblemError("data is empty: it yields no batch", hint="Give at least one batch (x, y).")


def check_finite(loss: float, batch: Batch, index: int) -> None:
    """Raises ProblemError if the loss of batch number `index`, or of a part of it, is not finite."""
    if not math.isfinite(loss):
        parts = [part for x in tensors_of(batch) for part in strided_parts(x)]
        finite = all(bool(torch.isfinite(part).all()) for part in parts)
        raise ProblemError(
            f"the loss of batch {index} is {loss}",
            hint="Check the model and the loss: all values in the batch are finite."
            if finite
            else "Remove the NaN or infinite values that the batch itself contains.",
        )


def _check_depends_on_weights(value: Tensor, index: int, trainable: bool) -> None:
    if trainable and not value.requires_grad:
        raise ProblemError(
            f"the loss of batch {index} does not depend on the trainable weights",
            hint="Look for detach(), .item(), .data or no_grad() in the model and the loss.",
        )


def _check_nested(value: Tensor, batch: Batch, model: nn.Module) -> None:
    """Refuses operations on nested tensors that PyTorch can't differentiate twice, as most of them are."""
    if not any(x.is_nested for x in tensors_of(batch)):
        return
    weights = [p for p in model.parameters() if p.requires_grad]
    with explain_errors("the loss of nested tensors can't be differentiated twice", hint=NESTED_HINT):
        slopes = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True)
        dependent = [slope.sum() for slope in slopes if slope is not None and slope.requires_grad]
        if dependent:
            torch.autograd.grad(dependent, weights, retain_graph=True, allow_unused=True)


def _check_reproducible(loss: BatchLoss, batch: Batch, index: int, value: Tensor) -> None:
    """Compares two forward passes over the first samples, or over all if the loss is not defined on a part.

    Args:
        value: the loss of the whole batch.
    """
    part = first_samples(batch, max(_FEW, (sample_count(batch) or 0) // _PART))
    first = second = math.nan
    if part is not None:
        with suppress(ProblemError):
            first, second = (float(loss(part, index).detach()) for _ in range(2))
    if not math.isfinite(first):
        first, second = float(value.detach()), float(loss(batch, index).detach())
    # Kernels that sum in no fixed order differ by rounding.
    if abs(first - second) > 1e3 * torch.finfo(value.dtype).eps * max(abs(first), abs(second)):
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
            "device or data type, for a checkpoint, or because all its weights are frozen)",
            hint="Make the loss use the model that it is called with, as in loss(model, batch); or convert "
            "the given model yourself before binding it, and call requires_grad_(True) if it is frozen.",
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


def _inspect(loss_function: Any, index: int, kept: list[Any], outputs: Any, targets: Any) -> None:
    """Checks the targets, and keeps the outputs."""
    kept.append(outputs)
    check_targets(loss_function, index, outputs, map_tensors(targets, whole))
