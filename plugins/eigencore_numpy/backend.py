"""The NumPy backend: validates a two-layer network, its data and its objective, and binds them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import LinearOperator, Objective, Parameter, Params, Problem
from eigencore.news import report
from eigencore.problems.sharing import (
    DTYPES,
    check_bounds,
    check_call,
    check_channels,
    check_cpu,
    check_dtype,
    check_finite_weights,
    check_objective,
    check_reduction,
    draw_minibatch,
    operator_of_kind,
)
from eigencore_numpy.classifier import TwoLayerClassifier
from eigencore_numpy.data import Samples, as_labelled_rows, gather
from eigencore_numpy.layout import TwoLayerLayout
from eigencore_numpy.layout import select as select_weights
from eigencore_numpy.network import ACTIVATIONS, PARAMETERS, Numbers, Pass, TwoLayer
from eigencore_numpy.probe import probe


class NumpyBound:
    """A problem bound to NumPy; see `eigencore.interfaces.Bound`.

    Weights and data are copied, so later changes to the originals have no effect. A kind of operator uses the
    attributes `objective`, `samples` and `sample_weights`, and the network in its layout.
    """

    capabilities = frozenset(Capability)
    precisions = DTYPES

    def __init__(self, problem: Problem, network: TwoLayer):
        self._problem, self._network = problem, network
        self.objective: Objective = problem.loss
        self._data = gather(problem.data, network)

    @property
    def description(self) -> str:
        """The library with its version, the device and the data type."""
        return f"numpy {'.'.join(np.__version__.split('.')[:2])} cpu {self._network.dtype}"

    def operator(self, kind: str = "hessian", params: Params = None, **options: Any) -> LinearOperator:
        """The operator of the loss over all data, with respect to the parameters that match `params`.

        Args:
            kind: "hessian", "ggn", or a kind that another package registers.
            params: patterns of parameter names, as in `interfaces.Bound`; None selects all parameters.
            **options: options of the kind.

        Raises:
            UnknownNameError: there is no such kind of operator, or no parameter matches.
            ProblemError: a derivative that the objective returns is wrong; this is checked at the first call.
        """
        return operator_of_kind(self, "numpy", kind, params, self.select, options)

    def select(self, params: Params = None) -> TwoLayerLayout:
        """The parameters that match `params`, with the network that they belong to."""
        return select_weights(self._network, params)

    def classifier(
        self, dtype: str | None = None, *, direction: Numbers | None = None, params: Params = None
    ) -> TwoLayerClassifier:
        """The network as a classifier of the validation data, or of the data if there are none.

        Args:
            dtype: "float32" or "float64" for a copy of that type; None: the type of the operator.
            direction: (n,), for the network at weights + direction; None: at the weights.
            params: patterns of the parameters that the direction is over; None: all parameters.

        Raises:
            UnknownNameError: no parameter matches `params`.
            UsageError: the data type is not available, or the direction has another shape.
            ProblemError: the bounds do not fit the inputs.
        """
        chosen = self._network.dtype if dtype is None else _dtype(dtype)
        network, samples = self._network.astype(chosen), self._held_out.astype(chosen)
        return TwoLayerClassifier(_moved(network, direction, params), samples, self._problem)

    def loss(self, direction: Numbers | None = None, params: Params = None) -> float:
        """The loss over all data, at the weights plus `direction` (n,) if that is given.

        Raises:
            UnknownNameError: no parameter matches `params`.
            UsageError: the direction has another shape.
        """
        network = _moved(self._network, direction, params)
        values = self.objective.value(network.logits(self._data.x), self._data.y)
        return float(np.sum(self.sample_weights * values, dtype=np.float64))

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> Numbers:
        """The gradient (n,) of the loss over all data, or over the batches that a minibatch draws."""
        samples, weights = self.samples, self.sample_weights
        rows, factors = np.arange(len(samples.x)), np.ones(len(samples.x))
        if minibatch is not None:
            rows, factors = samples.drawn(draw_minibatch(samples.sizes.tolist(), *minibatch))
        layout = self.select(params)
        drawn = weights[rows] * factors.astype(weights.dtype)
        passed = Pass(layout.network, self.objective, samples.x[rows], samples.y[rows], drawn)
        return layout.flatten(passed.weight_gradient())

    def sample_curvature(
        self,
        objective: Objective,
        direction: Numbers,
        x: Numbers,
        y: Numbers,
        params: Params = None,
        dtype: str | None = None,
    ) -> Numbers:
        """v' H_s v (b,) of each sample's objective over the weights, along the direction v (n,).

        Args:
            dtype: "float32" or "float64" to compute in that type; None: in the type of the operator.

        Raises:
            UnknownNameError: no parameter matches `params`.
            UsageError: direction, inputs or labels have another shape, or the data type is not available.
        """
        network = self._network if dtype is None else self._network.astype(_dtype(dtype))
        v = select_weights(network, params).unflatten(direction)
        return Pass(network, objective, *as_labelled_rows(network, x, y)).weight_curvature(v)

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """The name, position and norm of each parameter that matches `params`."""
        return self.select(params).parameters()

    @property
    def sample_weights(self) -> Numbers:
        """The weight of each sample in the loss (N,)."""
        N = len(self._data.x)
        return np.full(N, 1 if self._problem.reduction == "sum" else 1 / N, self._network.dtype)

    @cached_property
    def samples(self) -> Samples:
        """The data, after the derivatives of the objective have been checked on some of them."""
        report("comparing the derivatives with differences of the loss")
        probe(self._network, self.objective, self._data)
        return self._data

    @cached_property
    def _held_out(self) -> Samples:
        """The validation data, or the data if there are none."""
        if self._problem.validation is None:
            return self._data
        return gather(self._problem.validation, self._network, "validation")


def bind(
    problem: Problem, options: None = None, *, device: str | None = None, dtype: str | None = None
) -> NumpyBound:
    """Binds a problem to NumPy.

    The operator is the Hessian of the mean loss over all samples, or of their sum with reduction="sum".

    Args:
        problem: a TwoLayer as the model, batches (x, y), and an `eigencore.interfaces.Objective` as the loss.
        device: "cpu" or None.
        dtype: "float32" or "float64"; None keeps the data type of the weights.

    Returns:
        The bound problem.

    Raises:
        ProblemError: the model, data or loss is not valid.
        UsageError: the device, data type or reduction is not available.

    Example:
        import numpy as np

        from eigencore import Problem
        from eigencore.objectives import CrossEntropy
        from eigencore_numpy.backend import bind
        from eigencore_numpy.network import TwoLayer

        network = TwoLayer(np.ones((4, 5)), np.zeros(4), np.ones((3, 4)), np.zeros(3))
        data = [(np.ones((9, 5)), np.arange(9) % 3)]
        bound = bind(Problem(model=network, data=data, loss=CrossEntropy()))
        print(bound.operator().shape, bound.loss())
    """
    check_cpu(device, "numpy")
    check_reduction(problem.reduction)
    check_call(problem.call)
    check_bounds(problem.bounds)
    check_channels(problem.channels)
    if problem.call == "loss(model, batch)":
        raise UsageError(
            "call='loss(model, batch)' does not apply to an objective, which takes logits and labels",
            hint="Leave call out.",
        )
    if problem.weight is not None:
        raise UsageError(
            "weight does not apply to an objective, which returns one number per sample",
            hint="Leave weight out.",
        )
    check_objective(problem.loss)
    return NumpyBound(problem, _validated(problem.model, dtype))


def _moved(network: TwoLayer, direction: Numbers | None, params: Params) -> TwoLayer:
    """The network with a direction (n,) over some of its parameters added to its weights."""
    if direction is None:
        return network
    step = select_weights(network, params).unflatten(direction)
    return network.map(lambda name, weights: weights + getattr(step, name))


def _validated(model: Any, dtype: str | None) -> TwoLayer:
    """A copy of the model in the data type, after its weights have been checked."""
    if not isinstance(model, TwoLayer):
        raise ProblemError(
            f"the model is a {type(model).__name__}; expected an eigencore_numpy.network.TwoLayer",
            hint="Use another backend for other models, such as torch.",
        )
    if model.activation not in ACTIVATIONS:
        raise UnknownNameError("activation", str(model.activation), ACTIVATIONS)
    given = {name: np.asarray(getattr(model, name)) for name in PARAMETERS}
    _check_shapes({name: weights.shape for name, weights in given.items()})
    own = np.result_type(*given.values())
    if own.kind not in "fiu" or (dtype is None and str(own) not in DTYPES):
        raise ProblemError(
            f"the weights are {own}; expected {' or '.join(DTYPES)}",
            hint="Convert them with dtype='float32' or dtype='float64'.",
        )
    for name, weights in given.items():
        check_finite_weights(name, int(np.sum(~np.isfinite(weights))), weights.size)
    return TwoLayer(**given, activation=model.activation).astype(own if dtype is None else _dtype(dtype))


def _check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    if len(shapes["W1"]) == 2 and len(shapes["W2"]) == 2:
        (h, d), (c, _) = shapes["W1"], shapes["W2"]
        consistent = {"W1": (h, d), "b1": (h,), "W2": (c, h), "b2": (c,)}
        if shapes == consistent and h and d and c:
            return
    given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ProblemError(
        f"the shapes of the weights are inconsistent: {given}; expected (h, d), (h,), (c, h) and (c,)"
    )


def _dtype(name: str) -> np.dtype[Any]:
    check_dtype(str(name))
    return np.dtype(name)
