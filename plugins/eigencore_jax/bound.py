"""A problem bound to JAX: its operators, loss, classifier, curvature of samples, and layout."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, UsageError
from eigencore.interfaces import Array, LinearOperator, Objective, Parameter, Params, Problem
from eigencore.news import report
from eigencore.problems.sharing import (
    CALLS,
    DTYPES,
    check_direction,
    check_dtype,
    draw_minibatch,
    is_objective,
    operator_of_kind,
)
from eigencore_jax import program as compiled
from eigencore_jax.checks import probe
from eigencore_jax.classifier import JaxClassifier, classification
from eigencore_jax.data import JaxSamples, gather
from eigencore_jax.layout import JaxLayout, select, unflattened
from eigencore_jax.models import JaxModel, Weights, hashable
from eigencore_jax.options import JaxOptions
from eigencore_jax.program import Program
from eigencore_jax.reduction import is_mean
from eigencore_jax.risk import JaxRisk, Placement, float64_is_on
from eigencore_jax.row_network import RowNetwork
from eigencore_jax.sample_weights import weighted

_OVER_SAMPLES = frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT, Capability.INPUT_PRODUCTS})


class JaxBound:
    """A problem bound to JAX; see `eigencore.interfaces.Bound`.

    Weights and data are copied, so later changes to the originals have no effect. A kind of operator is made
    from `risk`, the layout of the selected weights, and `linearize`.

    Example:
        import jax.numpy as jnp
        import numpy as np
        import eigencore
        from eigencore.objectives import CrossEntropy

        params = {"w": jnp.ones((4, 3)), "b": jnp.zeros(3)}
        model = (lambda params, x: x @ params["w"] + params["b"], params)
        data = [(np.eye(4), np.array([0, 1, 2, 0]))]
        problem = eigencore.Problem(model=model, data=data, loss=CrossEntropy())
        bound = eigencore.bind(problem, backend="jax")
        print(bound.operator(params="w").shape, bound.loss())
    """

    def __init__(self, problem: Problem, model: JaxModel, place: Placement, options: JaxOptions, note: str):
        self.problem, self._options, self._place, self._note = problem, options, place, note
        self._channels = model.channels
        self._weights, self._constants = place(model.weights), place(model.constants)
        self._samples, call = gather(problem.data, problem.call)
        loss = problem.loss.value if is_objective(problem.loss) else problem.loss
        self._program = Program(model.call, hashable(loss), call)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this problem offers."""
        always = frozenset({Capability.PRODUCTS, Capability.MINIBATCHES, Capability.WEIGHT_LOSS})
        return always | _OVER_SAMPLES if isinstance(self._network, RowNetwork) else always

    @property
    def precisions(self) -> tuple[str, ...]:
        """float64 is among them if JAX has it turned on, in this thread and at this moment."""
        return DTYPES if float64_is_on() else ("float32",)

    @property
    def description(self) -> str:
        """The version of JAX, the device, the data type and the origin of the weights."""
        version = ".".join(jax.__version__.split(".")[:2])
        place = f"jax {version} {str(self._place.device).lower()} {self._place.dtype}"
        return ", ".join(filter(None, (place, self._note)))

    @property
    def linearize(self) -> bool:
        """The option `linearize`."""
        return self._options.linearize

    def operator(self, kind: str = "hessian", params: Params = None, **options: Any) -> LinearOperator:
        """The operator (n, n) of the loss over all data, over n weights, such as its Hessian.

        Args:
            kind: "hessian", "ggn", or a kind that another package registers.
            params: patterns of the names of weights, as in `interfaces.Bound`; None selects all.
            **options: options of the kind.

        Raises:
            UnknownNameError: there is no such kind of operator, or no weight matches.
            CapabilityError: the kind is not defined for this problem.
            ProblemError: a check failed; the checks run at the first call only.
        """
        return operator_of_kind(self, "jax", kind, params, self.select, options)

    def select(self, params: Params = None) -> JaxLayout:
        """The selected weights, and their positions in the vectors of an operator."""
        return select(self._weights, params)

    def classifier(
        self, dtype: str | None = None, *, direction: Array | None = None, params: Params = None
    ) -> JaxClassifier:
        """The model as a classifier, with samples from the validation data, or else from the data.

        Args:
            dtype: one of `precisions`; None: the type of the operator.
            direction: (n,), for the model at weights + direction; None: at the weights.
            params: patterns of the weights that the direction is over; None: all weights.

        Raises:
            CapabilityError: the problem is not a classification; the message says why.
            UnknownNameError, UsageError: the data type is not available, no weight matches, or the direction
                is not a vector over them.
            ProblemError: the bounds do not fit the inputs.
        """
        place = self._placement(dtype)
        weights, constants = self._placed(place)
        if direction is not None:
            layout = self.select(params)
            weights = compiled.moved(layout, weights, _direction(direction, layout, place))
        return self._classifier(place, weights, constants)

    def loss(self, direction: Array | None = None, params: Params = None) -> float:
        """The loss over all data at weights + direction (n,).

        Raises:
            UnknownNameError, UsageError: no weight matches, or the direction is not a vector over them.
            ProblemError: a check failed; the checks run at the first call only.
        """
        layout = self.select(params)
        if direction is not None:
            direction = _direction(direction, layout, self._place)
        return self.risk.value(layout, direction)

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> Array:
        """The gradient (n,) of the loss over all data, or over the batches that a minibatch draws."""
        risk, layout = self.risk, self.select(params)
        if minibatch is None:
            return risk.gradient(layout, risk.chunks)
        drawn = draw_minibatch(risk.samples.batch_weights, *minibatch)
        return risk.gradient(layout, risk.minibatch(drawn))

    def sample_curvature(
        self,
        objective: Objective,
        direction: Array,
        x: Array,
        y: Array,
        params: Params = None,
        dtype: str | None = None,
    ) -> Array:
        """v'H_s v (b,) for each sample s: the curvature of its objective along the direction v (n,).

        Args:
            direction: v, over the weights that `params` selects.
            x, y: inputs (b, d) of any floating-point type, and labels (b,).
            dtype: one of `precisions` to compute in; None: the type of the operator.

        Raises:
            CapabilityError: the problem is not a classification.
            UnknownNameError, UsageError: no weight matches, a shape is wrong, or the data type is not
                available.
        """
        place, layout = self._placement(dtype), self.select(params)
        v = unflattened(layout, _direction(direction, layout, place))
        return self._classifier(place, *self._placed(place)).curvature_along(objective, v, x, y)

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """Each selected weight with its slice of a direction (n,) and its norm."""
        return self.select(params).parameters(self._weights)

    @cached_property
    def risk(self) -> JaxRisk:
        """The loss over all data, as a sum over its samples; the problem is checked at the first use.

        Raises:
            ProblemError: a check failed.
        """
        place, samples, weight = self._place, self._samples, self.problem.weight
        if weight is not None:
            samples = weighted(samples, weight)
        parts = (self._program, self._weights, self._constants, samples)
        size = samples.chunk_size(self._options.microbatch)
        report("comparing the loss of batches with the losses of their samples")
        reduction = "weighted mean" if weight is not None else self.problem.reduction
        mean = is_mean(*parts, place, size, reduction, every=self._options.check)
        if self._options.check:
            report("comparing the derivatives with differences of the loss")
            probe(*parts, place)
        return JaxRisk(*parts, mean, place, size)

    @cached_property
    def _held_out(self) -> JaxSamples:
        """The validation data, or the data if there are none."""
        if self.problem.validation is None:
            return self._samples
        return gather(self.problem.validation, self.problem.call, "validation")[0]

    @cached_property
    def _network(self) -> RowNetwork | CapabilityError:
        if self._program.call != CALLS[0]:
            return CapabilityError("this problem offers no classifier: its batches are not pairs (x, y)")
        try:
            return classification(
                self._program.model,
                self._weights,
                self._constants,
                self._held_out,
                self._place,
                self._channels,
            )
        except CapabilityError as error:
            return error

    def _require_network(self) -> RowNetwork:
        if isinstance(self._network, CapabilityError):
            raise self._network
        return self._network

    def _classifier(self, place: Placement, weights: Weights, constants: Any) -> JaxClassifier:
        network = self._require_network()
        return JaxClassifier(network, weights, constants, self._held_out, self.problem, place)

    def _placement(self, dtype: str | None) -> Placement:
        return self._place if dtype is None else Placement(available_dtype(dtype), self._place.device)

    def _placed(self, place: Placement) -> tuple[Weights, Any]:
        if place == self._place:
            return self._weights, self._constants
        weights, constants = place((self._weights, self._constants))
        return weights, constants


def available_dtype(dtype: str) -> str:
    """The name of a data type that JAX computes in at this moment.

    Raises:
        UsageError: it is not float32 or float64, or float64 is not turned on.
    """
    check_dtype(str(dtype))
    if dtype == "float64" and not float64_is_on():
        raise UsageError(
            "dtype is 'float64', but JAX computes in float32 unless float64 is turned on",
            hint="Set the environment variable JAX_ENABLE_X64=1, or call jax.config.update('jax_enable_x64', "
            "True) before the weights are made.",
        )
    return str(dtype)


def _direction(v: Array, layout: JaxLayout, place: Placement) -> Array:
    """A direction (n,) of any floating-point type, in the data type of a placement.

    Raises:
        UsageError: it has another shape.
    """
    check_direction(v, layout.n)
    return jnp.asarray(v, dtype=place.dtype)
