"""The loss that a model computes itself, `model(**batch).loss`, as those of Hugging Face's libraries do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CALLS
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import describe

# The value of Problem(loss=...) that selects it.
OWN_LOSS = "model"


def own_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss in what model(**batch) returns.

    Raises:
        ProblemError: the batch is not a mapping, or the model returns no loss for it.
    """
    if not isinstance(batch, Mapping):
        raise ProblemError(
            f'the loss is "{OWN_LOSS}", that is model(**batch).loss, but the batch is {describe(batch)}; '
            "expected a mapping with the arguments of forward()",
            hint="Give batches such as {'input_ids': ids, 'attention_mask': mask, 'labels': labels}.",
        )
    try:
        outputs = model(**batch)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ProblemError(
            f"model(**batch) failed on a batch with {', '.join(map(str, batch))}: {error}",
            hint="Remove from the batches what the model's forward() does not take.",
        ) from error
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(loss, Tensor):
        return loss
    raise ProblemError(
        f'the loss is "{OWN_LOSS}", that is model(**batch).loss, but {type(model).__name__} returned '
        f"{_described(outputs)} for a batch with {', '.join(map(str, batch))}",
        hint=_hint(batch),
    )


def loss_function(loss: Any, call: str | None) -> tuple[Any, str | None]:
    """The loss function and the call of a problem, with `own_loss` in the place of "model".

    Raises:
        ProblemError: the model's own loss is to be called with outputs and targets.
    """
    if not (isinstance(loss, str) and loss == OWN_LOSS):
        return loss, call
    if call == CALLS[0]:
        raise ProblemError(
            f'the loss is "{OWN_LOSS}", that is model(**batch).loss, but call is "{call}"',
            hint="Leave call out.",
        )
    return own_loss, CALLS[1]


def _described(outputs: object) -> str:
    kind = type(outputs).__name__
    return f"a tuple of {len(outputs)}" if isinstance(outputs, tuple) else f"a {kind} without a loss"


def _hint(batch: Mapping[Any, Any]) -> str:
    if "labels" not in batch:
        return (
            "Give each batch `labels`. Those of a causal language model are a copy of `input_ids`, with -100 "
            "in place of padding."
        )
    return "Let forward() return an object or a mapping with `loss`; or give a function loss(model, batch)."
