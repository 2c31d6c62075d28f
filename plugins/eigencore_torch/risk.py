"""The empirical risk: the loss over all data at once, as a weighted sum of batch losses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.errors import EigencoreError, ProblemError
from eigencore_torch.data import Batch, Batches, is_pair, parts, shapes
from eigencore_torch.reduction import Reduction
from eigencore_torch.state import Weights, untouched

WITHOUT_SECOND_DERIVATIVE = (
    "PyTorch may have no second derivative of an operation in the model or the loss, whose name it tells; "
    "write it with simpler operations."
)
_MEMORY = "Set torch.microbatch, or torch.memory=none: neither changes the operator."


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch, as the problem means it, with what goes wrong told in words."""

    model: nn.Module
    loss: Callable[..., Any]

    def __call__(
        self, batch: Batch, index: int, inspect: Callable[[Any, Any], None] = lambda outputs, y: None
    ) -> Tensor:
        """The loss of batch number `index`, a scalar that carries its graph.

        `inspect` sees the outputs and targets of a pair before the loss does.

        Raises:
            ProblemError: the model or the loss failed, or what came is no single real number.
        """
        call = "loss(model(x), y)" if is_pair(batch) else "loss(model, batch)"
        with in_words(f"{call} failed on batch {index}, {shapes(batch)}"):
            if is_pair(batch):
                x, y = batch
                outputs = self.model(x)
                inspect(outputs, y)
                value = self.loss(outputs, y)
            else:
                value = self.loss(self.model, batch)
        if not isinstance(value, Tensor):
            raise ProblemError(
                f"{call} gave a {type(value).__name__} on batch {index}; expected a tensor of one number",
                hint="Return the loss itself, before .item() or float().",
            )
        if value.numel() != 1 or not value.is_floating_point():
            raise ProblemError(
                f"{call} gave {shapes(value)} on batch {index}; expected one real number",
                hint="Let the loss take the mean over the batch, as reduction='mean' does in torch.nn.",
            )
        return value.reshape(())


@dataclass(frozen=True)
class Term:
    """Batch number `index`, or a part of it, with its weight in the risk; `last`: no part comes after."""

    index: int
    batch: Batch
    weight: float
    last: bool


class Risk:
    """A model's loss over all data, at the weights it had when this was made.

    The risk is sum_b w_b loss_b / total over the batches b, with w_b and the total from the reduction.

    Args:
        most: samples in a term at most; larger batches are split, and their parts are terms of their own.
    """

    def __init__(
        self,
        loss: BatchLoss,
        batches: Batches,
        reduction: Reduction,
        weights: Weights,
        device: torch.device,
        most: int | None = None,
    ):
        self.loss, self._batches, self._reduction = loss, batches, reduction
        self._weights, self._device, self._most = weights, device, most

    def session(self) -> AbstractContextManager[None]:
        """Everything that is computed is computed in here; raises ProblemError where weights changed."""
        self._weights.refuse_changed()
        return untouched(modules_of(self.loss), self._device, self._batches.data)

    def terms(self) -> Iterator[Term]:
        """All of them, batch after batch; those of weight zero are left out."""
        return (term for index, batch in enumerate(self._batches) for term in self._split(batch, index))

    def terms_of(self, wanted: Collection[int]) -> dict[int, tuple[Term, ...]]:
        """Those of some batches, by number."""
        fetched = self._batches.fetch(wanted)
        return {index: tuple(self._split(batch, index)) for index, batch in fetched.items()}

    @cached_property
    def batch_weights(self) -> tuple[float, ...]:
        """w_b of each batch; takes a walk over the data, without the model."""
        return tuple(self._reduction.weigh(batch, index) for index, batch in enumerate(self._batches))

    def _split(self, batch: Batch, index: int) -> Iterator[Term]:
        pieces = parts(batch, index, self._most)
        weights = [self._reduction.weigh(piece, index) for piece in pieces]
        self._refuse_uneven(batch, index, weights)
        counted = [(piece, weight) for piece, weight in zip(pieces, weights, strict=True) if weight]
        for place, (piece, weight) in enumerate(counted, start=1):
            yield Term(index, piece, weight, last=place == len(counted))

    def _refuse_uneven(self, batch: Batch, index: int, weights: list[float]) -> None:
        if len(weights) == 1 or self._reduction.rule == "sum":
            return
        whole = self._reduction.weigh(batch, index)
        if abs(whole - sum(weights)) > 1e-6 * whole:
            raise ProblemError(
                f"weight gives {whole:g} for batch {index}, and {sum(weights):g} for its parts together",
                hint="Let it count what the batch's loss is a mean over, or set torch.microbatch=none.",
            )

    def total(self, weights: float) -> float:
        """What a sum over all batches of the given weights is to be divided by.

        Raises:
            ProblemError: the weights are zero.
        """
        if weights == 0:
            raise ProblemError("data is empty, or every batch has weight zero")
        return self._reduction.total(weights)

    def value(self) -> float:
        """The loss over all data, at the weights as they are; inside a session."""
        value = weights = 0.0
        for term in self.terms():
            value += term.weight * float(self.loss(term.batch, term.index).detach())
            weights += term.weight
        return value / self.total(weights)


def modules_of(loss: BatchLoss) -> Sequence[nn.Module]:
    """The model, and the loss where it is a module, or a module's method."""
    own = getattr(loss.loss, "__self__", loss.loss)
    return [loss.model, own] if isinstance(own, nn.Module) and own is not loss.model else [loss.model]


@contextmanager
def in_words(what: str, hint: str | None = None, memory: str = _MEMORY) -> Iterator[None]:
    """Turns an exception from somebody's model or loss into a ProblemError that says where it came from.

    Args:
        hint: what to do.
        memory: what to do where the device is out of memory.
    """
    try:
        yield
    except EigencoreError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ProblemError(f"{what}: the device is out of memory", hint=memory) from error
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{what}: {type(error).__name__}: {error}", hint=hint) from error
