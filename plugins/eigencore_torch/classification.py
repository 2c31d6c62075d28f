"""Whether a problem is a classification of floating inputs, and its samples, collected and looked over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

import torch
from torch import Tensor, nn

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UsageError
from eigencore_torch.data import Batch, Batches, is_pair, shapes
from eigencore_torch.risk import in_words
from eigencore_torch.state import foreign_draws

# How far beyond the bounds rounding may have taken an input, in parts of their distance.
SLACK = 1e-6


@dataclass(frozen=True)
class Classification:
    """What the network takes and gives, as its first batch shows.

    Attributes:
        shape: of one input.
        gradient, products: PyTorch has the first and the second derivative of the logits over the input.
        draws: the network draws random numbers from NumPy's or Python's generator.
    """

    shape: tuple[int, ...]
    classes: int
    gradient: bool
    products: bool
    draws: bool

    @cached_property
    def d(self) -> int:
        """The size of one input."""
        return prod(self.shape)

    def fits(self, x: object) -> bool:
        """Whether these are inputs in rows (b, d)."""
        return isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == self.d

    @property
    def capabilities(self) -> frozenset[Capability]:
        offered = {
            Capability.LOGITS: True,
            Capability.INPUT_GRADIENT: self.gradient,
            Capability.INPUT_PRODUCTS: self.products,
        }
        return frozenset(one for one, possible in offered.items() if possible)


def examine(model: nn.Module, batches: Batches) -> Classification:
    """Looks at two samples of the first batch, through the network in evaluation mode.

    Raises:
        ProblemError: it is no classification: the batch is no pair (x, y) of floating inputs and whole
            numbers, the network gives no logits (b, c) for it, or one sample's change with the next.
    """
    batch = next(iter(batches), None)
    if batch is None:
        raise ProblemError(f"{batches.name} is empty: it gave no batch")
    x, y = _labelled(batch, 0, batches.name)
    inputs, draws = x[:2].clone().requires_grad_(), foreign_draws()
    with in_words(f"the network failed on batch 0 of {batches.name}, {shapes(batch)}"):
        # Cloned: a network may work on its input in place.
        logits = model(inputs.clone())
        alone = model(x[:1].clone())
    if not (isinstance(logits, Tensor) and logits.is_floating_point() and logits.ndim == 2):
        raise ProblemError(f"the network gives {shapes(logits)}; logits are floating numbers (b, c)")
    if logits.shape[0] != len(inputs) or logits.shape[1] < 2:
        raise ProblemError(
            f"the network gives {tuple(logits.shape)} for {len(inputs)} inputs; expected (b, c), c at least 2"
        )
    _refuse_labels(y, logits.shape[1], 0, batches.name)
    _refuse_dependent(logits.detach(), alone.detach())
    gradient, products = _derivatives(logits, inputs)
    return Classification(
        tuple(x.shape[1:]), logits.shape[1], gradient, products, draws=foreign_draws() != draws
    )


def collect(
    batches: Batches, found: Classification, bounds: tuple[float, float] | None, most: int | None
) -> tuple[Tensor, Tensor]:
    """The first `most` samples, inputs (N, d) and labels (N,), from as few batches as have them.

    Raises:
        UsageError: `most` is below 1.
        ProblemError: there are none; inputs are of another shape, not finite or outside the bounds, or
            labels out of range. The batch is named.
    """
    if most is not None and most < 1:
        raise UsageError(f"{most} samples were asked for; expected 1 at least")
    inputs, labels, count = [], [], 0
    for index, batch in enumerate(batches):
        x, y = _labelled(batch, index, batches.name)
        x, y = (part if most is None else part[: most - count] for part in (x, y))
        _refuse_inputs(x, found.shape, bounds, f"batch {index} of {batches.name}")
        _refuse_labels(y, found.classes, index, batches.name)
        inputs.append(x.reshape(len(x), found.d))
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
        whole = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
        if x.is_floating_point() and whole and x.ndim and y.shape == x.shape[:1]:
            return x, y
    raise ProblemError(
        f"batch {index} of {name} is {shapes(batch)}; expected a pair of floating inputs (b, ...) and whole "
        "numbers (b,), their labels"
    )


def _refuse_labels(y: Tensor, classes: int, index: int, name: str) -> None:
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise ProblemError(
            f"label {int(wrong[0])} in batch {index} of {name}; the network has {classes} classes",
            hint="Number the labels from 0, or give the network as many outputs as there are classes.",
        )


def _refuse_inputs(x: Tensor, shape: tuple[int, ...], bounds: tuple[float, float] | None, where: str) -> None:
    if x.shape[1:] != shape:
        raise ProblemError(f"the inputs of {where} are {tuple(x.shape[1:])}; the first are {tuple(shape)}")
    if not bool(torch.isfinite(x).all()):
        count = int((~torch.isfinite(x)).sum())
        raise ProblemError(f"the inputs of {where} hold {count} numbers that are NaN or infinite")
    if bounds is None or not x.numel():
        return
    low, high = bounds
    over = max(low - float(x.min()), float(x.max()) - high)
    if over > SLACK * (high - low):
        raise ProblemError(
            f"the inputs of {where} leave the bounds {low:g} to {high:g} by {over:.3g}",
            hint="Give Problem(bounds=...) in the units that the network takes, after any normalisation "
            "of the data.",
        )


def _refuse_dependent(logits: Tensor, alone: Tensor) -> None:
    """Each sample's gradient is taken from the sum over all, which holds where no sample knows the others."""
    scale = float(logits.abs().max())
    if not float((logits[:1] - alone).abs().max()) <= 1e3 * torch.finfo(logits.dtype).eps * scale:
        raise ProblemError(
            "the logits of one sample are others when it comes alone, in evaluation mode",
            hint="They are random, or depend on the samples beside it: a dropout without "
            "training=self.training, or a BatchNorm without running statistics.",
        )


def _derivatives(logits: Tensor, inputs: Tensor) -> tuple[bool, bool]:
    """Whether the logits can be differentiated over the inputs, once and twice."""
    try:
        # Squared, so that it has a second derivative where the logits are linear.
        (first,) = torch.autograd.grad(logits.square().sum(), inputs, create_graph=True)
    except Exception:
        return False, False
    if not first.requires_grad:  # a gradient that is constant, as behind a rounding: its derivative is zero
        return True, True
    try:
        # Without a graph it is constant, as behind a rounding.
        if first.requires_grad:
            torch.autograd.grad(first.sum(), inputs)
    except Exception:
        return True, False
    return True, True


def bounds_of(given: object) -> tuple[float, float] | None:
    """The lowest and highest value of an input, checked.

    Raises:
        ProblemError: they are not two finite numbers in order.
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
            hint="They are the lowest and highest value that any input may take.",
        )
    return low, high
