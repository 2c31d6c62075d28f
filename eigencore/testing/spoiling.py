"""How a right backend is spoilt: a bound problem like the one that it bound, but for one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from eigencore.interfaces import Backend, Bound, Classifier, LinearOperator, Objective, Problem
from eigencore.problems import bind
from eigencore.space import Array

T = TypeVar("T")
Spoil = Callable[[Bound], Bound]


@dataclass(frozen=True)
class Specimen:
    """What spoils a bound problem, the law that catches it, and a precision in which it does."""

    spoil: Spoil
    caught_by: str
    dtype: str = "float64"

    def __str__(self) -> str:
        return self.spoil.__name__

    @property
    def backend(self) -> Backend:
        """The problem's own backend, spoilt."""

        def backend(
            problem: Problem, options: Any, *, device: str | None = None, dtype: str | None = None
        ) -> Bound:
            return self.spoil(bind(problem, device=device, dtype=dtype))

        return backend


def like(right: T, **instead: Any) -> T:
    """The same, but for what is given."""
    own = {name: getattr(right, name) for name in dir(right) if not name.startswith("_")}
    return cast(T, SimpleNamespace(**(own | instead)))


def of_products(change: Callable[[LinearOperator, Array], Array]) -> Spoil:
    """Each product is changed."""

    def spoil(bound: Bound) -> Bound:
        def operator(kind: str = "hessian", params: str | None = None) -> Any:
            return multiplying(bound.operator(kind, params), change)

        return like(bound, operator=operator)

    spoil.__name__ = change.__name__
    return spoil


def multiplying(A: LinearOperator, change: Callable[[LinearOperator, Array], Array]) -> Any:
    def matvec(v: Array) -> Array:
        return change(A, A.matvec(v))

    def matmat(V: Array) -> Array:
        return A.xp.stack([matvec(V[:, i]) for i in range(V.shape[1])], axis=1)

    return like(A, matvec=matvec, matmat=matmat)


def of_classifiers(change: Callable[[Classifier], Any]) -> Spoil:
    """Each classifier is changed."""

    def spoil(bound: Bound) -> Bound:
        return like(bound, classifier=lambda dtype=None: change(bound.classifier(dtype)))

    spoil.__name__ = change.__name__
    return spoil


def of_input_products(change: Callable[[Classifier, Array, Array], Array]) -> Spoil:
    """Each map's products are changed: change(classifier, v, product)."""

    def changed(classifier: Classifier) -> Any:
        def input_products(objective: Objective, x: Array, y: Array) -> Callable[[Array], Array]:
            product = classifier.input_products(objective, x, y)
            return lambda v: change(classifier, v, product(v))

        return like(classifier, input_products=input_products)

    changed.__name__ = change.__name__
    return of_classifiers(changed)


def of_curvatures(change: Callable[[Array, str | None], Array]) -> Spoil:
    def spoil(bound: Bound) -> Bound:
        def sample_curvature(
            objective: Objective, direction: Array, x: Array, y: Array, params: str | None = None
        ) -> Array:
            return change(bound.sample_curvature(objective, direction, x, y, params), params)

        return like(bound, sample_curvature=sample_curvature)

    spoil.__name__ = change.__name__
    return spoil


def of_gradients(change: Callable[[Array, Array], tuple[Array, Array]]) -> Spoil:
    """Values and gradients are changed."""

    def changed(classifier: Classifier) -> Any:
        def value_and_grad(objective: Objective, x: Array, y: Array) -> tuple[Array, Array]:
            return change(*classifier.value_and_grad(objective, x, y))

        return like(classifier, value_and_grad=value_and_grad)

    changed.__name__ = change.__name__
    return of_classifiers(changed)
