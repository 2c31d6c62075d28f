"""Deciding whether a problem is a classification with floating-point inputs, and collecting its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

import torch
from torch import Tensor, nn

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UsageError
from eigencore_torch.batch_tensors import Batch
from eigencore_torch.batches import Batches, describe, is_pair
from eigencore_torch.preserved_state import host_generator_states
from eigencore_torch.user_errors import explain_errors

# How far rounding may move an input beyond the bounds, relative to their distance.
BOUNDS_SLACK = 1e-6


@dataclass(frozen=True)
class Classification:
    """The inputs and outputs of the network, as found from its first batch.

    Attributes:
        shape: the shape of one input.
        classes: the number of classes c.
        gradient, products: whether PyTorch has the first and the second derivative of the logits with respect
            to the input.
        uses_host_generators: whether the network draws random numbers from NumPy's or Python's generator.
    """

    shape: tuple[int, ...]
    classes: int
    gradient: bool
    products: bool
    uses_host_generators: bool

    @cached_property
    def d(self) -> int:
        """The number of values in one input."""
        return prod(self.shape)

    def is_rows(self, x: object) -> bool:
        """Whether x is a tensor of inputs as rows (b, d)."""
        return isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == self.d

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the classifier offers."""
        offered = {
            Capability.LOGITS: True,
            Capability.INPUT_GRADIENT: self.gradient,
            Capability.INPUT_PRODUCTS: self.products,
        }
        return frozenset(capability for capability, possible in offered.items() if possible)


def find_classification(model: nn.Module, batches: Batches) -> Classification:
    """The classification found by passing two samples of the first batch through the network.

    Args:
        model: the network, in evaluation mode.

    Raises:
        ProblemError: the problem is not a classification: the batch is not a pair (x, y) of floating-point
            inputs and integers, the network returns no logits (b, c) for it, or the logits of a sample depend
            on the other samples.
    """
    batch = next(iter(batches), None)
    if batch is None:
        raise ProblemError(f"{batches.name} is empty: it yields no batch")
    x, y = _labelled(batch, 0, batches.name)
    inputs, generators = x[:2].clone().requires_grad_(), host_generator_states()
    with explain_errors(f"the network failed on batch 0 of {batches.name}, {describe(batch)}"):
        # Cloned, since a network may modify its input in place.
        logits = model(inputs.clone())
        alone = model(x[:1].clone())
    if not (isinstance(logits, Tensor) and logits.is_floating_point() and logits.ndim == 2):
        raise ProblemError(f"the network returns {describe(logits)}; expected floating-point logits (b, c)")
    if logits.shape[0] != len(inputs) or logits.shape[1] < 2:
        raise ProblemError(
            f"the network returns shape {tuple(logits.shape)} for {len(inputs)} inputs; expected logits "
            f"({len(inputs)}, c) of at least c = 2 classes"
        )
    _check_labels(y, logits.shape[1], 0, batches.name)
    _check_independent(logits.detach(), alone.detach())
    gradient, products = _differentiable(logits, inputs)
    drawn = host_generator_states() != generators
    return Classification(tuple(x.shape[1:]), logits.shape[1], gradient, products, uses_host_generators=drawn)


def collect_samples(
    batches: Batches, classification: Classification, bounds: tuple[float, float] | None, most: int | None
) -> tuple[Tensor, Tensor]:
    """The first `most` samples, as inputs (N, d) and labels (N,), from as few batches as contain them.

    Args:
        bounds: the lowest and highest value that an input may take; None: no check.
        most: None takes all samples.

    Raises:
        UsageError: `most` is below 1.
        ProblemError: there are no samples; inputs have another shape, are not finite or exceed the bounds; or
            labels are out of range. The message names the batch.
    """
    if most is not None and most < 1:
        raise UsageError(f"{most} samples were requested; expected at least 1")
    inputs, labels, count = [], [], 0
    for index, batch in enumerate(batches):
        x, y = _labelled(batch, index, batches.name)
        x, y = (part if most is None else part[: most - count] for part in (x, y))
        _check_inputs(x, classification.shape, bounds, f"batch {index} of {batches.name}")
        _check_labels(y, classification.classes, index, batches.name)
        inputs.append(x.reshape(len(x), classification.d))
        labels.append(y.to(torch.int64))
        count += len(y)
        if count == most:
            break
    if not count:
        raise ProblemError(f"{batches.name} is empty: it has no samples")
    return torch.cat(inputs), torch.cat(labels)


def _labelled(batch: Batch, index: int, name: str) -> tuple[Tensor, Tensor]:
    x, y = batch if is_pair(batch) else (None, None)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        integers = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
        if x.is_floating_point() and integers and x.ndim and y.shape == x.shape[:1]:
            return x, y
    raise ProblemError(
        f"batch {index} of {name} is {describe(batch)}; expected a pair of floating-point inputs (b, ...) "
        "and integer labels (b,)"
    )


def _check_labels(y: Tensor, classes: int, index: int, name: str) -> None:
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise ProblemError(
            f"batch {index} of {name} has label {int(wrong[0])}; expected 0 to {classes - 1}, since the "
            f"network has {classes} classes",
            hint="Number the labels from 0, or give the network as many outputs as there are classes.",
        )


def _check_inputs(x: Tensor, shape: tuple[int, ...], bounds: tuple[float, float] | None, where: str) -> None:
    if x.shape[1:] != shape:
        raise ProblemError(
            f"the inputs of {where} have shape {tuple(x.shape[1:])}; expected {tuple(shape)} as in batch 0"
        )
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        raise ProblemError(
            f"the inputs of {where} contain NaN or infinite values: {int((~finite).sum())} of {x.numel()}"
        )
    if bounds is None or not x.numel():
        return
    low, high = bounds
    excess = max(low - float(x.min()), float(x.max()) - high)
    if excess > BOUNDS_SLACK * (high - low):
        raise ProblemError(
            f"the inputs of {where} exceed the bounds {low:g} to {high:g} by {excess:.3g}",
            hint="Give Problem(bounds=...) in the units of the network's inputs, after any normalisation of "
            "the data.",
        )


def _check_independent(logits: Tensor, alone: Tensor) -> None:
    """Refuses logits of a sample that depend on the other samples.

    Each sample's gradient is computed from the sum over all samples, which requires independence.
    """
    scale = float(logits.abs().max())
    if not float((logits[:1] - alone).abs().max()) <= 1e3 * torch.finfo(logits.dtype).eps * scale:
        raise ProblemError(
            "the logits of a sample change when it is evaluated alone, in evaluation mode",
            hint="Look for something that is random or combines the samples of a batch: a dropout without "
            "training=self.training, or a BatchNorm without running statistics.",
        )


def _differentiable(logits: Tensor, inputs: Tensor) -> tuple[bool, bool]:
    """Whether the logits can be differentiated with respect to the inputs, once and twice."""
    try:
        # Squared, so that there is a second derivative even if the logits are linear.
        (first,) = torch.autograd.grad(logits.square().sum(), inputs, create_graph=True)
    except Exception:
        return False, False
    if not first.requires_grad:  # a constant gradient, as after rounding: its derivative is zero
        return True, True
    try:
        torch.autograd.grad(first.sum(), inputs)
    except Exception:
        return True, False
    return True, True


def checked_bounds(given: object) -> tuple[float, float] | None:
    """The lowest and highest value of an input.

    Raises:
        ProblemError: they are not two finite numbers in ascending order.
    """
    if given is None:
        return None
    try:
        low, high = (float(bound) for bound in given)  # type: ignore[attr-defined]
    except (TypeError, ValueError, RuntimeError):
        low = high = float("nan")
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ProblemError(
            f"bounds are {given!r}; expected two finite numbers, the lower one first",
            hint="Give the lowest and highest value that any input may take.",
        )
    return low, high
