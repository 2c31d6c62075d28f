"""The loss of one batch: a problem's model and loss function, called as the kind of batch requires."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CALLS
from eigencore_torch.batches import Batch, describe, is_pair
from eigencore_torch.related_modules import related_modules
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
    """

    model: nn.Module
    function: Callable[..., Any]
    call: str | None = None
    failure_hint: str | None = None

    def __call__(self, batch: Batch, index: int, inspect: Callable[[Any, Any], None] = _ignore) -> Tensor:
        """The loss of batch number `index`: a scalar () with its autograd graph.

        Args:
            index: the number of the batch, for messages.
            inspect: is called with the outputs and targets of a pair before the loss function is.

        Raises:
            ProblemError: the model or the loss function failed, or the loss is not one floating-point number.
        """
        call = self.call or CALLS[0 if is_pair(batch) else 1]
        with explain_errors(f"{call} failed on batch {index}, {describe(batch)}", hint=self.failure_hint):
            if call == CALLS[0]:
                x, y = batch
                outputs = self.model(x)
                inspect(outputs, y)
                value = self.function(outputs, y)
            else:
                value = self.function(self.model, batch)
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
        return value.reshape(())

    @cached_property
    def named_modules(self) -> Mapping[str, nn.Module]:
        """The model under the name "", and the other modules that it and the function use, by their names."""
        return related_modules(self.model, self.function)

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The model first, then the other modules that it and the function use."""
        return list(self.named_modules.values())
