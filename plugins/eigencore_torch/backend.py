"""A problem on PyTorch: its model, data and loss placed, looked over, and made into operators."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Capability, LinearOperator, Problem
from eigencore.options import option
from eigencore_torch import guards, linearised
from eigencore_torch.data import Batches
from eigencore_torch.hessian import HessianOperator
from eigencore_torch.params import select
from eigencore_torch.reduction import Inference, Reduction
from eigencore_torch.risk import BatchLoss, Risk, modules_of
from eigencore_torch.state import Weights, untouched

KINDS = ("hessian",)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


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


class TorchBound:
    """A problem on PyTorch, at the weights that its model had when this was made."""

    capabilities = frozenset({Capability.PRODUCTS})

    def __init__(self, problem: Problem, loss: BatchLoss, batches: Batches, options: TorchOptions):
        self._problem, self._loss, self._batches, self._options = problem, loss, batches, options
        self._layout = select(loss.model)
        self._device = self._layout.device
        self._weights = Weights(modules_of(loss))

    @property
    def description(self) -> str:
        version = ".".join(torch.__version__.split(".")[:2])
        return f"torch {version} {self._device} {str(self._layout.dtype).removeprefix('torch.')}"

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
        return Risk(self._loss, self._batches, reduction, self._weights, self._device)

    def _reduction(self) -> Reduction:
        known = _declared(self._problem)
        if known is not None:
            if self._options.check:
                guards.examine(self._loss, self._batches, weigh=known.weigh)
            return known
        inference = Inference(self._loss)
        if self._options.check:
            guards.examine(self._loss, self._batches, look=inference.look)
            return inference.result()
        for index, batch in enumerate(self._batches):
            inference.look(batch, index, self._loss(batch, index))
            if inference.rule is not None:
                break
        return inference.result()


def bind(
    problem: Problem, options: TorchOptions, *, device: str | None = None, dtype: str | None = None
) -> TorchBound:
    """The problem on PyTorch.

    Args:
        device: where to work; None: where the model is. Elsewhere a copy of the model is used.
        dtype: "float32" or "float64"; None: the model's own. Another one is for a copy of the model.

    Raises:
        ProblemError: model, data or loss can't be used.
        UsageError: there is no such device or dtype.
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
    place = None if device is None else _device(device)
    kind = None if dtype is None else _dtype(dtype)
    model, loss = _placed(model, loss, place, kind)
    guards.refuse_layers(model)
    guards.refuse_weights(model)
    where = select(model).device
    return TorchBound(problem, BatchLoss(model, loss), Batches(problem.data, where, kind), options)


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


def _placed(
    model: nn.Module, loss: Any, device: torch.device | None, dtype: torch.dtype | None
) -> tuple[nn.Module, Any]:
    """Model and loss as they are, or copies where device or dtype ask for something else."""
    own = [p for p in model.parameters() if p.is_floating_point()]
    if all(device in (None, p.device) and dtype in (None, p.dtype) for p in own):
        return model, loss
    try:
        # Together, so that what they share stays shared.
        model, loss = copy.deepcopy((model, loss))
    except (RuntimeError, TypeError) as error:
        raise ProblemError(
            f"the model can't be copied to another device or data type: {error}",
            hint="Give it as it is to be used: model.to(...) before, and no device or dtype here.",
        ) from error
    for module in modules_of(BatchLoss(model, loss)):
        module.to(device=device, dtype=dtype)
    return model, loss


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"device is {name!r}, and PyTorch sees {torch.cuda.device_count()} CUDA devices",
                hint="Use --device cpu, or install a PyTorch built for CUDA.",
            )
        # "cuda" and "cuda:0" are not equal to PyTorch.
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return torch.device("cpu")


def _dtype(name: str) -> torch.dtype:
    # Also torch.float64 itself, as one writes it in Python.
    kind = str(name).removeprefix("torch.")
    if kind not in DTYPES:
        raise UsageError(
            f"dtype is {kind!r}; expected {' or '.join(DTYPES)}",
            hint="Products in fewer digits can't be told from their rounding.",
        )
    return DTYPES[kind]
