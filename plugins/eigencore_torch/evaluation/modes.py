"""The mode in which a loss is evaluated: how it is described, and where training mode differs in kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType

from torch import Tensor, nn

from eigencore.errors import EigencoreError, ProblemError, UsageError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches
from eigencore_torch.evaluation.preserved_state import Setting, is_batch_norm, preserve_state, with_children
from eigencore_torch.models.related_modules import names_attribute


def check_batch_norm(model: nn.Module, reduction_declared: bool, microbatch: int | None) -> None:
    """Checks that a model can be evaluated on batch statistics.

    The loss of a batch is then no longer a mean or a sum over its samples, so that it can be neither split
    nor the reduction inferred.

    Raises:
        ProblemError: the model has no BatchNorm layer, or the reduction is not declared.
        UsageError: batches are to be split.
    """
    if not any(map(is_batch_norm, model.modules())):
        raise ProblemError(
            "torch.batch_norm is batch, but the model has no BatchNorm layer",
            hint="Leave the option out. Layers are recognised as subclasses of torch.nn's BatchNorm.",
        )
    if microbatch is not None:
        raise UsageError(
            "torch.batch_norm=batch and torch.microbatch were both given, but the statistics of a part of a "
            "batch are not those of the batch",
            hint="Leave torch.microbatch out, and give batches of the size of the training batches.",
        )
    if not reduction_declared:
        raise ProblemError(
            "with torch.batch_norm=batch, whether the loss is a mean or a sum over samples can't be "
            "inferred, since the statistics of a part of a batch are not those of the batch",
            hint="Set Problem(reduction='mean') or Problem(reduction='sum'), as the loss function does.",
        )


def describe_mode(loss: BatchLoss, batch: Batch, value: Tensor, setting: Setting) -> str:
    """The mode of evaluation, and what is remarkable about it.

    Must be called inside a session, after the loss of the batch has been computed.

    Args:
        batch: the first batch of the data.
        value: its loss.
    """
    if _switched(loss, setting):
        return f"{setting.description}, except where the loss calls train()"
    evaluated, other = float(value.detach()), _loss_in_training(loss, batch, setting)
    if other is None or math.isclose(other, evaluated, rel_tol=1e-3, abs_tol=1e-6):
        return setting.description
    return f"{setting.description} (loss of batch 0: {evaluated:.3g}; in training mode {other:.3g})"


@contextmanager
def explain_mode(loss: BatchLoss, batches: Batches, setting: Setting) -> Iterator[None]:
    """Gives errors of the enclosed checks another hint if evaluation mode explains them.

    Must be entered inside a session.
    """
    try:
        yield
    except ProblemError as error:
        if _switched(loss, setting):
            hint = (
                "The loss calls train(). Leave the call out; for BatchNorm on the statistics of each batch, "
                "set torch.batch_norm=batch."
            )
            raise ProblemError(error.message, hint=hint) from error
        if loss.failure_hint is None and _works_in_training_only(loss, batches, setting):
            hint = (
                "The loss works in training mode, but it is computed in evaluation mode: make it accept what "
                "the model returns there."
            )
            raise ProblemError(error.message, hint=hint) from error
        raise


def _switched(loss: BatchLoss, setting: Setting) -> bool:
    """Whether the loss has set training mode itself."""
    expected = setting.batch_norm == "batch"
    return any(x.training and not (expected and is_batch_norm(x)) for x in with_children(loss.modules))


def _works_in_training_only(loss: BatchLoss, batches: Batches, setting: Setting) -> bool:
    try:
        batch = next(iter(batches))
    except (EigencoreError, StopIteration):
        return False
    modules = with_children(loss.modules)
    evaluated, trained = (_two_losses(loss, batch, some, setting) for some in ([], modules))
    return evaluated is None and trained is not None


def _loss_in_training(loss: BatchLoss, batch: Batch, setting: Setting) -> float | None:
    """The loss of the first batch if modules that are not PyTorch's own are in training mode.

    Dropout and BatchNorm do what is expected of them. A module of another library may return something else
    altogether, such as the prior instead of the posterior of a Gaussian process.

    Returns:
        None if no such module depends on its mode, if the loss is random, or if it can't be computed.
    """
    modules = [x for x in with_children(loss.modules) if _depends_on_mode(type(x))]
    losses = _two_losses(loss, batch, modules, setting) if modules else None
    return losses[0] if losses is not None and losses[0] == losses[1] else None


def _two_losses(
    loss: BatchLoss, batch: Batch, modules: Sequence[nn.Module], setting: Setting
) -> tuple[float, float] | None:
    """The loss of the first batch with some modules in training mode, twice; None if it can't be computed."""
    with preserve_state(loss.modules, setting, None):
        for module in modules:
            module.training = True
        try:
            return float(loss(batch, 0).detach()), float(loss(batch, 0).detach())
        except EigencoreError:
            return None


def _depends_on_mode(kind: type) -> bool:
    """Whether the code of a class that is not PyTorch's own reads the attribute `training`."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        if any(isinstance(x, FunctionType) and names_attribute(x, "training") for x in vars(base).values()):
            return True
    return False
