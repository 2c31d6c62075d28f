"""The loss of one batch: a problem's model and loss function, called as the kind of batch requires."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CALLS
from eigencore_torch.checks.failure_hints import (
    hint_for_batch,
    hint_for_model,
    hint_for_pair,
    single_sample_hint,
)
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import describe, is_pair
from eigencore_torch.evaluation.chunked_logits import chunked_logits
from eigencore_torch.models.related_modules import related_modules
from eigencore_torch.models.shards import replicated
from eigencore_torch.own_loss import OWN_LOSS
from eigencore_torch.user_errors import explain_errors


def _ignore(outputs: Any, targets: Any) -> None:
    """Inspects nothing."""


@dataclass(frozen=True)
class BatchLoss:
    """A model and its loss function, as a function of a batch.

    Attributes:
        function: loss(outputs, y) for batches (x, y), or loss(model, batch) for any other batches.
        call: one of `sharing.CALLS`, to call the function in this way for every batch; None: as the kind of
            batch requires.
        failure_hint: what to do if the model or the function fails.
        uses: the modules that the model and the function use, by their names; None: they are searched for.
        vocabulary_chunk: how many tokens' logits are computed at once; None: all (see `chunked_logits`).
    """

    model: nn.Module
    function: Callable[..., Any]
    call: str | None = None
    failure_hint: str | None = None
    uses: Mapping[str, nn.Module] | None = None
    vocabulary_chunk: int | None = None

    def __call__(self, batch: Batch, index: int, inspect: Callable[[Any, Any], None] = _ignore) -> Tensor:
        """The loss of batch number `index`: a scalar () with its autograd graph.

        Args:
            index: the number of the batch, for messages.
            inspect: is called with the outputs and targets of a pair before the loss function is.

        Raises:
            ProblemError: the model or the loss function failed, or the loss is not one floating-point number.
        """
        if self.vocabulary_chunk is not None:
            with chunked_logits(self.model, self.vocabulary_chunk):
                return replace(self, vocabulary_chunk=None)(batch, index, inspect)
        model, function, call, known = self.model, self.function, self._call(batch), self.failure_hint
        failed = f"{call} failed on batch {index}, {describe(batch)}"
        if call == CALLS[0]:
            _check_pair(batch, index)
            x, y = batch
            with explain_errors(failed, lambda error: known or hint_for_model(error, model, x)):
                outputs = model(x)
            inspect(outputs, y)
            with explain_errors(failed, lambda error: known or hint_for_pair(error, model, outputs, y)):
                value = function(outputs, y)
        else:
            declared = self.call is not None
            with explain_errors(failed, lambda error: known or hint_for_batch(error, model, batch, declared)):
                value = function(model, batch)
        if not isinstance(value, Tensor):
            raise ProblemError(
                f"{call} returned a {type(value).__name__} on batch {index}; expected a tensor of one number",
                hint="Return the loss tensor itself, without .item() or float().",
            )
        if value.numel() != 1 or not value.is_floating_point():
            raise ProblemError(
                f"{call} returned {describe(value)} on batch {index}; expected one floating-point number",
                hint="Return the mean over the batch, as reduction='mean' does in torch.nn.",
            )
        return replicated(value).reshape(())

    @cached_property
    def named_modules(self) -> Mapping[str, nn.Module]:
        """The model under the name "", and the other modules that it and the function use, by their names."""
        return related_modules(self.model, self.function) if self.uses is None else self.uses

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The model first, then the other modules that it and the function use."""
        return list(self.named_modules.values())

    def targets(self, batch: Batch) -> Batch:
        """What the outputs are compared with: y for loss(model(x), y), otherwise the whole batch."""
        return batch[1] if self._call(batch) == CALLS[0] and is_pair(batch) else batch

    def _call(self, batch: Batch) -> str:
        return self.call or CALLS[0 if is_pair(batch) else 1]


def check_loss(function: object) -> None:
    """Raises ProblemError if the loss can't be called, or is a class instead of an instance."""
    if isinstance(function, type):
        raise ProblemError(
            f"the loss is the class {function.__name__}; expected an instance of it, or a function",
            hint=f"Write {function.__name__}(), with parentheses.",
        )
    if not callable(function):
        raise ProblemError(
            f"the loss is a {type(function).__name__}; expected a function",
            hint=f"Give a function for {CALLS[0]} if the batches are pairs (x, y), or else for {CALLS[1]}. "
            f'"{OWN_LOSS}" stands for model(**batch).loss.',
        )


def _check_pair(batch: Batch, index: int) -> None:
    """Raises ProblemError if batch number `index` is not a pair (x, y) of several samples."""
    if not is_pair(batch):
        raise ProblemError(
            f'batch {index} is {describe(batch)}; expected a pair (x, y), since call="{CALLS[0]}"',
            hint=f'Leave call out, or set call="{CALLS[1]}": the loss then gets the model and the batch.',
        )
    y = batch[1]
    if isinstance(y, Tensor) and y.ndim == 0 and not (y.is_floating_point() or y.is_complex()):
        raise ProblemError(
            f"batch {index} is the single sample {describe(batch)}; expected a batch of samples",
            hint=single_sample_hint(batch) or "Give the labels of all samples as a tensor (n,).",
        )
