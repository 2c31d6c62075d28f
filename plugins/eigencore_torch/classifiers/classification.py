"""Deciding whether a problem is a classification with floating-point inputs, and collecting its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UsageError
from eigencore.problems.sharing import bounds_excess
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.classifiers.outputs import is_logistic, is_single, logits_in, two_logits
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches, describe, is_pair
from eigencore_torch.evaluation.preserved_state import host_generator_states
from eigencore_torch.user_errors import explain_errors

RANGE_HINT = "Give Problem(bounds=...) the lowest and highest value that an input may take."
NORMALISED_HINT = f"""If the data are normalised, give the values before that and normalise them in the model:
  class Normalised(torch.nn.Module):
      def __init__(self, model):
          super().__init__()
          self.model = model
      def forward(self, x):
          return self.model((x - mean) / std)
  problem = eigencore.Problem(Normalised(model), data, loss, bounds=(0, 1))
with mean and std of shape (channels, 1, 1); the radius eps is then in the units before normalisation.
If the data are not normalised: {RANGE_HINT}"""


@dataclass(frozen=True)
class Classification:
    """The inputs and outputs of the network, as found from its first batch.

    Attributes:
        shape: the shape of one input.
        classes: the number of classes c.
        single: whether the network returns one number per sample, the logit of class 1 of two classes.
        gradient, products: whether PyTorch has the first and the second derivative of the logits with respect
            to the input.
        uses_host_generators: whether the network draws random numbers from NumPy's or Python's generator.
    """

    shape: tuple[int, ...]
    classes: int
    single: bool
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

    def logits(self, outputs: Any, samples: int) -> Tensor:
        """The logits (b, c) in the outputs of the network for b samples.

        Raises:
            ProblemError: the outputs have another shape than for the first batch.
        """
        logits: Tensor = logits_in(outputs)
        if self.single and is_single(logits, samples):
            logits = two_logits(logits)
        if logits.shape != (samples, self.classes):
            raise ProblemError(
                f"the network returned shape {tuple(logits.shape)} for {samples} inputs; expected "
                f"({samples}, {self.classes})",
                hint="Look for a squeeze() without a dimension: it also drops the dimension of the samples "
                "if there is only one.",
            )
        return logits

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the classifier offers."""
        offered = {
            Capability.LOGITS: True,
            Capability.INPUT_GRADIENT: self.gradient,
            Capability.INPUT_PRODUCTS: self.products,
        }
        return frozenset(capability for capability, possible in offered.items() if possible)


def find_classification(loss: BatchLoss, batches: Batches) -> Classification:
    """The classification found by passing two samples of the first batch through the network.

    Args:
        loss: the network, in evaluation mode, and its loss.

    Raises:
        ProblemError: the problem is not a classification: the batch does not consist of floating-point inputs
            and labels, the network returns no logits (b, c) for it, or the logits of a sample depend on the
            other samples.
    """
    batch = next(iter(batches), None)
    if batch is None:
        raise ProblemError(f"{batches.name} is empty: it yields no batch")
    x, targets = _parts(batch)
    _labelled(batch, 0, batches.name, single=True)
    inputs, generators = x[:2].clone().requires_grad_(), host_generator_states()
    with explain_errors(f"the network failed on batch 0 of {batches.name}, {describe(batch)}"):
        # Cloned, since a network may modify its input in place.
        outputs = loss.model(inputs.clone())
        alone = logits_in(loss.model(x[:1].clone()))
    logits = logits_in(outputs)
    single = _check_logits(logits, len(inputs))
    y = _labelled(batch, 0, batches.name, single)[1]
    _check_labels(y, 2 if single else logits.shape[1], 0, batches.name)
    if single:
        if not (is_pair(batch) and is_logistic(loss, outputs, targets[:2])):
            raise ProblemError(
                f"the network returns shape {tuple(logits.shape)} for {len(inputs)} inputs, one number for "
                "each, and the loss does not treat it as the logit of class 1",
                hint="For two classes, let the network return z without a sigmoid, with "
                "torch.nn.BCEWithLogitsLoss() and labels 0 and 1, or return both logits: "
                "torch.stack([torch.zeros_like(z), z], dim=1) for z of shape (b,).",
            )
        logits, alone = two_logits(logits), two_logits(alone)
    _check_independent(logits.detach(), alone.detach())
    gradient, products = _differentiable(logits, inputs)
    drawn = host_generator_states() != generators
    return Classification(
        tuple(x.shape[1:]), logits.shape[1], single, gradient, products, uses_host_generators=drawn
    )


def _check_logits(logits: Any, samples: int) -> bool:
    """Whether these are single logits (b,) or (b, 1); refuses other outputs that are not logits (b, c)."""
    if not (isinstance(logits, Tensor) and logits.is_floating_point()):
        raise ProblemError(
            f"the network returns {describe(logits)}; expected floating-point logits (b, c)",
            hint="Give a network that returns the logits, or a mapping or object that has `logits`.",
        )
    if is_single(logits, samples):
        return True
    if logits.ndim != 2 or logits.shape[0] != samples or logits.shape[1] < 2:
        raise ProblemError(
            f"the network returns shape {tuple(logits.shape)} for {samples} inputs; expected logits "
            f"({samples}, c) of at least c = 2 classes"
        )
    return False


def collect_samples(
    batches: Batches,
    classification: Classification,
    bounds: tuple[Tensor, Tensor] | None,
    most: int | None,
) -> tuple[Tensor, Tensor]:
    """The first `most` samples, as inputs (N, d) and labels (N,), from as few batches as contain them.

    Args:
        bounds: the lowest and the highest value of each entry of a row (d,); None: no check.
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
        x, y = _labelled(batch, index, batches.name, classification.single)
        x, y = (part if most is None else part[: most - count] for part in (x, y))
        _check_inputs(x, classification.shape, bounds, f"batch {index} of {batches.name}")
        _check_labels(y, classification.classes, index, batches.name)
        inputs.append(x.reshape(len(x), classification.d))
        labels.append(y)
        count += len(y)
        if count == most:
            break
    if not count:
        raise ProblemError(f"{batches.name} is empty: it has no samples")
    return torch.cat(inputs), torch.cat(labels)


def _labelled(batch: Batch, index: int, name: str, single: bool) -> tuple[Tensor, Tensor]:
    """The inputs (b, ...) of a batch and its labels (b,) as int64.

    Args:
        single: whether labels may also be the numbers 0 and 1 of any type, (b,) or (b, 1).
    """
    x, y = _parts(batch)
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point() and x.ndim:
        integers = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
        if integers and y.shape == x.shape[:1]:
            return x, y.to(torch.int64)
        if single and y.shape in (x.shape[:1], (len(x), 1)) and bool(((y == 0) | (y == 1)).all()):
            return x, y.reshape(-1).to(torch.int64)
    raise ProblemError(
        f"batch {index} of {name} is {describe(batch)}; expected a pair of floating-point inputs (b, ...) "
        "and integer labels (b,)"
    )


def _parts(batch: Batch) -> tuple[Any, Any]:
    """The inputs and labels of a pair, or of a mapping with one floating-point and one other tensor."""
    if is_pair(batch):
        return batch[0], batch[1]
    tensors = [x for x in batch.values() if isinstance(x, Tensor)] if isinstance(batch, Mapping) else []
    tensors.sort(key=lambda x: not x.is_floating_point())
    return (tensors[0], tensors[1]) if len(tensors) == 2 else (None, None)


def _check_labels(y: Tensor, classes: int, index: int, name: str) -> None:
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise ProblemError(
            f"batch {index} of {name} has label {int(wrong[0])}; expected 0 to {classes - 1}, since the "
            f"network has {classes} classes",
            hint="Number the labels from 0, or give the network as many outputs as there are classes.",
        )


def _check_inputs(
    x: Tensor, shape: tuple[int, ...], bounds: tuple[Tensor, Tensor] | None, where: str
) -> None:
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
    rows = x.reshape(len(x), -1)
    excess = bounds_excess(rows, bounds)
    if excess:
        negative = bool((rows < bounds[0]).any()) and bool((bounds[0] >= 0).all())
        raise ProblemError(
            f"the inputs of {where} range from {float(x.min()):.3g} to {float(x.max()):.3g} and exceed their "
            f"bounds by {excess:.3g}",
            hint=NORMALISED_HINT if negative else RANGE_HINT,
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
