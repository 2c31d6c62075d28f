"""The backend under test: a problem bound on it, whole or for one sample, in its own precision or float64."""

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
from eigencore.entries import Capability
from eigencore.interfaces import Backend, Bound, Classifier, LinearOperator, Objective, Problem
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore.problems import bind
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.space import Floats, Space

ROWS = 6  # samples that a law of samples looks at


@dataclass(frozen=True)
class BoundSubject:
    """A problem, and how it is bound: `bound` and what is made of it are made once, for all checks."""

    problem: Problem
    backend: str | Backend | None = None
    device: str | None = None
    dtype: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, *, dtype: str | None = None, **changed: Any) -> Bound:
        """Anew, with other fields of the problem, or in another precision."""
        problem, dtype = replace(self.problem, **changed), dtype or self.dtype
        if self.backend is None or isinstance(self.backend, str):
            return bind(problem, backend=self.backend, device=self.device, dtype=dtype, **self.options)
        return self.backend(problem, SimpleNamespace(**self.options), device=self.device, dtype=dtype)

    @cached_property
    def bound(self) -> Bound:
        return self.bind()

    @cached_property
    def exact(self) -> Bound:
        """In float64, where finite differences have digits to show."""
        return self.bind(dtype="float64")

    @cached_property
    def operator(self) -> LinearOperator:
        return self.bound.operator()

    @cached_property
    def classifier(self) -> Classifier:
        return self.bound.classifier()

    def samples(self, classifier: Classifier | None = None) -> tuple[Array, Array]:
        return (classifier or self.classifier).samples(ROWS)

    def offers(self, *capabilities: Capability) -> bool:
        return set(capabilities) <= self.bound.capabilities

    def objectives(self) -> tuple[Objective, ...]:
        return objectives_of(self.classifier)


def objectives_of(classifier: Classifier) -> tuple[Objective, ...]:
    """Those that can be asked of its logits: DLR takes three classes."""
    return (CrossEntropy(), Margin(), *([DLR()] if classifier.classes >= 3 else []))


def direction(operator: LinearOperator, seed: int) -> Array:
    """A random vector (n,) of norm 1."""
    v = arrays.random_normal(np.random.default_rng(seed), (operator.shape[0],), operator)
    return v / arrays.norm(v)


def rows_like(x: Array, space: Space, seed: int) -> Array:
    return arrays.random_normal(np.random.default_rng(seed), tuple(x.shape), space)


def loss_in_logits(bound: Bound) -> tuple[Objective, float]:
    """The objective that a bound problem's loss is the mean or sum of over its samples; and 1/N, or 1.

    Raises:
        unittest.SkipTest: it is none that is known here.
    """
    classifier, loss = bound.classifier(), bound.loss()
    x, y = classifier.samples()
    logits = classifier.logits(x)
    for objective in objectives_of(classifier):
        total = float(np.sum(arrays.to_host(objective.value(logits, y))))
        for scale in (1 / y.shape[0], 1.0):
            if math.isclose(loss, scale * total, rel_tol=1e3 * arrays.eps(classifier)):
                return objective, scale
    raise unittest.SkipTest("the problem's loss is no mean or sum of an objective of eigencore.objectives")


def numbers(bound: Bound) -> dict[str, Floats]:
    """One of each thing that a bound problem offers, on the host; the same questions at every call."""
    told: dict[str, Callable[[], Array | float]] = {}
    offered, operator = bound.capabilities, bound.operator()
    v = direction(operator, 1)
    told["product"] = lambda: operator.matvec(v)
    if Capability.WEIGHT_LOSS in offered:
        told["loss"] = lambda: bound.loss(v)
    if Capability.LOGITS in offered:
        classifier = bound.classifier()
        x, y = classifier.samples(ROWS)
        told["logits"] = lambda: classifier.logits(x)
        if Capability.INPUT_GRADIENT in offered:
            told["input gradient"] = lambda: classifier.value_and_grad(CrossEntropy(), x, y)[1]
        if Capability.INPUT_PRODUCTS in offered:
            u = rows_like(x, classifier, 2)
            told["input product"] = lambda: classifier.input_products(CrossEntropy(), x, y)(u)
        if Capability.WEIGHT_LOSS in offered:
            told["sample curvature"] = lambda: bound.sample_curvature(CrossEntropy(), v, x, y)
    return {name: on_host(ask()) for name, ask in told.items()}


def on_host(x: Array | float) -> Floats:
    return np.array(x) if isinstance(x, float) else arrays.to_host(x)
