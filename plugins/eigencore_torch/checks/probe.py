"""The probe: are the gradient and the Hessian product of a loss its derivatives?

PyTorch differentiates some losses wrongly and raises no error: a custom autograd function may save its
gradient as a constant, a hook may scale gradients, a straight-through estimator has another gradient than its
loss. The probe compares the gradient with central differences of the loss, and the product with central
differences of the gradient, along one random direction and on few samples (see `sharing.derivative_gaps`).

The differences need float64, so that a copy of the model in float64 is probed if the model has another type.
In float32, kinks of ReLU and max-pooling make right derivatives look wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.checks.probed_loss import ForwardPass, ProbedLoss, ProbeOutcome
from eigencore_torch.checks.suspects import (
    Suspect,
    in_graph,
    in_modules,
    name_of_function,
    once_differentiable,
    python_functions,
)
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import sample_count, type_name
from eigencore_torch.evaluation.preserved_state import Setting
from eigencore_torch.models.params import Layout, differentiable

# Samples that are probed: the least and the most, and the part of the batch between them. Convolutions in
# float64 take up to ten times as long as in float32, so that the probe begins with few.
_FEW = 1, 8, 32
_MORE = 8, 32, 8
_NOT_FINITE_HINT = (
    "A norm, a square root and a power below 2 have no finite second derivative at zero. Add a small "
    "constant inside, as in (x.square().sum() + 1e-12).sqrt(), or start from other weights."
)
_UNKNOWN_HINT = (
    "Look for an operation whose backward pass is not the derivative of its forward pass, or uses values "
    "without their graph. With torch.check=false, the derivatives are used as they are."
)


def probe(loss: BatchLoss, batch: Batch, index: int, value: Tensor, setting: Setting) -> None:
    """Checks the gradient and the Hessian product of a loss over all trainable weights, on one batch.

    Few samples settle most cases. More samples decide if these show no second derivative, or anything else
    than right ones, or if something in the model could make derivatives wrong, such as a hook; and the whole
    batch if the loss can't be computed on a part of it. If no copy in float64 can be made, a gap is an error
    only if something could explain it, and a warning otherwise.

    Args:
        batch: batch number `index`, or a part of it, on which the loss is finite.
        value: its loss with the graph.
        setting: how the loss is evaluated; without second derivatives, only the gradient is checked.

    Raises:
        ProblemError: a derivative is wrong or not finite, or has the precision of 16 bits. The message names
            the likely cause.
    """
    if not differentiable(loss.model).parameters:
        return
    whole = ProbedLoss(loss, batch, index, setting)
    if _few_are_right(whole, value):
        return
    given, forward = _first_that_works(whole, python_functions(value))
    _refuse_certain_faults(forward, given.layout, setting)
    outcome, obstacle = None, ""
    if not given.exact:
        try:
            subject = given.in_float64()
            outcome = subject.measure(forward.functions)
        except ProblemError as error:
            obstacle = error.message
    if outcome is None:
        subject = given
        try:
            outcome = given.measure(forward.functions)
        except ProblemError:
            # An operation has no second derivative. A product over weights that need it says so.
            return
    if outcome.not_finite is not None:
        raise _not_finite(outcome.not_finite, subject)
    if not outcome.wrong:
        return
    suspects = _suspects(loss, forward.value, forward, outcome.gradient_is_right)
    if suspects or subject.exact:
        raise _wrong(outcome, suspects)
    warnings.warn(
        f"the derivatives of the loss could not be verified: {outcome.description}. This was measured in "
        "float32, where ReLU and max-pooling have the same effect as a wrong derivative, because no copy in "
        f"float64 can be used: {obstacle}",
        stacklevel=2,
    )


def _few_are_right(whole: ProbedLoss, value: Tensor) -> bool:
    """Whether the derivatives on few samples are right, and nothing is in sight that could make them wrong.

    Args:
        value: the loss of the whole batch with its graph.
    """
    few = None if whole.setting.batch_norm == "batch" else _part(whole, *_FEW)
    if few is None:
        return False
    try:
        forward = few.look()
    except ProblemError:
        return False
    suspicious = forward.watch.autocast or any(_suspects(whole.loss, value, forward, gradient_is_right=True))
    return not suspicious and few.settled(forward)


def _first_that_works(whole: ProbedLoss, functions: Sequence[type]) -> tuple[ProbedLoss, ForwardPass]:
    """The first samples of the batch; or all if the loss can't be computed on a part, or in another way.

    Args:
        functions: the custom autograd functions in the graph of the whole batch.
    """
    if (some := _part(whole, *_MORE)) is not None:
        with suppress(ProblemError):
            forward = some.look()
            if forward.functions == functions:
                return some, forward
    return whole, whole.look()


def _part(whole: ProbedLoss, least: int, most: int, part: int) -> ProbedLoss | None:
    return whole.first_samples(min(most, max(least, (sample_count(whole.batch) or 0) // part)))


def _refuse_certain_faults(forward: ForwardPass, layout: Layout, setting: Setting) -> None:
    """Raises ProblemError for what is wrong whatever the differences are."""
    for cls in filter(once_differentiable, forward.functions if setting.derivative == "exact" else ()):
        raise ProblemError(
            f"the operation {name_of_function(cls)} is marked once_differentiable: PyTorch would omit its "
            "second derivative",
            hint="Write its backward pass with differentiable operations, and remove the decorator; or set "
            "torch.derivative=difference, for products by differences of the gradient.",
        )
    if forward.watch.autocast:
        raise ProblemError(
            "the model or the loss enables autocast, so that the Hessian would have the precision of 16 bits "
            f"although the weights are {type_name(layout.dtype)}",
            hint="Remove torch.autocast from the forward pass, or compute with dtype='float64', which "
            "autocast leaves unchanged.",
        )


def _suspects(loss: BatchLoss, value: Tensor, forward: ForwardPass, gradient_is_right: bool) -> list[Suspect]:
    """What could make the derivatives wrong, in a graph, in the modules, and in a forward pass."""
    found = [
        *in_graph(value, gradient_is_right),
        *in_modules(loss.modules),
        *forward.watch.suspects(forward.functions),
    ]
    return list({one.what: one for one in found}.values())


# -- messages ----------------------------------------------------------------------------------------------


def _not_finite(derivative: str, subject: ProbedLoss) -> ProblemError:
    finite = "the loss is" if derivative == "gradient" else "the loss and its gradient are"
    operation = subject.operation_not_finite()
    because = f": the operation {operation} has none at these weights" if operation else ""
    return ProblemError(
        f"the {derivative} of the loss of batch {subject.index} is not finite although {finite}{because}",
        hint=_NOT_FINITE_HINT,
    )


def _wrong(outcome: ProbeOutcome, suspects: Sequence[Suspect]) -> ProblemError:
    message = f"the Hessian of the loss would be wrong: {outcome.description}"
    if not suspects:
        return ProblemError(message, hint=_UNKNOWN_HINT)
    causes = " and ".join(one.what for one in suspects)
    return ProblemError(
        f"{message}. Likely cause{'s' if len(suspects) > 1 else ''}: {causes}",
        hint=" ".join(dict.fromkeys(one.hint for one in suspects)),
    )
