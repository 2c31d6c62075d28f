"""A problem on PyTorch: its model, data and loss placed, looked over, and made into operators."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, EigencoreError, ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import LinearOperator, Objective, Parameter, Problem
from eigencore.options import option
from eigencore_torch import guards, linearised
from eigencore_torch.allocator import keep_freed_memory
from eigencore_torch.classification import Classification, bounds_of, examine
from eigencore_torch.classifier import TorchClassifier
from eigencore_torch.data import Batches, parts, shapes
from eigencore_torch.hessian import HessianOperator
from eigencore_torch.kernels import uncompiled
from eigencore_torch.params import select
from eigencore_torch.placing import Placed, place
from eigencore_torch.reduction import Inference, Reduction
from eigencore_torch.risk import BatchLoss, Risk, in_words, modules_of
from eigencore_torch.state import Weights, untouched
from eigencore_torch.weight_space import SAMPLES_AT_ONCE, WITHOUT_THIRD_DERIVATIVE, moved, sample_curvature

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

    def __init__(self, problem: Problem, placed: Placed, options: TorchOptions):
        self._problem, self._placed, self._loss, self._options = problem, placed, placed.loss, options
        self._bounds = bounds_of(problem.bounds)
        self._layout = select(placed.loss.model)
        self._device = self._layout.device
        self._batches = Batches(problem.data, self._device, placed.dtype)
        self._weights = Weights(modules_of(placed.loss))

    @property
    def capabilities(self) -> frozenset[Capability]:
        found = self._classification
        always = frozenset({Capability.PRODUCTS, Capability.MINIBATCHES, Capability.WEIGHT_LOSS})
        return always | found.capabilities if isinstance(found, Classification) else always

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

    def classifier(self, dtype: str | None = None) -> TorchClassifier:
        """The network as a classifier, its samples from the validation data where there are any.

        Raises:
            CapabilityError: the problem is no classification of floating inputs; it says why.
            UsageError: there is no such dtype.
            ProblemError: the weights changed, or the model can't be copied.
        """
        found = self._classified()
        self._weights.refuse_changed()
        placed = place(self._loss, None, dtype, None)
        model = placed.loss.model
        weights = self._weights if model is self._loss.model else Weights([model])
        return TorchClassifier(model, found, self._samples(model), self._bounds, weights)

    def loss(self, direction: Tensor | None = None, params: str | None = None) -> float:
        """The loss over all data, at weights + direction (n,).

        Raises:
            UnknownNameError, UsageError: no parameter matches, or the direction is no vector over those.
            ProblemError: what the guards found (only the first time), or the loss failed.
        """
        layout, risk = select(self._loss.model, params), self._risk
        with risk.session(), nullcontext() if direction is None else moved(layout, direction):
            return risk.value()

    def sample_curvature(
        self, objective: Objective, direction: Tensor, x: Tensor, y: Tensor, params: str | None = None
    ) -> Tensor:
        """v'H_s v (b,) over the weights, of each sample's objective along the direction v (n,).

        Args:
            x: inputs (b, d), of any floating type.

        Raises:
            CapabilityError: the problem is no classification.
            UnknownNameError, UsageError: as of `loss`.
            ProblemError: the weights changed, or the model failed.
        """
        found, layout = self._classified(), select(self._loss.model, params)
        if not found.fits(x) or y.shape != x.shape[:1]:
            raise UsageError(f"samples are {shapes((x, y))}; expected inputs (b, {found.d}) and labels (b,)")
        inputs = x.detach().to(self._device, self._layout.dtype).reshape(-1, *found.shape)
        most = self._options.microbatch or SAMPLES_AT_ONCE
        self._weights.refuse_changed()
        with (
            untouched([self._loss.model], self._device, None),
            in_words("the samples' curvature failed", hint=WITHOUT_THIRD_DERIVATIVE),
        ):
            return sample_curvature(
                self._loss.model, layout, objective, direction, inputs, y.to(self._device), most
            )

    def layout(self, params: str | None = None) -> tuple[Parameter, ...]:
        """Where each parameter lies in a direction, and its norm."""
        layout = select(self._loss.model, params)
        norms = [float(torch.linalg.vector_norm(p.detach().double())) for p in layout.parameters]
        return tuple(map(Parameter, layout.names, layout.slices, norms))

    def _classified(self) -> Classification:
        found = self._classification
        if isinstance(found, Classification):
            return found
        raise CapabilityError(f"this problem is no classifier: {found.message}", hint=found.hint)

    @cached_property
    def _classification(self) -> Classification | EigencoreError:
        """What kind of a classification the problem is, or why it is none."""
        try:
            with in_words("its samples can't be looked at"):
                samples = self._samples(self._loss.model)
                with untouched([self._loss.model], self._device, samples.data):
                    return examine(self._loss.model, samples)
        except EigencoreError as error:
            return error

    def _samples(self, model: nn.Module) -> Batches:
        name = "data" if self._problem.validation is None else "validation"
        return Batches(getattr(self._problem, name), self._device, select(model).dtype, name)

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
    keep_freed_memory()
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
