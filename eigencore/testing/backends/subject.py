"""The backend under test: a problem, or one of its samples, bound in its own precision or in float64."""

from __future__ import annotations

import math
import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.entries import DEFAULT_KIND, Capability, KindEntry
from eigencore.interfaces import Backend, Bound, Classifier, LinearOperator, Objective, Problem
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore.problems import backend_of, bind
from eigencore.problems.contained_arrays import arrays_in
from eigencore.problems.sharing import DTYPES
from eigencore.registry import registry
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.space import Floats, Space

ROWS = 6  # samples that a law about samples examines


@dataclass(frozen=True)
class BackendSubject:
    """A problem bound on a backend. `bound` and the properties after it are computed once for all checks."""

    backend: str | Backend | None
    problem: Problem
    device: str | None = None
    dtype: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    wrong_loss: Any = None
    kind: str = DEFAULT_KIND
    given_entry: KindEntry | None = None

    @property
    def where(self) -> str:
        kind = "" if self.kind == DEFAULT_KIND else f"{self.kind}-"
        return kind + self.bound.description.replace(" ", "-")

    @cached_property
    def kind_entry(self) -> KindEntry:
        """The entry of the kind; for an unregistered backend without one, that of a kind over the weights."""
        if self.given_entry is not None:
            return self.given_entry
        if self.backend is None or isinstance(self.backend, str):
            entry = backend_of(self.problem, self.backend)
            assert entry is not None, "a problem that is an operator is refused before"
            return registry().find_kind(entry.name, self.kind)
        return KindEntry(backend="", name=self.kind, summary="", load="")

    def bind(self, *, dtype: str | None = None, **changed: Any) -> Bound:
        """Binds the problem again, with other fields of the problem or in another precision."""
        problem, dtype = replace(self.problem, **changed), dtype or self.dtype
        if self.backend is None or isinstance(self.backend, str):
            return bind(problem, backend=self.backend, device=self.device, dtype=dtype, **self.options)
        return self.backend(problem, SimpleNamespace(**self.options), device=self.device, dtype=dtype)

    @cached_property
    def bound(self) -> Bound:
        return self.bind()

    @cached_property
    def exact(self) -> Bound:
        """The problem bound in float64, where finite differences have enough digits, if it is available."""
        return self.bind(dtype=self.exact_dtype)

    @property
    def exact_dtype(self) -> str | None:
        """The precision of `exact`: float64 if it is available, else None, the problem's own precision."""
        return "float64" if "float64" in self.bound.precisions else None

    @property
    def weights_dtype(self) -> str | None:
        """The one of DTYPES that all weights have; None if they have other types, or can't be read."""
        if self.problem.checkpoint is not None:
            return None
        found = {_name(x.dtype) for _, x in arrays_in(self.problem.model, "model") if _is_real(x)}
        return found.pop() if len(found) == 1 and found <= set(DTYPES) else None

    @cached_property
    def operator(self) -> LinearOperator:
        return self.bound.operator(self.kind)

    def numbers(self, bound: Bound) -> dict[str, Floats]:
        """One result of each sort that a bound problem offers, on the host, for the same arguments."""
        return _numbers(bound, bound.operator(self.kind), self.kind_entry.over_weights)

    @cached_property
    def classifier(self) -> Classifier:
        return self.bound.classifier()

    def samples(self, classifier: Classifier | None = None) -> tuple[Array, Array]:
        """The first ROWS samples and their labels."""
        return (classifier or self.classifier).samples(ROWS)

    def offers(self, *capabilities: Capability) -> bool:
        return set(capabilities) <= self.bound.capabilities

    def objectives(self) -> tuple[Objective, ...]:
        return objectives_of(self.classifier)


def objectives_of(classifier: Classifier) -> tuple[Objective, ...]:
    """The objectives that are defined for its logits: DLR needs three classes."""
    return (CrossEntropy(), Margin(), *([DLR()] if classifier.classes >= 3 else []))


def direction(operator: LinearOperator, seed: int) -> Array:
    """A random vector (n,) of norm 1."""
    v = arrays.random_normal(np.random.default_rng(seed), (operator.shape[0],), operator)
    return v / arrays.norm(v)


def rows_like(x: Array, space: Space, seed: int) -> Array:
    """Random normal numbers in the shape of x."""
    return arrays.random_normal(np.random.default_rng(seed), tuple(x.shape), space)


def loss_in_logits(bound: Bound) -> tuple[Objective, float]:
    """The objective whose mean or sum over the samples is the loss of a bound problem, and 1/N or 1.

    Raises:
        unittest.SkipTest: the loss is not the mean or sum of an objective of eigencore.objectives.
    """
    classifier, loss = bound.classifier(), bound.loss()
    x, y = classifier.samples()
    logits = classifier.logits(x)
    for objective in objectives_of(classifier):
        total = float(np.sum(arrays.to_host(objective.value(logits, y))))
        for scale in (1 / y.shape[0], 1.0):
            if math.isclose(loss, scale * total, rel_tol=1e3 * arrays.eps(classifier)):
                return objective, scale
    raise unittest.SkipTest(
        "the loss of the problem is not the mean or sum of an objective of eigencore.objectives"
    )


def _numbers(bound: Bound, operator: LinearOperator, over_weights: bool) -> dict[str, Floats]:
    calls: dict[str, Callable[[], Array | float]] = {}
    offered = bound.capabilities if over_weights else bound.capabilities - {Capability.WEIGHT_LOSS}
    v = direction(operator, 1)
    calls["product"] = lambda: operator.matvec(v)
    if Capability.WEIGHT_LOSS in offered:
        calls["loss"] = lambda: bound.loss(v)
    if Capability.LOGITS in offered:
        classifier = bound.classifier()
        x, y = classifier.samples(ROWS)
        calls["logits"] = lambda: classifier.logits(x)
        if Capability.INPUT_GRADIENT in offered:
            calls["input gradient"] = lambda: classifier.value_and_grad(CrossEntropy(), x, y)[1]
        if Capability.INPUT_PRODUCTS in offered:
            u = rows_like(x, classifier, 2)
            calls["input product"] = lambda: classifier.input_products(CrossEntropy(), x, y)(u)
        if Capability.WEIGHT_LOSS in offered:
            calls["sample curvature"] = lambda: bound.sample_curvature(CrossEntropy(), v, x, y)
    return {name: _on_host(call()) for name, call in calls.items()}


def _is_real(x: Array) -> bool:
    return bool(arrays.namespace(x).isdtype(x.dtype, "real floating"))


def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def _on_host(x: Array | float) -> Floats:
    return np.array(x) if isinstance(x, float) else arrays.to_host(x)
