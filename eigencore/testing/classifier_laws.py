"""What must hold of a bound problem's classifier: each law is a function, and raises where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.interfaces import Classifier, Objective
from eigencore.objectives import CrossEntropy
from eigencore.space import Array
from eigencore.testing.bound_laws import ROUNDING, same, well_formed
from eigencore.testing.bound_subject import BoundSubject, direction, rows_like
from eigencore.testing.differences import is_first_derivative, seen
from eigencore.testing.laws import demand

if TYPE_CHECKING:
    from eigencore.space import Floats

PAIRS = 3  # of random directions, for a law of products


# -- samples and logits ------------------------------------------------------------------------------------


def samples_are_well_formed(subject: BoundSubject) -> None:
    """Inputs are rows within the bounds, labels whole numbers below the number of classes."""
    classifier = subject.classifier
    x, y = classifier.samples()
    N, d = y.shape[0], int(np.prod(classifier.shape))
    demand(N >= 1, "there are no samples")
    well_formed(x, (N, d), classifier, "samples")
    demand(classifier.xp.isdtype(y.dtype, "integral"), f"labels are {y.dtype}; expected integers")
    low, high = int(classifier.xp.min(y)), int(classifier.xp.max(y))
    demand(low >= 0 and high < classifier.classes, f"labels {low} to {high} of {classifier.classes} classes")
    demand(classifier.bounds == subject.problem.bounds, f"bounds are {classifier.bounds}")
    if classifier.bounds is not None:
        (low_x, high_x), slack = classifier.bounds, arrays.eps(classifier) * max(map(abs, classifier.bounds))
        least, most = float(classifier.xp.min(x)), float(classifier.xp.max(x))
        within = low_x - slack <= least and most <= high_x + slack
        demand(within, f"samples from {least} to {most}; the bounds are {classifier.bounds}")


def few_samples_are_the_first(subject: BoundSubject) -> None:
    x, y = (arrays.to_host(part) for part in subject.classifier.samples())
    for most in sorted({1, min(3, len(y)), len(y), len(y) + 5}):
        few, labels = (arrays.to_host(part) for part in subject.classifier.samples(most))
        demand(len(few) == min(most, len(x)), f"{len(few)} samples where {most} were asked for")
        demand(np.array_equal(few, x[:most]), f"samples({most}) are not the first of all")
        demand(np.array_equal(labels, y[:most]), f"labels of samples({most}) are not the first of all")


def logits_are_well_formed(subject: BoundSubject) -> None:
    classifier = subject.classifier
    x, _ = subject.samples()
    shape = (x.shape[0], classifier.classes)
    well_formed(classifier.logits(x), shape, classifier, "logits")


def rows_are_independent(subject: BoundSubject) -> None:
    """A sample alone, among some, or in another order has the same logits, gradient, product, curvature."""
    x, y = subject.samples()
    v = rows_like(x, subject.classifier, 40)
    for name, ask in _by_row(subject, direction(subject.operator, 41)).items():
        whole = arrays.to_host(ask(x, y, v))
        for chosen in ([0], list(range(x.shape[0]))[::-1], [x.shape[0] - 1, 0]):
            some = (_rows(part, chosen, subject.classifier) for part in (x, y, v))
            told = arrays.to_host(ask(*some))
            same(
                told, whole[chosen], arrays.eps(subject.classifier), f"{name} of rows {chosen} and among all"
            )


def _by_row(subject: BoundSubject, along: Array) -> dict[str, Callable[[Array, Array, Array], Array]]:
    classifier, objective = subject.classifier, CrossEntropy()
    asked: dict[str, Callable[[Array, Array, Array], Array]] = {
        "logits": lambda x, y, v: classifier.logits(x)
    }
    if subject.offers(Capability.INPUT_GRADIENT):
        asked["values"] = lambda x, y, v: classifier.value_and_grad(objective, x, y)[0]
        asked["gradients"] = lambda x, y, v: classifier.value_and_grad(objective, x, y)[1]
    if subject.offers(Capability.INPUT_PRODUCTS):
        asked["products"] = lambda x, y, v: classifier.input_products(objective, x, y)(v)
    if subject.offers(Capability.WEIGHT_LOSS):
        asked["curvatures"] = lambda x, y, v: subject.bound.sample_curvature(objective, along, x, y)
    return asked


def _rows(x: Array, chosen: list[int], classifier: Classifier) -> Array:
    return classifier.xp.take(x, classifier.xp.asarray(chosen, device=classifier.device), axis=0)


def float64_comes_when_asked(subject: BoundSubject) -> None:
    """classifier("float64") is of float64 throughout, and says what the other one says."""
    classifier, exact = subject.classifier, subject.bound.classifier("float64")
    demand(arrays.eps(exact) < 1e-15, f'classifier("float64") has the type {exact.dtype}')
    x, y = subject.samples(exact)
    well_formed(x, tuple(x.shape), exact, "samples")
    logits = exact.logits(x)
    well_formed(logits, (x.shape[0], exact.classes), exact, "logits")
    if subject.offers(Capability.INPUT_GRADIENT):
        for part in exact.value_and_grad(CrossEntropy(), x, y):
            well_formed(part, tuple(part.shape), exact, "value_and_grad")
    own = classifier.logits(subject.samples()[0])
    demand(
        own.dtype == arrays.zeros((1,), classifier).dtype, f"after it, the first one's logits are {own.dtype}"
    )
    same(arrays.to_host(own), arrays.to_host(logits), arrays.eps(classifier), "logits in the two precisions")


def arguments_are_left_alone(subject: BoundSubject) -> None:
    """Inputs, labels and directions are the caller's."""
    x, y = subject.samples()
    v, along = rows_like(x, subject.classifier, 42), direction(subject.operator, 41)
    given = [x, y, v, along]
    kept = [arrays.to_host(one) for one in given]
    for ask in _by_row(subject, along).values():
        ask(x, y, v)
    subject.operator.matvec(along)
    if subject.offers(Capability.WEIGHT_LOSS):
        subject.bound.loss(along)
    for name, one, before in zip(("x", "y", "v", "the direction"), given, kept, strict=True):
        demand(np.array_equal(arrays.to_host(one), before), f"{name} was written to")


# -- gradients ---------------------------------------------------------------------------------------------


def values_are_the_objectives(subject: BoundSubject) -> None:
    classifier, (x, y) = subject.classifier, subject.samples()
    for objective in subject.objectives():
        value, gradient = classifier.value_and_grad(objective, x, y)
        well_formed(value, (x.shape[0],), classifier, "values")
        well_formed(gradient, tuple(x.shape), classifier, "gradients")
        logits = classifier.logits(x)
        # A margin is as rounded as the logits that it is a difference of.
        scale = arrays.eps(classifier) * max(1.0, float(classifier.xp.max(classifier.xp.abs(logits))))
        off = float(np.max(np.abs(arrays.to_host(value) - arrays.to_host(objective.value(logits, y)))))
        demand(off <= ROUNDING * scale, f"values of {objective} are {off:.2g} from those of the logits")


def gradients_are_differences(subject: BoundSubject) -> None:
    """Each sample's gradient along a direction is how its own objective changes."""
    classifier = subject.exact.classifier()
    x, y = subject.samples(classifier)
    judged = []
    for objective in subject.objectives():
        gradient = arrays.to_host(classifier.value_and_grad(objective, x, y)[1])
        for seed in range(PAIRS):
            v = _small(x, classifier, 50 + seed)
            told = np.sum(gradient * arrays.to_host(v), axis=1)

            def value(t: float, v: Array = v, objective: Objective = objective) -> Floats:
                return arrays.to_host(objective.value(classifier.logits(x + t * v), y))

            size = float(classifier.xp.max(classifier.xp.abs(classifier.logits(x))))
            judged.append(is_first_derivative(told, value, size, f"gradients of {objective}"))
    seen(judged, "gradients")


# -- products ----------------------------------------------------------------------------------------------


def input_products_are_linear(subject: BoundSubject) -> None:
    classifier, (x, y) = subject.classifier, subject.samples()
    eps = arrays.eps(classifier)
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        u, v = rows_like(x, classifier, 60), rows_like(x, classifier, 61)
        Hu, Hv = product(u), product(v)
        well_formed(Hu, tuple(x.shape), classifier, "an input product")
        together = arrays.to_host(product(2 * u - 3 * v))
        same(together, arrays.to_host(2 * Hu - 3 * Hv), eps, f"H(2u - 3v) and 2Hu - 3Hv of {objective}")


def input_products_are_symmetric(subject: BoundSubject) -> None:
    """Each sample's u'Hv is its v'Hu."""
    classifier, (x, y) = subject.classifier, subject.samples()
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        u, v = (arrays.to_host(rows_like(x, classifier, seed)) for seed in (62, 63))
        Hu, Hv = (arrays.to_host(product(arrays.from_host(one, classifier))) for one in (u, v))
        off = np.abs(np.sum(u * Hv, axis=1) - np.sum(v * Hu, axis=1))
        size = np.linalg.norm(u, axis=1) * np.linalg.norm(Hv, axis=1)
        size = size + np.linalg.norm(v, axis=1) * np.linalg.norm(Hu, axis=1)
        # Of the largest: where a sample's Hessian is nothing, rounding is all there is.
        allowed = ROUNDING * arrays.eps(classifier) * float(np.max(size))
        demand(np.all(off <= allowed), f"u'Hv and v'Hu of {objective} differ by {off}")


def input_products_are_differences_of_gradients(subject: BoundSubject) -> None:
    classifier = subject.exact.classifier()
    x, y = subject.samples(classifier)
    judged = []
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        for seed in range(PAIRS):
            v = _small(x, classifier, 70 + seed)
            u = arrays.to_host(_small(x, classifier, 80 + seed))
            told = np.sum(u * arrays.to_host(product(v)), axis=1)

            def slope(t: float, u: Floats = u, v: Array = v, objective: Objective = objective) -> Floats:
                gradient = classifier.value_and_grad(objective, x + t * v, y)[1]
                return np.asarray(np.sum(u * arrays.to_host(gradient), axis=1))

            size = float(classifier.xp.max(classifier.xp.abs(classifier.logits(x))))
            judged.append(is_first_derivative(told, slope, size, f"input products of {objective}"))
    seen(judged, "input products")


def kept_products_stay(subject: BoundSubject) -> None:
    """A map of products gives the same again, also after maps of other samples and objectives were made."""
    classifier, (x, y) = subject.classifier, subject.samples()
    v = rows_like(x, classifier, 90)
    product = classifier.input_products(CrossEntropy(), x, y)
    first = arrays.to_host(product(v))
    same(arrays.to_host(product(v)), first, arrays.eps(classifier), "a map's product and its next one")
    order = list(range(x.shape[0]))[::-1]
    others = classifier.input_products(
        subject.objectives()[-1], _rows(x, order, classifier) / 2, _rows(y, order, classifier)
    )
    others(v)
    same(arrays.to_host(product(v)), first, arrays.eps(classifier), "a map's products, another made between")


def _small(x: Array, classifier: Classifier, seed: int) -> Array:
    """Random rows as large as an input is."""
    v = rows_like(x, classifier, seed)
    size = float(classifier.xp.max(classifier.xp.abs(x)))
    return v * (size or 1.0)
