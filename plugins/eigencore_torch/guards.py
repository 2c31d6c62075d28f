"""What is looked at before the first product, so that a wrong answer is an error with its fix in words.

Together this costs less than two gradient passes: one forward pass over the data whole, less than two in
parts where the reduction is to be found out, and one walk over the data without the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore.errors import ProblemError
from eigencore_torch.data import Batch, Batches, Signature, parts, signature, size, tensors
from eigencore_torch.risk import BatchLoss


def refuse_layers(model: nn.Module) -> None:
    """Raises ProblemError on layers and weights that no product can be had through, naming them."""
    for name, module in model.named_modules():
        if getattr(module, "max_norm", None) is not None:
            raise ProblemError(
                f"{name} changes its own weights at every forward pass (max_norm)",
                hint="Set its max_norm to None: the rows that were ever used are renormalised already.",
            )
        if getattr(module, "sparse", False) and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise ProblemError(
                f"{name} has sparse gradients, which PyTorch can't differentiate again",
                hint="Set its attribute sparse to False; the outputs stay the same.",
            )
    for name, parameter in model.named_parameters():
        _refuse_type(name, parameter)


def _refuse_type(name: str, parameter: nn.Parameter) -> None:
    if nn.parameter.is_lazy(parameter):
        raise ProblemError(f"{name} has no shape yet", hint="Run the model on one batch first.")
    if parameter.is_meta:
        raise ProblemError(
            f"{name} has a shape but no numbers: it is on the meta device",
            hint="Call model.to_empty(device='cpu') and load its weights.",
        )
    if parameter.is_complex():
        raise ProblemError(f"{name} is complex; the Hessian of real weights is meant here")
    if parameter.element_size() < 2:
        kind = str(parameter.dtype).removeprefix("torch.")
        raise ProblemError(
            f"{name} is {kind}, which is for storing weights, not for computing with them",
            hint="Give the model in float32 or bfloat16, its weights multiplied by their scales.",
        )


def refuse_weights(model: nn.Module) -> None:
    """Raises ProblemError on weights that are not finite or on several devices, naming the parameter."""
    devices = {}
    for name, parameter in model.named_parameters():
        devices[parameter.device] = name
        if not bool(torch.isfinite(parameter.detach()).all()):
            count = int((~torch.isfinite(parameter.detach())).sum())
            raise ProblemError(
                f"{name} has {count} weights that are NaN or infinite",
                hint="Load weights from before the training diverged.",
            )
    if len(devices) > 1:
        where = " and ".join(f"{name} on {device}" for device, name in devices.items())
        raise ProblemError(f"the weights are on several devices: {where}", hint="Give device=...")


def examine(
    loss: BatchLoss,
    batches: Batches,
    *,
    most: int | None = None,
    weigh: Callable[[Batch, int], float] | None = None,
    look: Callable[[Batch, int, Tensor], None] | None = None,
    left: Sequence[nn.Parameter] = (),
) -> None:
    """Looks every batch over.

    Args:
        most: samples that the model is given at once; larger batches are looked over in parts.
        weigh: how much a batch counts; where that is nothing, its loss may be anything.
        look: is shown each batch, or part of one, with its number and loss.
        left: the parameters of a model of which `loss` has a copy.

    Raises:
        ProblemError: no batches; labels out of range; a loss that is random, not finite or does not depend
            on the weights; two walks over the data that differ. The batch is named.
    """
    seen: list[Signature] = []
    repeated = False
    for index, batch in enumerate(batches):
        seen.append(signature(batch))
        for piece in parts(batch, index, most):
            if weigh is not None and not weigh(piece, index):
                continue
            if size(piece) == 0:
                raise ProblemError(f"batch {index} has no samples", hint="Leave it out.")
            value = loss(piece, index, inspect=partial(_refuse_labels, loss.loss, index))
            _refuse_value(value, piece, index)
            if not repeated:
                _refuse_random(value, loss(piece, index), index)
                _refuse_left(value, left)
                _refuse_once_differentiable(value)
                repeated = True
            if look is not None:
                look(piece, index, value)
    if not seen:
        raise ProblemError("data is empty: it gave no batch", hint="Give at least one batch (x, y).")
    _refuse_differing(seen, [signature(batch) for batch in batches])


def _refuse_value(value: Tensor, batch: Batch, index: int) -> None:
    if not bool(torch.isfinite(value)):
        own = all(bool(torch.isfinite(x).all()) for x in tensors(batch))
        raise ProblemError(
            f"the loss of batch {index} is {float(value.detach())}",
            hint="The batch is finite, so look at the model and the loss."
            if own
            else "The batch itself holds numbers that are NaN or infinite.",
        )
    if not value.requires_grad:
        raise ProblemError(
            f"the loss of batch {index} does not depend on the trainable weights",
            hint="Look for detach(), .item(), .data or no_grad() in the model and the loss.",
        )


def _refuse_once_differentiable(value: Tensor) -> None:
    """PyTorch drops the second derivative of such an operation without a word where it comes last."""
    seen, ahead = set(), [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead.extend(following for following, _ in node.next_functions)
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        code = getattr(backward, "__code__", None)
        if code is not None and "once_differentiable" in code.co_qualname:
            raise ProblemError(
                f"the operation {node.name().removesuffix('Backward')} is marked once_differentiable: "
                "PyTorch would leave its second derivative out",
                hint="Write its backward with differentiable operations, and take the mark away.",
            )


def _refuse_random(once: Tensor, again: Tensor, index: int) -> None:
    first, second = float(once.detach()), float(again.detach())
    # Kernels that sum in no fixed order differ by rounding.
    if abs(first - second) > 1e3 * torch.finfo(once.dtype).eps * max(abs(first), abs(second)):
        raise ProblemError(
            f"the loss of batch {index} came out as {first:.6g} and, once more, as {second:.6g} in eval mode",
            hint="Something stays random or changes with each call: a dropout without "
            "training=self.training, noise, or a buffer that is updated.",
        )


def _refuse_left(value: Tensor, left: Sequence[nn.Parameter]) -> None:
    slopes = torch.autograd.grad(value, left, retain_graph=True, allow_unused=True) if left else ()
    if any(slope is not None for slope in slopes):
        raise ProblemError(
            "the loss uses weights of the model that was given, of which a copy is used here (for another "
            "device or data type, or for a checkpoint)",
            hint="Let it use the model it is given, as loss(model, batch); or put the model where and as you "
            "want it before.",
        )


def _refuse_differing(once: list[Signature], again: list[Signature]) -> None:
    hint = "Use shuffle=False and no random augmentation, or draw the batches once: data=list(loader)."
    for index, (first, second) in enumerate(zip(once, again, strict=False)):
        if first != second:
            raise ProblemError(f"two walks over the data differ, first at batch {index}", hint=hint)
    if len(once) != len(again):
        raise ProblemError(
            f"the data gave {len(once)} batches at the first walk and {len(again)} at the second", hint=hint
        )


def _refuse_labels(loss: Any, index: int, outputs: Any, labels: Any) -> None:
    """Labels out of range, for losses known to take class labels: on a GPU they would end the process."""
    by_class = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    if not (by_class or loss in (functional.cross_entropy, functional.nll_loss)):
        return
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)) or labels.is_floating_point():
        return
    if outputs.ndim != labels.ndim + 1:
        return  # the loss itself says what is wrong with the shapes
    classes = outputs.shape[1 if labels.ndim else 0]
    counted = labels[labels != (loss.ignore_index if by_class else -100)]
    if counted.numel() and not (int(counted.min()) >= 0 and int(counted.max()) < classes):
        raise ProblemError(
            f"the labels of batch {index} run from {int(counted.min())} to {int(counted.max())}; the model "
            f"tells {classes} classes apart, so 0 to {classes - 1} were expected",
            hint="Number the labels from 0, or give the model as many outputs as there are classes.",
        )
