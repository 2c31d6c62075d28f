"""A problem bound to PyTorch: its operators, loss, classifier, curvature of samples, and layout."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, EigencoreError, UsageError
from eigencore.interfaces import (
    ApproximatedOperator,
    Approximation,
    LinearOperator,
    Objective,
    Parameter,
    Params,
    Problem,
)
from eigencore.operators import CutOperator
from eigencore.problems.sharing import draw_minibatch, operator_of_kind
from eigencore.processes import ALONE, Processes, own_part
from eigencore_torch.checks.chunks import check_chunks
from eigencore_torch.checks.shard_checks import check_shard_kind
from eigencore_torch.classifiers.classification import Classification, find_classification
from eigencore_torch.classifiers.classifier import TorchClassifier
from eigencore_torch.data.batches import Batches, describe
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.evaluation.checkpointing import checkpointed
from eigencore_torch.evaluation.double_backward import Derivative, Route
from eigencore_torch.evaluation.kernels import Kernels
from eigencore_torch.evaluation.modes import explain_mode
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from eigencore_torch.hessian_options import HESSIAN_KINDS, require_hessian
from eigencore_torch.inspection import declared_reduction, inspect_problem
from eigencore_torch.memory_limit import MemoryLimit, operator_memory
from eigencore_torch.models.number_types import computing_type
from eigencore_torch.models.params import Layout, differentiable, select
from eigencore_torch.models.placement import DTYPES, PlacedLoss, device_of, place
from eigencore_torch.models.shards import is_sharded, whole
from eigencore_torch.options import TorchOptions
from eigencore_torch.processes.divided_classifier import DividedClassifier
from eigencore_torch.processes.division import DividedData
from eigencore_torch.processes.joining import beside, check_same_model
from eigencore_torch.risk import Risk
from eigencore_torch.user_errors import THIRD_DERIVATIVE_HINT, explain_errors, gradient_hint
from eigencore_torch.weight_space import SAMPLES_PER_PASS, sample_curvature, shift_weights, shifted_weights


class TorchBound:
    """A problem bound to PyTorch, at the weights that its model or checkpoint had at the time of binding.

    Kinds of operator are made from `risk`, `memory`, `problem` and `select` (see `eigencore_torch.kinds`).

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

    def __init__(
        self, problem: Problem, placed: PlacedLoss, options: TorchOptions, processes: Processes = ALONE
    ):
        self.processes = processes
        self.problem, self._placed, self._loss, self._options = problem, placed, placed.loss, options
        self._device, self._dtype = device_of(placed.loss.model), computing_type(placed.loss.model)
        given = options.precision, options.batch_norm, options.derivative
        self._setting = Setting(self._device, *given, sharded=is_sharded(placed.loss.model))
        # Inputs and samples have exact derivatives always.
        self._exact = replace(self._setting, derivative="exact")
        self._mode = self._setting.description
        self._data = DividedData(
            Batches(problem.data, self._device, placed.dtype, join=options.join),
            processes,
            options.processes,
            cut=declared_reduction(problem) is None and options.batch_norm == "running",
            setting=self._setting,
        )
        self._weights = WeightFingerprint(placed.loss.named_modules)
        check_same_model(self._weights, processes)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this problem offers; the first call reads the first batch of its samples."""
        products = frozenset({Capability.PRODUCTS, Capability.MINIBATCHES})
        if self._setting.sharded or self._cut:
            return products
        always, outcome = products | {Capability.WEIGHT_LOSS}, self._classification
        return always | outcome.capabilities if isinstance(outcome, Classification) else always

    @property
    def _cut(self) -> bool:
        """Whether the vectors of the solver are cut into shards, and the weights are not."""
        return self._options.vectors == "shards" and self.processes.count > 1

    precisions = tuple(DTYPES)

    @property
    def description(self) -> str:
        """The version of PyTorch, the device, the data type, the origin of the weights, and the mode.

        Once there is an operator, also whether the weights of the batches were measured.
        """
        risk: Risk | None = self.__dict__.get("risk")  # not computed for a description
        note = "" if risk is None else risk.reduction.note
        parts = [*self._setting.place(self._dtype, cut=self._cut), self._placed.note, self._mode]
        return ", ".join(filter(None, [*parts, *self._options.notes, note, self._data.note]))

    def operator(self, kind: str = "hessian", params: Params = None, **options: Any) -> LinearOperator:
        """The operator (n, n) of the loss over all data, over n trainable weights, such as its Hessian.

        Args:
            kind: "hessian", or another one of the kinds that `eigen kinds` lists for this backend.
            params: patterns of parameter names, as in `interfaces.Bound`; None selects all trainable
                parameters.
            **options: options of the kind.

        Raises:
            UnknownNameError: the kind or the parameter is unknown.
            CapabilityError: the kind can't be computed as torch.derivative, route or products says.
            ProblemError: no weights are trainable, a selected weight has no second derivative, or a check
                failed, such as that of the derivatives; the checks run at the first call only.
        """
        with self.processes.together("an operator", kind=kind, **options):
            if kind.partition("@")[0] not in HESSIAN_KINDS:
                self.require_hessian(kind)
            if self._setting.sharded:
                check_shard_kind(kind)
            operator = operator_of_kind(self, "torch", kind, params, self.select, options)
            products = self._options.products
            if products == "full":
                return CutOperator(operator) if self._cut else operator
            if not isinstance(operator, ApproximatedOperator):
                raise CapabilityError(
                    f"torch.products={products} is not available for the kind {kind}, which is not a sum of "
                    "matrices over the batches",
                    hint="Leave torch.products at full.",
                )
            low = operator_of_kind(self._low, "torch", kind, params, self.select, options)
            operator.approximation = Approximation(low, f"products in {products}", "set torch.products=full")
            return operator

    @cached_property
    def _low(self) -> TorchBound:
        """The same problem with products in low precision; it is not checked again."""
        low, setting = copy.copy(self), replace(self._setting, products=self._options.products)
        low._setting, low._options = setting, replace(self._options, kernels="plain")
        low.risk = self.risk.under(setting)
        return low

    def renewed(self, optimizer: Any) -> TorchBound:
        """The same problem at the weights that its model has now, and with this optimizer; not checked again.

        Operators that were made before raise an error if the weights have changed.
        """
        self._placed.refresh()
        renewed = copy.copy(self)
        for name in ("_low", "_classification"):  # what was derived from the weights before
            vars(renewed).pop(name, None)
        renewed.problem = replace(self.problem, optimizer=optimizer)
        renewed._weights = WeightFingerprint(self._loss.named_modules)
        if "risk" in vars(self):
            renewed.risk = self.risk.at(renewed._weights)
        return renewed

    def select(self, params: Params = None) -> Layout:
        """The selected parameters, and their positions in the vectors of an operator."""
        return select(self._loss.model, params)

    @property
    def kernels(self) -> Kernels:
        """The option `kernels`."""
        return self._options.kernels

    @property
    def derivative(self) -> Derivative:
        """The option `derivative`."""
        return self._options.derivative

    @property
    def route(self) -> Route:
        """The option `route`."""
        return self._options.route

    def checkpointed(self) -> AbstractContextManager[None]:
        """The context for gradients: with activation checkpointing if the option `checkpoint` is on."""
        return checkpointed(self._loss.model) if self._options.checkpoint else nullcontext()

    def require_hessian(self, kind: str) -> None:
        """Raises CapabilityError for another kind if an option is set that is for the Hessian only."""
        require_hessian(self._options, kind)

    @property
    def memory(self) -> MemoryLimit:
        """The limits on the memory of an operator and of what is computed with it."""
        shards, sharing = differentiable(self._loss.model).shards, beside(self.processes, self._device)
        return operator_memory(self._options, self._device, shards, sharing)

    def classifier(
        self, dtype: str | None = None, *, direction: Tensor | None = None, params: Params = None
    ) -> TorchClassifier | DividedClassifier:
        """The network as a classifier, with samples from the validation data, or else from the data.

        Args:
            dtype: "float32" or "float64" for a copy of that type; None for the type of the operator.
            direction: (n,), for a copy at weights + direction; None: at the weights.
            params: patterns of the parameters that the direction is over; None: all trainable parameters.

        Raises:
            CapabilityError: the problem is not a classification with floating-point inputs; the message says
                why.
            UnknownNameError, UsageError: the data type is unknown, no parameter matches, or the direction is
                not a vector over them.
            ProblemError: the weights changed, the model can't be copied, or the bounds do not fit the inputs.
        """
        with self.processes.together("a classifier", dtype=dtype):
            classification = self._require_classification()
            model = self._model_in(dtype, always_copy=direction is not None)
            if direction is not None:
                shift_weights(select(model, params), direction)
            weights = self._weights if model is self._loss.model else WeightFingerprint({"": model})
            classifier = TorchClassifier(
                model, classification, self._samples(model), self.problem, weights, self._exact
            )
            if self.processes.count == 1:
                return classifier
            return DividedClassifier(classifier, self.processes, self._data.holders(self._samples(model)))

    def loss(self, direction: Tensor | None = None, params: Params = None) -> float:
        """The loss over all data at weights + direction (n,).

        Args:
            params: patterns of the parameters that the direction is over; None: all trainable parameters.

        Raises:
            UnknownNameError, UsageError: no parameter matches, or the direction is not a vector over them.
            ProblemError: a check failed (at the first call only), or the loss failed.
        """
        shift: AbstractContextManager[None] = nullcontext()
        if direction is not None:
            shift = shifted_weights(select(self._loss.model, params), direction)
        risk = self.risk
        with risk.session(), shift:
            return risk.value(*([] if direction is None else [direction]))

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> Tensor:
        """The gradient (n,) of the loss over all data, or over the batches that a minibatch draws.

        Args:
            params: patterns of the parameters; None: all trainable parameters.
            minibatch: step, seed and number of batches, as for `RiskOperator.minibatch`.

        Raises:
            UnknownNameError: no parameter matches.
            ProblemError: a check failed (at the first call only), or the gradient failed.
        """
        risk, layout = self.risk, self.select(params)
        with risk.session(), explain_errors("the gradient failed", hint=gradient_hint):
            sample = None if minibatch is None else draw_minibatch(risk.batch_weights, *minibatch)
            return risk.gradient(layout, sample)

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
            params: patterns of the parameters that the direction is over; None: all trainable parameters.
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
            preserve_state([model, *self._loss.modules[1:]], self._exact, None),
            explain_errors("computing the samples' curvature failed", hint=THIRD_DERIVATIVE_HINT),
        ):
            own = own_part(len(inputs), self.processes)
            curvature = partial(
                sample_curvature,
                model,
                select(model, params),
                objective,
                direction,
                inputs[own],
                y.to(self._device)[own],
                logits=classification.logits,
                samples_per_pass=self._options.microbatch or SAMPLES_PER_PASS,
            )
            curvatures: Tensor = self.processes.gather(curvature, "the curvature of samples", direction, x, y)
            return curvatures

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """Each selected parameter with its slice of a direction (n,) and the norm of its weights."""
        layout = select(self._loss.model, params)
        norms = [float(torch.linalg.vector_norm(whole(p.detach()).double())) for p in layout.parameters]
        return tuple(map(Parameter, layout.names, layout.slices, norms))

    def _model_in(self, dtype: str | None, always_copy: bool = False) -> nn.Module:
        """The model, or a copy of it if another data type is requested."""
        with preserve_state([], self._setting, None, check=self._weights.check_unchanged):
            return place(self._loss, None, dtype, None, always_copy=always_copy).loss.model

    def _require_classification(self) -> Classification:
        outcome = self._classification
        if isinstance(outcome, Classification):
            return outcome
        raise CapabilityError(f"this problem offers no classifier: {outcome.message}", hint=outcome.hint)

    @cached_property
    def _classification(self) -> Classification | EigencoreError:
        """The kind of classification that the problem is, or the error that says why it is not one."""
        if self._setting.sharded:
            return CapabilityError(
                "a classifier is not available for weights that are cut into shards (DTensor)",
                hint="Leave out what needs a classifier: --analyses none.",
            )
        if self._options.batch_norm == "batch":
            return CapabilityError(
                "with torch.batch_norm=batch, the logits of a sample depend on the rest of its batch",
                hint="Set torch.batch_norm=running, or leave out what needs a classifier: --analyses none.",
            )
        together = self.processes.together("reading the samples")
        try:
            with together, explain_errors("reading the samples failed"):
                samples = self._samples(self._loss.model)
                with preserve_state(self._loss.modules, self._setting, samples.data):
                    return find_classification(self._loss, samples)
        except EigencoreError as error:
            return error

    def _samples(self, model: nn.Module) -> Batches:
        name = "data" if self.problem.validation is None else "validation"
        return Batches(getattr(self.problem, name), self._device, computing_type(model), name)

    @cached_property
    def risk(self) -> Risk:
        """The loss over all data, as a sum over the batches; the problem is checked at the first use.

        Raises:
            ProblemError: a check failed.
        """
        data, unchanged = self._data.own.data, self._weights.check_unchanged
        with (
            self.processes.together("the checks of the problem"),
            preserve_state(self._loss.modules, self._setting, data, check=unchanged),
            explain_mode(self._loss, self._data.own, self._setting),
        ):
            check_chunks(self._loss, self._data.own)
            found = inspect_problem(
                self.problem, self._placed, self._data.own, self._options, self._setting, self.processes
            )
        self._mode = found.mode
        return Risk(
            self._loss,
            self._data.own,
            found.reduction,
            self._weights,
            self._setting,
            self._options.microbatch,
            found.forward,
            self.processes,
        )
