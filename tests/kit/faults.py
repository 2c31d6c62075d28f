"""Faults for backends: each turns a correct bound problem into one that differs in a single respect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from eigencore.errors import UsageError
from eigencore.interfaces import Backend, Bound, Classifier, LinearOperator, Objective, Params, Problem
from eigencore.problems import bind
from eigencore.space import Array

T = TypeVar("T")
Fault = Callable[[Bound], Bound]


@dataclass(frozen=True)
class BackendSpecimen:
    """A fault, the law that detects it, and a precision in which it is detected."""

    fault: Fault
    caught_by: str
    dtype: str = "float64"

    def __str__(self) -> str:
        return self.fault.__name__

    @property
    def backend(self) -> Backend:
        """The backend of the problem itself, with the fault."""

        def backend(
            problem: Problem, options: Any, *, device: str | None = None, dtype: str | None = None
        ) -> Bound:
            return self.fault(bind(problem, device=device, dtype=dtype))

        return backend


def with_attributes(original: T, **changed: Any) -> T:
    """An object with the public attributes of another one, read when they are used; some are replaced."""
    names = [name for name in dir(original) if not name.startswith("_") and name not in changed]
    lazy = {name: property(_reading(original, name)) for name in names}
    kind = type(type(original).__name__, (SimpleNamespace,), lazy)
    return cast(T, kind(**changed))


def _reading(original: object, name: str) -> Callable[[object], Any]:
    return lambda self: getattr(original, name)


def float32_only(bound: Bound) -> Bound:
    """A correct bound problem in float32 without float64, which is refused."""

    def refuse(dtype: str | None) -> None:
        if dtype == "float64":
            raise UsageError("this backend has no float64")

    refuse(str(bound.classifier().dtype).rpartition(".")[2])

    def classifier(dtype: str | None = None, **moved: Any) -> Classifier:
        refuse(dtype)
        return bound.classifier(dtype, **moved)

    def sample_curvature(
        objective: Objective,
        direction: Array,
        x: Array,
        y: Array,
        params: str | None = None,
        dtype: str | None = None,
    ) -> Array:
        refuse(dtype)
        return bound.sample_curvature(objective, direction, x, y, params, dtype)

    return with_attributes(
        bound, precisions=("float32",), classifier=classifier, sample_curvature=sample_curvature
    )


def fault_in_products(change: Callable[[LinearOperator, Array], Array]) -> Fault:
    """Changes each product of the operator: change(operator, product)."""

    def fault(bound: Bound) -> Bound:
        def operator(kind: str = "hessian", params: Params = None) -> Any:
            return with_changed_products(bound.operator(kind, params), change)

        return with_attributes(bound, operator=operator)

    fault.__name__ = change.__name__
    return fault


def with_changed_products(A: LinearOperator, change: Callable[[LinearOperator, Array], Array]) -> Any:
    """A copy of an operator in which each product is changed."""

    def matvec(v: Array) -> Array:
        return change(A, A.matvec(v))

    def matmat(V: Array) -> Array:
        return A.xp.stack([matvec(V[:, i]) for i in range(V.shape[1])], axis=1)

    return with_attributes(A, matvec=matvec, matmat=matmat)


def fault_in_classifier(change: Callable[[Classifier], Any]) -> Fault:
    """Changes the classifier in every precision."""

    def fault(bound: Bound) -> Bound:
        def classifier(dtype: str | None = None, **moved: Any) -> Any:
            return change(bound.classifier(dtype, **moved))

        return with_attributes(bound, classifier=classifier)

    fault.__name__ = change.__name__
    return fault


def fault_in_input_products(change: Callable[[Classifier, Array, Array], Array]) -> Fault:
    """Changes the products of each map over the inputs: change(classifier, v, product)."""

    def changed(classifier: Classifier) -> Any:
        def input_products(objective: Objective, x: Array, y: Array) -> Callable[[Array], Array]:
            product = classifier.input_products(objective, x, y)
            return lambda v: change(classifier, v, product(v))

        return with_attributes(classifier, input_products=input_products)

    changed.__name__ = change.__name__
    return fault_in_classifier(changed)


def fault_in_curvatures(change: Callable[[Array, Params], Array]) -> Fault:
    """Changes the curvatures of the samples: change(curvature, params)."""

    def fault(bound: Bound) -> Bound:
        def sample_curvature(
            objective: Objective,
            direction: Array,
            x: Array,
            y: Array,
            params: Params = None,
            dtype: str | None = None,
        ) -> Array:
            return change(bound.sample_curvature(objective, direction, x, y, params, dtype), params)

        return with_attributes(bound, sample_curvature=sample_curvature)

    fault.__name__ = change.__name__
    return fault


def fault_in_gradients(change: Callable[[Array, Array], tuple[Array, Array]]) -> Fault:
    """Changes the values and gradients of the classifier: change(value, gradient)."""

    def changed(classifier: Classifier) -> Any:
        def value_and_grad(objective: Objective, x: Array, y: Array) -> tuple[Array, Array]:
            return change(*classifier.value_and_grad(objective, x, y))

        return with_attributes(classifier, value_and_grad=value_and_grad)

    changed.__name__ = change.__name__
    return fault_in_classifier(changed)
