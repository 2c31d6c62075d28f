"""A problem on PyTorch: its model, data and loss placed, looked over, and made into operators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Capability, LinearOperator, Problem
from eigencore.options import option
from eigencore_torch import guards, linearised
from eigencore_torch.data import Batches, parts
from eigencore_torch.hessian import HessianOperator
from eigencore_torch.kernels import uncompiled
from eigencore_torch.params import select
from eigencore_torch.placing import Placed, place
from eigencore_torch.reduction import Inference, Reduction
from eigencore_torch.risk import BatchLoss, Risk, modules_of
from eigencore_torch.state import Weights, untouched

KINDS = ("hessian",)


@dataclass(frozen=True)
class TorchOptions:
    check: bool = option(
        True,
        help="look at data, loss and weights before the first product",
        when="turn it off where passes over the data are dear and the problem is known to be sound",
    )
    memory: str = option(
        "auto",
        help="memory for what products share: auto (half of what is free), none, or a size such as 2GiB",
        when="lower it where memory runs out, raise it where it is free: a product from scratch costs more",
    )
    microbatch: int | None = option(
        None,
        low=1,
        help="samples that go through the model at once: larger batches are split, for the same operator",
        when="set it where a batch and its gradient's graph don't fit into the device's memory",
    )


class TorchBound:
    """A problem on PyTorch, at the weights that its model or checkpoint had when this was made."""

    capabilities = frozenset({Capability.PRODUCTS, Capability.MINIBATCHES})

    def __init__(self, problem: Problem, placed: Placed, options: TorchOptions):
        self._problem, self._placed, self._loss, self._options = problem, placed, placed.loss, options
        self._layout = select(placed.loss.model)
        self._device = self._layout.device
        self._batches = Batches(problem.data, self._device, placed.dtype)
        self._weights = Weights(modules_of(placed.loss))

    @property
    def description(self) -> str:
        version = ".".join(torch.__version__.split(".")[:2])
        made = f"torch {version} {self._device} {str(self._layout.dtype).removeprefix('torch.')}"
        return f"{made}, {self._placed.note}" if self._placed.note else made

    def operator(self, kind: str = "hessian", params: str | None = None) -> LinearOperator:
        """The Hessian of the loss over all data, over the trainable parameters that match the glob `params`.

        Raises:
            UnknownNameError: of a kind or parameter.
            ProblemError: what the guards found (only the first time).
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of operator", kind, KINDS)
        layout = select(self._loss.model, params)
        memory = linearised.budget(self._options.memory, self._device)
        return HessianOperator(self._risk, layout, memory)

    @cached_property
    def _risk(self) -> Risk:
        self._weights.refuse_changed()
        with untouched(modules_of(self._loss), self._device, self._batches.data):
            reduction = self._reduction()
        most = self._options.microbatch
        return Risk(self._loss, self._batches, reduction, self._weights, self._device, most)

    def _reduction(self) -> Reduction:
        known, most = _declared(self._problem), self._options.microbatch
        # One sample doesn't tell what two together do.
        most = None if most is None else max(most, 2)
        inference = Inference(self._loss, known)
        if self._options.check:
            guards.examine(
                self._loss,
                self._batches,
                most=most,
                weigh=None if known is None else known.weigh,
                look=inference.look if known is None or most is not None else None,
                left=self._placed.left,
            )
        elif known is None:
            self._infer(inference, most)
        return known or inference.result()

    def _infer(self, inference: Inference, most: int | None) -> None:
        """From the first batches alone."""
        for index, batch in enumerate(self._batches):
            for piece in parts(batch, index, most):
                inference.look(piece, index, self._loss(piece, index))
                if inference.rule is not None:
                    return


def bind(
    problem: Problem, options: TorchOptions, *, device: str | None = None, dtype: str | None = None
) -> TorchBound:
    """The problem on PyTorch.

    The model that was given is never changed: where device, dtype or a checkpoint ask for something else, or
    its weights are of 16 bits, a copy is used.

    Args:
        device: where to work; None: where the model is.
        dtype: "float32" or "float64"; None: the model's own, and float32 for weights of 16 bits.

    Raises:
        ProblemError: model, data, loss or checkpoint can't be used.
        UsageError: there is no such device, dtype or checkpoint.
    """
    model, loss = problem.model, problem.loss
    if not isinstance(model, nn.Module):
        raise ProblemError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    if not callable(loss):
        raise ProblemError(
            f"the loss is a {type(loss).__name__}; expected a function",
            hint="Give loss(outputs, y) for batches (x, y), or loss(model, batch) for any others.",
        )
    _declared(problem)
    linearised.budget(options.memory, torch.device("cpu"))
    model = uncompiled(model)
    guards.refuse_layers(model)
    placed = place(BatchLoss(model, loss), device, dtype, problem.checkpoint)
    guards.refuse_weights(placed.loss.model)
    return TorchBound(problem, placed, options)


def _declared(problem: Problem) -> Reduction | None:
    """The reduction as far as the problem says it."""
    if problem.reduction not in ("infer", "mean", "sum"):
        raise UsageError(f"reduction is {problem.reduction!r}; expected 'infer', 'mean' or 'sum'")
    if problem.weight is not None:
        if problem.reduction == "sum":
            raise UsageError("reduction='sum' and weight were both given", hint="A sum needs no weight.")
        return Reduction("mean", problem.weight)
    if problem.reduction == "infer":
        return None
    return Reduction("mean" if problem.reduction == "mean" else "sum")
