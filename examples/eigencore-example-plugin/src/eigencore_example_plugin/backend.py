"""The backend `softmax`: binds a softmax regression to its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from eigencore.entries import Capability
from eigencore.errors import CapabilityError, ProblemError
from eigencore.interfaces import LinearOperator, Objective, Parameter, Params, Problem
from eigencore.operators import FunctionOperator
from eigencore.problems.sharing import (
    DTYPES,
    bounds_of_rows,
    check_cpu,
    check_dtype,
    check_objective,
    operator_of_kind,
)

from eigencore_example_plugin.softmax import Numbers, SoftmaxLayout, SoftmaxRegression, layout

Samples = tuple[Numbers, Numbers]


def bind(
    problem: Problem, options: None = None, *, device: str | None = None, dtype: str | None = None
) -> SoftmaxBound:
    """Binds a problem whose model is a SoftmaxRegression.

    Args:
        problem: the model, batches (x, y), and an `eigencore.interfaces.Objective` as the loss.
        device: "cpu" or None.
        dtype: "float32" or "float64"; None keeps the data type of the weights.

    Raises:
        ProblemError: the model, data or loss is not valid.
        UsageError: the device or data type is not available.
    """
    model = problem.model
    if not isinstance(model, SoftmaxRegression):
        raise ProblemError(f"the model is a {type(model).__name__}; expected a SoftmaxRegression")
    if model.W.ndim != 2 or model.b.shape != model.W.shape[:1]:
        raise ProblemError(
            f"the shapes of the weights are inconsistent: W {model.W.shape} and b {model.b.shape}; "
            "expected (c, d) and (c,)"
        )
    check_objective(problem.loss)
    if problem.weight is not None or problem.reduction not in ("infer", "mean", "sum"):
        raise ProblemError("the backend softmax supports only the mean over all samples, or reduction='sum'")
    check_cpu(device, "softmax")
    dtype = dtype or str(model.W.dtype)
    check_dtype(dtype)
    return SoftmaxBound(problem, model.astype(dtype))


class SoftmaxBound:
    """A bound problem with every capability except minibatches; see `eigencore.interfaces.Bound`."""

    capabilities = frozenset(Capability) - {Capability.MINIBATCHES}
    precisions = DTYPES

    def __init__(self, problem: Problem, model: SoftmaxRegression):
        self._problem, self._model = problem, model
        self._objective: Objective = problem.loss
        self._x, self._y = gather(problem.data, model)
        self._sample_weight = 1.0 if problem.reduction == "sum" else 1 / len(self._y)

    @property
    def description(self) -> str:
        """The library with its version, the device and the data type."""
        return f"numpy {np.__version__} cpu {self._model.W.dtype}"

    def operator(self, kind: str = "hessian", params: Params = None, **options: Any) -> LinearOperator:
        """The operator of a kind that is registered for this backend, over the selected parameters."""
        return operator_of_kind(self, "softmax", kind, params, self.select, options)

    def select(self, params: Params = None) -> SoftmaxLayout:
        """The parameters that match `params`."""
        return layout(self._model, params)

    def hessian(self, selected: SoftmaxLayout) -> FunctionOperator:
        """The Hessian of the loss over all data, with respect to the selected parameters."""
        logits = self._model.logits(self._x)

        def product(v: Numbers) -> Numbers:
            change = selected.unflatten(v).logits(self._x)
            g = self._objective.hvp(logits, self._y, change) * self._sample_weight
            return selected.flatten(SoftmaxRegression(g.T @ self._x, g.sum(axis=0)))

        return FunctionOperator(product, selected.n, xp=xp, dtype=self._model.W.dtype, device="cpu")

    def loss(self, direction: Numbers | None = None, params: Params = None) -> float:
        """The loss over all data, at the weights plus `direction` (n,) if that is given."""
        model = self._model
        if direction is not None:
            model = model.plus(layout(model, params).unflatten(direction))
        values = self._objective.value(model.logits(self._x), self._y)
        return self._sample_weight * float(np.sum(values, dtype=np.float64))

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> Numbers:
        """The gradient (n,) of the loss over all data; there are no minibatches."""
        if minibatch is not None:
            raise CapabilityError("the backend softmax offers no minibatches")
        g = self._sample_weight * self._objective.grad(self._model.logits(self._x), self._y)
        return layout(self._model, params).flatten(SoftmaxRegression(g.T @ self._x, g.sum(axis=0)))

    def sample_curvature(
        self,
        objective: Objective,
        direction: Numbers,
        x: Numbers,
        y: Numbers,
        params: Params = None,
        dtype: str | None = None,
    ) -> Numbers:
        """v' H_s v (b,) of each sample's objective over the weights, along the direction v (n,)."""
        model = self._model.astype(dtype or self._model.W.dtype)
        x = x.astype(model.W.dtype)
        change = layout(model, params).unflatten(direction).astype(model.W.dtype).logits(x)
        return np.asarray(np.sum(change * objective.hvp(model.logits(x), y, change), axis=1))

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """The name, position and norm of each parameter that matches `params`."""
        return layout(self._model, params).parameters

    def classifier(
        self, dtype: str | None = None, *, direction: Numbers | None = None, params: Params = None
    ) -> SoftmaxClassifier:
        """The model at the weights, or plus `direction` (n,), as a classifier of the validation data or data."""
        model = self._model.astype(dtype or self._model.W.dtype)
        if direction is not None:
            model = model.plus(layout(model, params).unflatten(direction)).astype(model.W.dtype)
        data = self._problem.data if self._problem.validation is None else self._problem.validation
        return SoftmaxClassifier(model, gather(data, model), self._problem.bounds)


def hessian(bound: SoftmaxBound, selected: SoftmaxLayout, options: None) -> LinearOperator:
    """The kind `hessian`; see `eigencore.interfaces.Kind`."""
    return bound.hessian(selected)


class SoftmaxClassifier:
    """The model as a classifier; see `eigencore.interfaces.Classifier`."""

    xp, device = xp, "cpu"

    def __init__(self, model: SoftmaxRegression, samples: Samples, bounds: Any):
        self._model, self._samples = model, samples
        self.dtype, (self.classes, d) = model.W.dtype, model.W.shape
        self.shape, self.channel_axis = (d,), None
        self.bounds = bounds_of_rows(bounds, self.shape, self)

    def samples(self, most: int | None = None) -> Samples:
        """The first `most` samples, or all of them: inputs (N, d) and labels (N,)."""
        x, y = self._samples
        return x[:most].copy(), y[:most].copy()

    def logits(self, x: Numbers, /) -> Numbers:
        """The logits (b, c) for inputs (b, d)."""
        return self._model.logits(x)

    def value_and_grad(self, objective: Objective, x: Numbers, y: Numbers, /) -> tuple[Numbers, Numbers]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""
        logits = self.logits(x)
        return objective.value(logits, y), objective.grad(logits, y) @ self._model.W

    def input_products(self, objective: Objective, x: Numbers, y: Numbers, /) -> Callable[[Numbers], Numbers]:
        """A function from rows v (b, d) to each sample's Hessian over its input, times its row of v."""
        logits, W = self.logits(x), self._model.W
        return lambda v: objective.hvp(logits, y, v @ W.T) @ W


def gather(data: Iterable[Any], model: SoftmaxRegression) -> Samples:
    """The samples of all batches (x, y): inputs (N, d) in the model's data type, and labels (N,).

    Raises:
        ProblemError: there are no batches, or a batch does not consist of inputs and labels that fit the model.
    """
    classes, d = model.W.shape
    xs, ys = [], []
    for index, batch in enumerate(data):
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise ProblemError(f"batch {index} is a {type(batch).__name__}; expected a pair (x, y)")
        x, y = np.asarray(batch[0], dtype=model.W.dtype), np.asarray(batch[1])
        if x.ndim != 2 or x.shape[1] != d:
            raise ProblemError(f"the inputs of batch {index} have shape {x.shape}; expected (b, {d})")
        if y.shape != x.shape[:1] or not np.all(np.isin(y, np.arange(classes))):
            raise ProblemError(
                f"the labels of batch {index} are not {len(x)} integers from 0 to {classes - 1}"
            )
        xs.append(x)
        ys.append(y.astype(np.int64))
    if not xs:
        raise ProblemError("the data are empty", hint="Give a list of batches (x, y).")
    return np.concatenate(xs), np.concatenate(ys)
