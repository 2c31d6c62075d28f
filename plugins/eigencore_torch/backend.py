"""The entry point of the PyTorch backend: `bind` checks a problem and binds it to PyTorch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, EigencoreError, ProblemError, UsageError
from eigencore.interfaces import LinearOperator, Objective, Parameter, Params, Problem
from eigencore.options import option
from eigencore.problems.sharing import check_bounds, check_call, check_kind, check_reduction
from eigencore_torch.batch_loss import BatchLoss, check_loss
from eigencore_torch.checks.probe import probe
from eigencore_torch.checks.problem_checks import check_layers, check_problem, check_weights
from eigencore_torch.classifiers.classification import Classification, find_classification
from eigencore_torch.classifiers.classifier import TorchClassifier
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches, describe, split_batch, type_name
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.evaluation.kernels import Kernels, check_kernels
from eigencore_torch.evaluation.modes import check_batch_norm, describe_mode, explain_mode
from eigencore_torch.evaluation.precision import Precision
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from eigencore_torch.gradient_graph import memory_budget, retain_freed_memory
from eigencore_torch.hessian import HessianOperator
from eigencore_torch.models.number_types import computing_type
from eigencore_torch.models.params import select
from eigencore_torch.models.placement import DTYPES, PlacedLoss, device_of, place, trainable
from eigencore_torch.models.wrappers import unwrapped
from eigencore_torch.reductions.reduction import Reduction
from eigencore_torch.reductions.reduction_inference import ReductionInference
from eigencore_torch.risk import Risk
from eigencore_torch.user_errors import THIRD_DERIVATIVE_HINT, explain_errors
from eigencore_torch.weight_space import SAMPLES_PER_PASS, sample_curvature, shifted_weights

KINDS = ("hessian",)


@dataclass(frozen=True)
class TorchOptions:
    """The options of the PyTorch backend.

    Example:
        import eigencore
        import torch

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        bound = eigencore.bind(problem, backend="torch", microbatch=4, memory="1GiB")
    """

    check: bool = option(
        True,
        help="check the data, the loss, its derivatives and the weights before the first product",
        when="turn it off if passes over the data are expensive and the problem is known to be sound",
    )
    memory: str = option(
        "auto",
        help="memory for the gradient graphs that products reuse: auto (half of the free memory), none, or a "
        "size such as 2GiB",
        when="lower it if memory runs out, raise it if memory is free: a product without kept graphs is more "
        "expensive",
    )
    microbatch: int | None = option(
        None,
        low=1,
        help="largest number of samples per forward pass; larger batches are split, which does not change "
        "the operator",
        when="set it if a batch and its gradient graph do not fit into the device's memory",
    )
    precision: Precision = option(
        "full",
        help="float32 products on GPUs: full, or tf32, which rounds their factors to 11 significant bits; "
        "PyTorch's own switches are set aside meanwhile",
        when="set tf32 if speed matters more than digits: eigenvalues then have about three",
    )
    batch_norm: Literal["running", "batch"] = option(
        "running",
        help="statistics that BatchNorm normalises with: running, or batch, which are those of each batch, "
        "as in training mode; everything else is in evaluation mode",
        when="set batch for the curvature of the training loss, as in studies of sharpness during training",
    )
    kernels: Kernels = option(
        "auto",
        help="kernels of float32 matrix products on x86 processors: plain, which are PyTorch's own; onednn; "
        "or auto, which selects onednn if a trial finds it faster and large products are most of the work",
        when="set plain if other threads use PyTorch during a solve: onednn applies to all threads, where it "
        "slows down small products and makes torch.get_float32_matmul_precision() fail",
    )


class TorchBound:
    """A problem bound to PyTorch, at the weights that its model or checkpoint had at the time of binding.

    Example:
        import eigencore
        import torch

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        bound = eigencore.bind(problem, backend="torch")
        hessian = bound.operator(params="weight")
        direction = torch.ones(hessian.shape[0])
        loss = bound.loss(0.1 * direction, params="weight")
    """

    def __init__(self, problem: Problem, placed: PlacedLoss, options: TorchOptions):
        self._problem, self._placed, self._loss, self._options = problem, placed, placed.loss, options
        self._device, self._dtype = device_of(placed.loss.model), computing_type(placed.loss.model)
        self._setting = Setting(self._device, options.precision, options.batch_norm)
        self._mode = self._setting.description
        self._batches = Batches(problem.data, self._device, placed.dtype)
        self._weights = WeightFingerprint(placed.loss.named_modules)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this problem offers; the first call reads the first batch of its samples."""
        always = frozenset({Capability.PRODUCTS, Capability.MINIBATCHES, Capability.WEIGHT_LOSS})
        outcome = self._classification
        return always | outcome.capabilities if isinstance(outcome, Classification) else always

    precisions = tuple(DTYPES)

    @property
    def description(self) -> str:
        """The version of PyTorch, the device, the data type, the origin of the weights, and the mode.

        Once there is an operator, also whether the weights of the batches were measured.
        """
        version = ".".join(torch.__version__.split(".")[:2])
        rounding, dtype = self._setting.rounding(self._dtype), type_name(self._dtype)
        place = f"torch {version} {self._device} {dtype}{rounding}"
        return ", ".join(filter(None, (place, self._placed.note, self._mode, self._reduction_note)))

    def operator(self, kind: str = "hessian", params: Params = None) -> LinearOperator:
        """The Hessian (n, n) of the loss over all data, over n trainable weights.

        Args:
            params: one or several globs of parameter names, as "A,B" or as a list; None selects all trainable
                parameters.

        Raises:
            UnknownNameError: the kind or the parameter is unknown.
            ProblemError: no weights are trainable, a selected weight has no second derivative, or a check
                failed, such as that of the derivatives; the checks run at the first call only.
        """
        check_kind(kind, KINDS)
        layout = select(self._loss.model, params)
        memory = memory_budget(self._options.memory, self._device)
        return HessianOperator(self._risk, layout, memory, self._options.kernels)

    def classifier(self, dtype: str | None = None) -> TorchClassifier:
        """The network as a classifier, with samples from the validation data, or else from the data.

        Args:
            dtype: "float32" or "float64" for a copy of that type; None for the type of the operator.

        Raises:
            CapabilityError: the problem is not a classification with floating-point inputs; the message says
                why.
            UsageError: the data type is unknown.
            ProblemError: the weights changed, the model can't be copied, or the bounds do not fit the inputs.
        """
        classification = self._require_classification()
        model = self._model_in(dtype)
        weights = self._weights if model is self._loss.model else WeightFingerprint({"": model})
        return TorchClassifier(
            model, classification, self._samples(model), self._problem.bounds, weights, self._setting
        )

    def loss(self, direction: Tensor | None = None, params: Params = None) -> float:
        """The loss over all data at weights + direction (n,).

        Args:
            params: globs of the parameter names that the direction is over; None: all trainable parameters.

        Raises:
            UnknownNameError, UsageError: no parameter matches, or the direction is not a vector over them.
            ProblemError: a check failed (at the first call only), or the loss failed.
        """
        shift: AbstractContextManager[None] = nullcontext()
        if direction is not None:
            shift = shifted_weights(select(self._loss.model, params), direction)
        risk = self._risk
        with risk.session(), shift:
            return risk.value()

    def sample_curvature(
        self,
        objective: Objective,
        direction: Tensor,
        x: Tensor,
        y: Tensor,
        params: Params = None,
        dtype: str | None = None,
    ) -> Tensor:
        """v'H_s v (b,) for each sample s: the curvature of its objective along the direction v (n,).

        H_s is the Hessian of the sample's objective with respect to the weights.

        Args:
            x: inputs (b, d) of any floating-point type.
            y: labels (b,).
            params: globs of the parameter names that the direction is over; None: all trainable parameters.
            dtype: "float32" or "float64" to compute in that type; None: in the type of the operator.

        Raises:
            CapabilityError: the problem is not a classification.
            UnknownNameError, UsageError: no parameter matches, or a shape is wrong.
            ProblemError: the weights changed, or the model failed.
        """
        classification = self._require_classification()
        if not classification.is_rows(x) or y.shape != x.shape[:1]:
            raise UsageError(
                f"samples are {describe((x, y))}; expected inputs (b, {classification.d}) and labels (b,)"
            )
        model = self._model_in(dtype)
        inputs = x.detach().to(self._device, computing_type(model)).reshape(-1, *classification.shape)
        with (
            preserve_state([model, *self._loss.modules[1:]], self._setting, None),
            explain_errors("computing the samples' curvature failed", hint=THIRD_DERIVATIVE_HINT),
        ):
            return sample_curvature(
                model,
                select(model, params),
                objective,
                direction,
                inputs,
                y.to(self._device),
                logits=classification.logits,
                samples_per_pass=self._options.microbatch or SAMPLES_PER_PASS,
            )

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """Each selected parameter with its slice of a direction (n,) and the norm of its weights."""
        layout = select(self._loss.model, params)
        norms = [float(torch.linalg.vector_norm(p.detach().double())) for p in layout.parameters]
        return tuple(map(Parameter, layout.names, layout.slices, norms))

    def _model_in(self, dtype: str | None) -> nn.Module:
        """The model, or a copy of it if another data type is requested."""
        with preserve_state([], self._setting, None, check=self._weights.check_unchanged):
            return place(self._loss, None, dtype, None).loss.model

    def _require_classification(self) -> Classification:
        outcome = self._classification
        if isinstance(outcome, Classification):
            return outcome
        raise CapabilityError(f"this problem offers no classifier: {outcome.message}", hint=outcome.hint)

    @cached_property
    def _classification(self) -> Classification | EigencoreError:
        """The kind of classification that the problem is, or the error that says why it is not one."""
        if self._options.batch_norm == "batch":
            return CapabilityError(
                "with torch.batch_norm=batch, the logits of a sample depend on the rest of its batch",
                hint="Set torch.batch_norm=running, or leave out what needs a classifier: --analyses none.",
            )
        try:
            with explain_errors("reading the samples failed"):
                samples = self._samples(self._loss.model)
                with preserve_state(self._loss.modules, self._setting, samples.data):
                    return find_classification(self._loss, samples)
        except EigencoreError as error:
            return error

    def _samples(self, model: nn.Module) -> Batches:
        name = "data" if self._problem.validation is None else "validation"
        return Batches(getattr(self._problem, name), self._device, computing_type(model), name)

    @property
    def _reduction_note(self) -> str:
        risk: Risk | None = self.__dict__.get("_risk")  # not computed for a description
        return "" if risk is None else risk.reduction.note

    @cached_property
    def _risk(self) -> Risk:
        data, unchanged = self._batches.data, self._weights.check_unchanged
        with (
            preserve_state(self._loss.modules, self._setting, data, check=unchanged),
            explain_mode(self._loss, self._batches, self._setting),
        ):
            reduction = self._checked_reduction()
        return Risk(
            self._loss, self._batches, reduction, self._weights, self._setting, self._options.microbatch
        )

    def _checked_reduction(self) -> Reduction:
        """The reduction, after the problem has been checked if the option `check` is on."""
        declared, microbatch = _declared_reduction(self._problem), self._options.microbatch
        inference = ReductionInference(self._loss, declared, microbatch)
        if self._options.check:
            if declared is not None and microbatch is not None:
                microbatch = max(microbatch, 2)  # on one sample, nothing shows whether the loss can be split
            with trainable(self._placed.original_parameters):
                check_problem(
                    self._loss,
                    self._batches,
                    microbatch=microbatch,
                    batch_weight=None if declared is None else declared.batch_weight,
                    observe=inference.observe if declared is None or microbatch is not None else None,
                    inspect_first=self._inspect_first,
                    original_parameters=self._placed.original_parameters,
                )
        elif declared is None:
            self._observe_few_batches(inference, microbatch)
        return declared or inference.result(complete=self._options.check)

    def _inspect_first(self, batch: Batch, index: int, value: Tensor) -> None:
        self._mode = describe_mode(self._loss, batch, value, self._setting)
        # Before the reduction is inferred, which takes the gradients to be those of the loss.
        probe(self._loss, batch, index, self._setting)

    def _observe_few_batches(self, inference: ReductionInference, microbatch: int | None) -> None:
        for index, batch in enumerate(self._batches):
            for part in split_batch(batch, index, microbatch):
                inference.observe(part, index)
                if inference.rule is not None:
                    return


def bind(
    problem: Problem, options: TorchOptions, *, device: str | None = None, dtype: str | None = None
) -> TorchBound:
    """The problem, bound to PyTorch.

    The given model is never changed. A copy is used if the device, the data type or a checkpoint requires it,
    if the weights have 16 bits, or if all weights are frozen: all weights of the copy are then trainable.

    Args:
        device: where to compute, such as "cpu" or "cuda"; None: where the model is.
        dtype: "float32" or "float64"; None: the model's own type, or float32 for weights of 16 bits.

    Raises:
        ProblemError: the model, data, loss or checkpoint is unusable.
        UsageError: the device, data type or checkpoint does not exist.

    Example:
        import torch
        from eigencore import Problem
        from eigencore_torch.backend import TorchOptions, bind

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        hessian = bind(problem, TorchOptions(), dtype="float64").operator()
        product = hessian.matvec(torch.ones(15, dtype=torch.float64))
    """
    model, loss = problem.model, problem.loss
    if not isinstance(model, nn.Module):
        exported = isinstance(model, torch.export.ExportedProgram)
        raise ProblemError(
            f"the model is a {type(model).__name__}; expected a torch.nn.Module",
            hint="Call its method module()." if exported else None,
        )
    check_loss(loss)
    check_call(problem.call)
    check_bounds(problem.bounds)
    declared = _declared_reduction(problem)
    memory_budget(options.memory, torch.device("cpu"))
    model = unwrapped(model)
    check_layers(model)
    if options.batch_norm == "batch":
        check_batch_norm(model, declared is not None, options.microbatch)
    placed = place(BatchLoss(model, loss, problem.call), device, dtype, problem.checkpoint)
    check_weights(placed.loss.model)
    check_kernels(options.kernels, device_of(placed.loss.model), computing_type(placed.loss.model))
    retain_freed_memory()
    return TorchBound(problem, placed, options)


def _declared_reduction(problem: Problem) -> Reduction | None:
    """The reduction that the problem declares; None if it has to be inferred."""
    check_reduction(problem.reduction)
    if problem.weight is not None:
        if problem.reduction == "sum":
            raise UsageError(
                "reduction='sum' and weight were both given", hint="Leave weight out: a sum needs no weights."
            )
        return Reduction("mean", problem.weight)
    if problem.reduction == "infer":
        return None
    return Reduction("mean" if problem.reduction == "mean" else "sum")
