"""The empirical risk: the loss over all data at once, as a weighted sum of batch losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.errors import EigencoreError, ProblemError
from eigencore_torch.data import Batch, Batches, is_pair, shapes
from eigencore_torch.reduction import Reduction
from eigencore_torch.state import Weights, untouched


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


class Risk:
    """A model's loss over all data, at the weights it had when this was made.

    The risk is sum_b w_b loss_b / total over the batches b, with w_b and the total from the reduction.
    """

    def __init__(
        self, loss: BatchLoss, batches: Batches, reduction: Reduction, weights: Weights, device: torch.device
    ):
        self.loss, self._batches, self._reduction = loss, batches, reduction
        self._weights, self._device = weights, device

    def session(self) -> AbstractContextManager[None]:
        """Everything that is computed is computed in here; raises ProblemError where weights changed."""
        self._weights.refuse_changed()
        return untouched(modules_of(self.loss), self._device, self._batches.data)

    def batches(self, start: int = 0) -> Iterator[tuple[int, Batch, float]]:
        """Number, content and weight of each batch from `start` on; those of weight zero are left out."""
        for index, batch in enumerate(self._batches):
            if index >= start and (weight := self._reduction.weigh(batch, index)):
                yield index, batch, weight

    def total(self, weights: float) -> float:
        """What a sum over all batches of the given weights is to be divided by."""
        return self._reduction.total(weights)


def modules_of(loss: BatchLoss) -> Sequence[nn.Module]:
    """The model, and the loss where it is a module, or a module's method."""
    own = getattr(loss.loss, "__self__", loss.loss)
    return [loss.model, own] if isinstance(own, nn.Module) and own is not loss.model else [loss.model]


@contextmanager
def in_words(what: str, hint: str | None = None) -> Iterator[None]:
    """Turns an exception from somebody's model or loss into a ProblemError that says where it came from."""
    try:
        yield
    except EigencoreError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ProblemError(
            f"{what}: the device is out of memory",
            hint="Give smaller batches, or set torch.memory=none: neither changes the operator.",
        ) from error
    except Exception as error:
        raise ProblemError(f"{what}: {type(error).__name__}: {error}", hint=hint) from error
