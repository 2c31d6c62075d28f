"""A PyTorch model while it is trained: see `eigencore.training`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from eigencore.errors import UsageError
from eigencore.processes import Processes
from eigencore.training import StepRule, UpdateLine
from eigencore_torch.bound import TorchBound
from eigencore_torch.models.placement import device_of
from eigencore_torch.models.wrappers import unwrapped
from eigencore_torch.training.optimizer_steps import next_update, step_rule, unwrapped_optimizer
from eigencore_torch.user_errors import explain_errors, gradient_hint
from eigencore_torch.weight_space import shifted_weights

ROUNDING = 4  # units in the last place that two losses of the same weights may differ by


class TorchTraining:
    """See `eigencore.training.Training`."""

    def __init__(self, bind: Callable[[], TorchBound]):
        self._bind, self._bound = bind, bind()
        self._model = unwrapped(self._bound.problem.model)
        if not any(p.requires_grad for p in self._model.parameters()):
            raise UsageError(
                f"the model, a {type(self._model).__name__}, has no weights that are trained",
                hint="The order is Monitor(model, loss, data).",
            )
        self._device = device_of(self._model)

    @property
    def processes(self) -> Processes:
        """The processes that look together, each at its share of the data."""
        return self._bound.processes

    def clock(self) -> float:
        """The time in seconds; on a GPU, when all that was begun on it is done."""
        device = device_of(self._model)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def at(self, optimizer: Any) -> TorchMoment:
        """The model as it is now.

        Raises:
            UsageError: the optimizer is not one of PyTorch's, or trains another model.
            ProblemError: a check failed, in the first call or after the model was moved to another device.
        """
        given = unwrapped_optimizer(optimizer)
        own = {id(p) for p in self._model.parameters()}
        if not any(id(p) in own for group in given.param_groups for p in group["params"]):
            raise UsageError(
                "the optimizer has none of the weights of the monitor's model",
                hint="Give the optimizer that trains this model.",
            )
        if device_of(self._model) != self._device:
            self._bound, self._device = self._bind(), device_of(self._model)
        self._bound = self._bound.renewed(given)
        return TorchMoment(self._bound)


class TorchMoment:
    """See `eigencore.training.Moment`."""

    def __init__(self, bound: TorchBound):
        self.bound = bound
        _ = bound.risk  # the checks, in the first look

    @property
    def rule(self) -> StepRule:
        """The learning rate of the optimizer and its thresholds."""
        return step_rule(self.bound.problem.optimizer)

    @contextmanager
    def update_line(self, batch: Any) -> Iterator[UpdateLine]:
        """The loss along the next step; the gradient in it is not clipped.

        Raises:
            ProblemError: the loss or the step failed.
        """
        bound, problem = self.bound, self.bound.problem
        risk = (bound.risk if batch is None else bound.risk.of_batch(batch)).of_first_order()
        layout, model = bound.select(), bound.risk.loss.model
        # The optimizer has the weights of the given model, of which the problem may have a copy.
        given = dict(zip(model.parameters(), unwrapped(problem.model).parameters(), strict=True))
        with risk.session(), explain_errors("the loss along the update failed", hint=gradient_hint):
            loss, gradient = risk.value_and_gradient(layout)
            originals = [given[p] for p in layout.parameters]
            pieces = next_update(problem.optimizer, dict(zip(originals, layout.split(gradient), strict=True)))
            update = torch.cat([pieces[p].reshape(-1).to(layout.device) for p in originals])

            def at(step: float) -> float:
                with shifted_weights(layout, (-step * update).to(layout.dtype)), torch.no_grad():
                    return risk.value()

            yield UpdateLine(
                loss=float(loss),
                slope=-float(gradient.double() @ update),
                length=float(torch.linalg.vector_norm(update)),
                rounding=ROUNDING * torch.finfo(layout.dtype).eps * abs(float(loss)),
                at=at,
            )
