"""The backend `softmax`: a softmax regression bound to its data, over its weights and over its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from eigencore.entries import Capability
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Objective, Parameter, Problem
from eigencore.operators import FunctionOperator

from eigencore_example_plugin.softmax import Numbers, SoftmaxRegression, layout

Samples = tuple[Numbers, Numbers]


def bind(
    problem: Problem, options: None = None, *, device: str | None = None, dtype: str | None = None
) -> SoftmaxBound:
    """The problem on this backend: a SoftmaxRegression, batches (x, y), and an Objective as its loss.

    Raises:
        ProblemError: model, data or loss can't be used.
        UsageError: there is no such device or dtype.
    """
    model = problem.model
    if not isinstance(model, SoftmaxRegression):
        raise ProblemError(f"the model is a {type(model).__name__}; expected a SoftmaxRegression")
    if model.W.ndim != 2 or model.b.shape != model.W.shape[:1]:
        raise ProblemError(f"W {model.W.shape} and b {model.b.shape}; expected (c, d) and (c,)")
    if not all(hasattr(problem.loss, name) for name in ("value", "grad", "hvp")):
        raise ProblemError(
            f"the loss is a {type(problem.loss).__name__}; expected an Objective",
            hint="Give eigencore.objectives.CrossEntropy().",
        )
    if problem.weight is not None or problem.reduction not in ("infer", "mean", "sum"):
        raise ProblemError("the backend softmax takes the loss's mean over all samples, or reduction='sum'")
    if device not in (None, "cpu"):
        raise UsageError(f"device is {device!r}; the backend softmax works on the cpu")
    dtype = dtype or str(model.W.dtype)
    if dtype not in ("float32", "float64"):
        raise UsageError(f"dtype is {dtype!r}; expected float32 or float64")
    return SoftmaxBound(problem, model.astype(dtype))


class SoftmaxBound:
    """All that a bound problem can offer but minibatches; see `eigencore.interfaces.Bound`."""

    capabilities = frozenset(Capability) - {Capability.MINIBATCHES}

    def __init__(self, problem: Problem, model: SoftmaxRegression):
        self._problem, self._model = problem, model
        self._objective: Objective = problem.loss
        self._x, self._y = gather(problem.data, model)
        self._share = 1.0 if problem.reduction == "sum" else 1 / len(self._y)

    @property
    def description(self) -> str:
        return f"numpy {np.__version__} cpu {self._model.W.dtype}"

    def operator(self, kind: str = "hessian", params: str | None = None) -> FunctionOperator:
        if kind != "hessian":
            raise UnknownNameError("kind of operator", kind, ("hessian",))
        chosen, logits = layout(self._model, params), self._model.logits(self._x)

        def product(v: Numbers) -> Numbers:
            change = self._objective.hvp(logits, self._y, chosen.step(v).logits(self._x)) * self._share
            return chosen.flat(SoftmaxRegression(change.T @ self._x, change.sum(axis=0)))

        return FunctionOperator(product, chosen.n, xp=xp, dtype=self._model.W.dtype, device="cpu")

    def loss(self, direction: Numbers | None = None, params: str | None = None) -> float:
        model = self._model
        if direction is not None:
            model = model.plus(layout(model, params).step(direction))
        values = self._objective.value(model.logits(self._x), self._y)
        return self._share * float(np.sum(values, dtype=np.float64))

    def sample_curvature(
        self, objective: Objective, direction: Numbers, x: Numbers, y: Numbers, params: str | None = None
    ) -> Numbers:
        change = layout(self._model, params).step(direction).logits(x)
        return np.asarray(np.sum(change * objective.hvp(self._model.logits(x), y, change), axis=1))

    def layout(self, params: str | None = None) -> tuple[Parameter, ...]:
        return layout(self._model, params).parameters

    def classifier(self, dtype: str | None = None) -> SoftmaxClassifier:
        model = self._model.astype(dtype or self._model.W.dtype)
        data = self._problem.data if self._problem.validation is None else self._problem.validation
        return SoftmaxClassifier(model, gather(data, model), self._problem.bounds)


class SoftmaxClassifier:
    """See `eigencore.interfaces.Classifier`."""

    xp, device = xp, "cpu"

    def __init__(self, model: SoftmaxRegression, samples: Samples, bounds: tuple[float, float] | None):
        self._model, self._samples, self.bounds = model, samples, bounds
        self.dtype, (self.classes, d) = model.W.dtype, model.W.shape
        self.shape = (d,)

    def samples(self, most: int | None = None) -> Samples:
        x, y = self._samples
        return x[:most].copy(), y[:most].copy()

    def logits(self, x: Numbers, /) -> Numbers:
        return self._model.logits(x)

    def value_and_grad(self, objective: Objective, x: Numbers, y: Numbers, /) -> tuple[Numbers, Numbers]:
        logits = self.logits(x)
        return objective.value(logits, y), objective.grad(logits, y) @ self._model.W

    def input_products(self, objective: Objective, x: Numbers, y: Numbers, /) -> Callable[[Numbers], Numbers]:
        logits, W = self.logits(x), self._model.W
        return lambda v: objective.hvp(logits, y, v @ W.T) @ W


def gather(data: Iterable[Any], model: SoftmaxRegression) -> Samples:
    """The samples of all batches (x, y), as rows in the model's data type and labels.

    Raises:
        ProblemError: a batch is not of inputs and labels that fit the model.
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
                f"the labels of batch {index} are not {len(x)} numbers from 0 to {classes - 1}"
            )
        xs.append(x)
        ys.append(y.astype(np.int64))
    if not xs:
        raise ProblemError("the data are empty", hint="Give a list of batches (x, y).")
    return np.concatenate(xs), np.concatenate(ys)
