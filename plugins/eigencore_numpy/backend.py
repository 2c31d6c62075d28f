"""A problem on NumPy: a two-layer network, its data and an objective, looked over."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Objective, Parameter, Problem
from eigencore_numpy.classifier import TwoLayerClassifier
from eigencore_numpy.data import Samples, gather, labelled
from eigencore_numpy.hessian import HessianOperator
from eigencore_numpy.layout import select
from eigencore_numpy.network import ACTIVATIONS, PARAMETERS, Numbers, Pass, TwoLayer

KINDS = ("hessian",)
DTYPES = ("float32", "float64")


class NumpyBound:
    """A problem on NumPy. Weights and data are copies: what becomes of the originals doesn't reach it."""

    capabilities = frozenset(Capability)  # all there are

    def __init__(self, problem: Problem, network: TwoLayer):
        self._problem, self._network = problem, network
        self._loss: Objective = problem.loss
        self._data = gather(problem.data, network)

    @property
    def description(self) -> str:
        return f"numpy {'.'.join(np.__version__.split('.')[:2])} cpu {self._network.dtype}"

    def operator(self, kind: str = "hessian", params: str | None = None) -> HessianOperator:
        """The Hessian of the loss over all data, over the parameters that match the glob `params`.

        Raises:
            UnknownNameError: of a kind or parameter.
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of operator", kind, KINDS)
        layout = select(self._network, params)
        return HessianOperator(layout, self._loss, self._data, self._share)

    def classifier(self, dtype: str | None = None) -> TwoLayerClassifier:
        kind = self._network.dtype if dtype is None else _dtype(dtype)
        network, samples = self._network.astype(kind), self._samples.astype(kind)
        return TwoLayerClassifier(network, samples, self._problem.bounds)

    def loss(self, direction: Numbers | None = None, params: str | None = None) -> float:
        network = self._network
        if direction is not None:
            step = select(network, params).direction(direction)
            network = network.each(lambda name, weights: weights + getattr(step, name))
        values = self._loss.value(network.logits(self._data.x), self._data.y)
        return float(np.sum(self._share * values, dtype=np.float64))

    def sample_curvature(
        self, objective: Objective, direction: Numbers, x: Numbers, y: Numbers, params: str | None = None
    ) -> Numbers:
        v = select(self._network, params).direction(direction)
        return Pass(self._network, objective, *labelled(self._network, x, y)).weight_curvature(v)

    def layout(self, params: str | None = None) -> tuple[Parameter, ...]:
        return select(self._network, params).told()

    @property
    def _share(self) -> Numbers:
        """What each sample counts in the loss (N,)."""
        N = len(self._data.x)
        return np.full(N, 1 if self._problem.reduction == "sum" else 1 / N, self._network.dtype)

    @cached_property
    def _samples(self) -> Samples:
        if self._problem.validation is None:
            return self._data
        return gather(self._problem.validation, self._network, "validation")


def bind(
    problem: Problem, options: None = None, *, device: str | None = None, dtype: str | None = None
) -> NumpyBound:
    """The problem on NumPy: a TwoLayer, batches (x, y), and a loss with derivatives in logit space.

    The operator is that of the mean over all samples, or of their sum with reduction="sum".

    Args:
        device: "cpu", if anything.
        dtype: "float32" or "float64"; None: the weights' own.

    Raises:
        ProblemError: model, data or loss can't be used.
        UsageError: there is no such device, dtype or reduction.
    """
    if device not in (None, "cpu"):
        raise UsageError(f"device is {device!r}; the backend numpy works on the cpu", hint="Leave it out.")
    if problem.reduction not in ("infer", "mean", "sum"):
        raise UsageError(f"reduction is {problem.reduction!r}; expected 'infer', 'mean' or 'sum'")
    if problem.weight is not None:
        raise UsageError(
            "weight has no meaning for a loss that is a number for each sample", hint="Leave it out."
        )
    missing = [name for name in ("value", "grad", "hvp") if not callable(getattr(problem.loss, name, None))]
    if missing:
        raise ProblemError(
            f"the loss, a {type(problem.loss).__name__}, has no {', '.join(missing)}; expected an Objective",
            hint="Give eigencore.objectives.CrossEntropy(), or one of your own (eigencore.interfaces).",
        )
    return NumpyBound(problem, _placed(problem.model, dtype))


def _placed(model: Any, dtype: str | None) -> TwoLayer:
    """A copy of the model in the data type, looked over."""
    if not isinstance(model, TwoLayer):
        raise ProblemError(
            f"the model is a {type(model).__name__}; expected an eigencore_numpy.network.TwoLayer",
            hint="Other models need another backend, such as torch.",
        )
    if model.activation not in ACTIVATIONS:
        raise UnknownNameError("activation", str(model.activation), ACTIVATIONS)
    given = {name: np.asarray(getattr(model, name)) for name in PARAMETERS}
    _refuse_shapes({name: weights.shape for name, weights in given.items()})
    own = np.result_type(*given.values())
    if own.kind not in "fiu" or (dtype is None and str(own) not in DTYPES):
        raise ProblemError(f"the weights are {own}; expected {' or '.join(DTYPES)}", hint="Give dtype=...")
    for name, weights in given.items():
        if count := int(np.sum(~np.isfinite(weights))):
            raise ProblemError(
                f"{name} has {count} weights that are NaN or infinite",
                hint="Load weights from before the training diverged.",
            )
    return TwoLayer(**given, activation=model.activation).astype(own if dtype is None else _dtype(dtype))


def _refuse_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    if len(shapes["W1"]) == 2 and len(shapes["W2"]) == 2:
        (h, d), (c, _) = shapes["W1"], shapes["W2"]
        fit = {"W1": (h, d), "b1": (h,), "W2": (c, h), "b2": (c,)}
        if shapes == fit and h and d and c:
            return
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ProblemError(f"the weights don't fit together: {told}; expected (h, d), (h,), (c, h) and (c,)")


def _dtype(name: str) -> np.dtype[Any]:
    if str(name) not in DTYPES:
        raise UsageError(f"dtype is {name!r}; expected {' or '.join(DTYPES)}")
    return np.dtype(name)
