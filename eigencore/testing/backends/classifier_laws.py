"""The laws of the classifier of a bound problem: samples, logits, gradients and products over the inputs."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import UsageError
from eigencore.interfaces import Classifier, Objective
from eigencore.objectives import CrossEntropy
from eigencore.problems.sharing import CHANNELS, DTYPES, bounds_excess, bounds_of_rows, channel_axis
from eigencore.space import Array
from eigencore.testing.backends.comparisons import ROUNDING, demand_close, demand_error, demand_well_formed
from eigencore.testing.backends.differences import check_first_derivative, skip_unless_any
from eigencore.testing.backends.subject import BackendSubject, direction, rows_like
from eigencore.testing.checks import demand

if TYPE_CHECKING:
    from eigencore.space import Floats

PAIRS = 3  # the number of random directions, or pairs of them, for a law about derivatives


# -- samples and logits ------------------------------------------------------------------------------------


def samples_are_well_formed(subject: BackendSubject) -> None:
    """Inputs are rows within the bounds, and labels are integers below the number of classes."""
    classifier = subject.classifier
    x, y = classifier.samples()
    N, d = y.shape[0], int(np.prod(classifier.shape))
    demand(N >= 1, "there are no samples")
    demand_well_formed(x, (N, d), classifier, "samples")
    demand(classifier.xp.isdtype(y.dtype, "integral"), f"labels are {y.dtype}; expected integers")
    low, high = int(classifier.xp.min(y)), int(classifier.xp.max(y))
    demand(
        low >= 0 and high < classifier.classes,
        f"labels from {low} to {high} for {classifier.classes} classes",
    )
    expected = bounds_of_rows(subject.problem.bounds, classifier.shape, classifier, channel_axis(classifier))
    if expected is None or classifier.bounds is None:
        demand(expected is classifier.bounds, f"the bounds are {classifier.bounds}; expected {expected}")
        return
    for which, found, one in zip(("lower", "upper"), classifier.bounds, expected, strict=True):
        demand_well_formed(found, (d,), classifier, f"the {which} bounds")
        demand(bool(classifier.xp.all(found == one)), f"the {which} bounds are {found}; expected {one}")
    excess = bounds_excess(x, classifier.bounds)
    demand(excess == 0, f"inputs exceed their bounds by {excess}")


def channel_axis_is_that_of_the_inputs(subject: BackendSubject) -> None:
    """The axis of the channels is one of an input, the same in every precision, and as the problem says."""
    classifier = subject.classifier
    if not hasattr(classifier, "channel_axis"):
        raise unittest.SkipTest("the classifier has no channel_axis, so attacks infer it from the shape")
    axes, found = len(classifier.shape), classifier.channel_axis
    valid = found is None or (isinstance(found, int) and not isinstance(found, bool) and 0 <= found < axes)
    demand(valid, f"channel_axis is {found!r}; expected None or an axis of the shape {classifier.shape}")
    for dtype in subject.bound.precisions:
        again = subject.bound.classifier(dtype).channel_axis
        demand(again == found, f"channel_axis is {found!r}, and {again!r} in {dtype}")
    if axes < 2:
        demand(found is None, f"channel_axis is {found!r} for inputs that are vectors; expected None")
        return
    for channels, axis in zip(CHANNELS, (0, axes - 1), strict=True):
        stated = subject.bind(channels=channels, bounds=None).classifier().channel_axis
        demand(stated == axis, f"channel_axis is {stated!r} for a problem with channels={channels!r}")


def few_samples_are_the_first(subject: BackendSubject) -> None:
    """samples(most) returns the first `most` samples, or all samples if there are fewer."""
    x, y = (arrays.to_host(part) for part in subject.classifier.samples())
    for most in sorted({1, min(3, len(y)), len(y), len(y) + 5}):
        few, labels = (arrays.to_host(part) for part in subject.classifier.samples(most))
        demand(len(few) == min(most, len(x)), f"samples({most}) returned {len(few)} of {len(x)} samples")
        demand(np.array_equal(few, x[:most]), f"samples({most}) did not return the first inputs")
        demand(np.array_equal(labels, y[:most]), f"samples({most}) did not return the first labels")


def logits_are_well_formed(subject: BackendSubject) -> None:
    """One finite number for each sample and class."""
    classifier = subject.classifier
    x, _ = subject.samples()
    shape = (x.shape[0], classifier.classes)
    demand_well_formed(classifier.logits(x), shape, classifier, "logits")


def rows_are_independent(subject: BackendSubject) -> None:
    """A sample has the same logits, gradient, product and curvature alone, among others and in any order."""
    x, y = subject.samples()
    v = rows_like(x, subject.classifier, 40)
    for name, compute in _by_row(subject, direction(subject.operator, 41)).items():
        whole = arrays.to_host(compute(x, y, v))
        for chosen in ([0], list(range(x.shape[0]))[::-1], [x.shape[0] - 1, 0]):
            some = (_rows(part, chosen, subject.classifier) for part in (x, y, v))
            what = f"{name} of the rows {chosen}, computed separately and together with all rows,"
            own = arrays.to_host(compute(*some))
            demand_close(own, whole[chosen], arrays.eps(subject.classifier), what)


def _by_row(subject: BackendSubject, along: Array) -> dict[str, Callable[[Array, Array, Array], Array]]:
    """What is computed for each row: name -> a function of x, y and a direction v over the inputs."""
    classifier, objective = subject.classifier, CrossEntropy()
    computed: dict[str, Callable[[Array, Array, Array], Array]] = {
        "logits": lambda x, y, v: classifier.logits(x)
    }
    if subject.offers(Capability.INPUT_GRADIENT):
        computed["values"] = lambda x, y, v: classifier.value_and_grad(objective, x, y)[0]
        computed["gradients"] = lambda x, y, v: classifier.value_and_grad(objective, x, y)[1]
    if subject.offers(Capability.INPUT_PRODUCTS):
        computed["products"] = lambda x, y, v: classifier.input_products(objective, x, y)(v)
    if subject.offers(Capability.WEIGHT_LOSS):
        computed["curvatures"] = lambda x, y, v: subject.bound.sample_curvature(objective, along, x, y)
    return computed


def _rows(x: Array, chosen: list[int], classifier: Classifier) -> Array:
    return classifier.xp.take(x, classifier.xp.asarray(chosen, device=classifier.device), axis=0)


def listed_precisions_are_available(subject: BackendSubject) -> None:
    """The classifier of a listed type has it throughout and agrees with its own; others are refused."""
    own = subject.classifier
    before = arrays.to_host(own.logits(subject.samples()[0]))
    for dtype in DTYPES:
        if dtype not in subject.bound.precisions:
            demand_error(partial(subject.bound.classifier, dtype), UsageError)
            continue
        classifier = subject.bound.classifier(dtype)
        found = arrays.zeros((1,), classifier).dtype
        demand(found == getattr(classifier.xp, dtype), f"classifier({dtype!r}) has the data type {found}")
        x, y = subject.samples(classifier)
        demand_well_formed(x, tuple(x.shape), classifier, "samples")
        logits = classifier.logits(x)
        demand_well_formed(logits, (x.shape[0], classifier.classes), classifier, "logits")
        if subject.offers(Capability.INPUT_GRADIENT):
            for part in classifier.value_and_grad(CrossEntropy(), x, y):
                demand_well_formed(part, tuple(part.shape), classifier, "value_and_grad")
        eps = max(arrays.eps(classifier), arrays.eps(own))
        demand_close(before, arrays.to_host(logits), eps, f"the logits in its own precision and in {dtype}")
    after = own.logits(subject.samples()[0])
    demand_well_formed(after, before.shape, own, "logits after classifiers in other precisions were made")


def arguments_are_not_modified(subject: BackendSubject) -> None:
    """Inputs, labels and directions belong to the caller and are not written to."""
    x, y = subject.samples()
    v, along = rows_like(x, subject.classifier, 42), direction(subject.operator, 41)
    given = [x, y, v, along]
    kept = [arrays.to_host(one) for one in given]
    for compute in _by_row(subject, along).values():
        compute(x, y, v)
    subject.operator.matvec(along)
    if subject.offers(Capability.WEIGHT_LOSS):
        subject.bound.loss(along)
    for name, one, before in zip(("x", "y", "v", "the direction"), given, kept, strict=True):
        demand(np.array_equal(arrays.to_host(one), before), f"{name} was overwritten")


# -- gradients ---------------------------------------------------------------------------------------------


def values_are_those_of_the_objective(subject: BackendSubject) -> None:
    """value_and_grad returns the value that the objective has at the logits."""
    classifier, (x, y) = subject.classifier, subject.samples()
    for objective in subject.objectives():
        value, gradient = classifier.value_and_grad(objective, x, y)
        demand_well_formed(value, (x.shape[0],), classifier, "values")
        demand_well_formed(gradient, tuple(x.shape), classifier, "gradients")
        logits = classifier.logits(x)
        # A margin is a difference of logits, and has their rounding error.
        scale = arrays.eps(classifier) * max(1.0, float(classifier.xp.max(classifier.xp.abs(logits))))
        error = float(np.max(np.abs(arrays.to_host(value) - arrays.to_host(objective.value(logits, y)))))
        demand(
            error <= ROUNDING * scale,
            f"the values of {objective} differ by {error:.2g} from its values at the logits",
        )


def gradients_match_differences(subject: BackendSubject) -> None:
    """The gradient of each sample along a direction is the rate at which its objective changes."""
    classifier = subject.exact.classifier()
    x, y = subject.samples(classifier)
    changed = []
    for objective in subject.objectives():
        gradient = arrays.to_host(classifier.value_and_grad(objective, x, y)[1])
        for seed in range(PAIRS):
            v = _scaled_rows(x, classifier, 50 + seed)
            slopes = np.sum(gradient * arrays.to_host(v), axis=1)

            def value(t: float, v: Array = v, objective: Objective = objective) -> Floats:
                return arrays.to_host(objective.value(classifier.logits(x + t * v), y))

            size = float(classifier.xp.max(classifier.xp.abs(classifier.logits(x))))
            what = f"gradients of {objective}"
            changed.append(check_first_derivative(slopes, value, size, what, arrays.eps(classifier)))
    skip_unless_any(changed, "gradients")


# -- products ----------------------------------------------------------------------------------------------


def input_products_are_linear(subject: BackendSubject) -> None:
    """The map of products of each objective is linear."""
    classifier, (x, y) = subject.classifier, subject.samples()
    eps = arrays.eps(classifier)
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        u, v = rows_like(x, classifier, 60), rows_like(x, classifier, 61)
        Hu, Hv = product(u), product(v)
        demand_well_formed(Hu, tuple(x.shape), classifier, "an input product")
        together = arrays.to_host(product(2 * u - 3 * v))
        demand_close(
            together, arrays.to_host(2 * Hu - 3 * Hv), eps, f"H(2u - 3v) and 2Hu - 3Hv of {objective}"
        )


def input_products_are_symmetric(subject: BackendSubject) -> None:
    """For each sample, u'Hv equals v'Hu."""
    classifier, (x, y) = subject.classifier, subject.samples()
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        u, v = (arrays.to_host(rows_like(x, classifier, seed)) for seed in (62, 63))
        Hu, Hv = (arrays.to_host(product(arrays.from_host(one, classifier))) for one in (u, v))
        difference = np.abs(np.sum(u * Hv, axis=1) - np.sum(v * Hu, axis=1))
        size = np.linalg.norm(u, axis=1) * np.linalg.norm(Hv, axis=1)
        size = size + np.linalg.norm(v, axis=1) * np.linalg.norm(Hu, axis=1)
        # Relative to the largest sample: the products of a Hessian of zeros are rounding errors only.
        allowed = ROUNDING * arrays.eps(classifier) * float(np.max(size))
        demand(
            np.all(difference <= allowed),
            f"u'Hv and v'Hu of {objective} differ by {difference}; the limit is {allowed:.2g}",
        )


def input_products_match_differences_of_gradients(subject: BackendSubject) -> None:
    """u'Hv is the rate at which the gradient along u changes in the direction v."""
    classifier = subject.exact.classifier()
    x, y = subject.samples(classifier)
    changed = []
    for objective in subject.objectives():
        product = classifier.input_products(objective, x, y)
        for seed in range(PAIRS):
            v = _scaled_rows(x, classifier, 70 + seed)
            u = arrays.to_host(_scaled_rows(x, classifier, 80 + seed))
            slopes = np.sum(u * arrays.to_host(product(v)), axis=1)

            def slope(t: float, u: Floats = u, v: Array = v, objective: Objective = objective) -> Floats:
                gradient = classifier.value_and_grad(objective, x + t * v, y)[1]
                return np.asarray(np.sum(u * arrays.to_host(gradient), axis=1))

            size = float(classifier.xp.max(classifier.xp.abs(classifier.logits(x))))
            what = f"input products of {objective}"
            changed.append(check_first_derivative(slopes, slope, size, what, arrays.eps(classifier)))
    skip_unless_any(changed, "input products")


def earlier_products_stay_valid(subject: BackendSubject) -> None:
    """A map of products gives the same result again, even after maps of other samples and objectives."""
    classifier, (x, y) = subject.classifier, subject.samples()
    v = rows_like(x, classifier, 90)
    product = classifier.input_products(CrossEntropy(), x, y)
    first = arrays.to_host(product(v))
    demand_close(arrays.to_host(product(v)), first, arrays.eps(classifier), "two products of one map")
    order = list(range(x.shape[0]))[::-1]
    others = classifier.input_products(
        subject.objectives()[-1], _rows(x, order, classifier) / 2, _rows(y, order, classifier)
    )
    others(v)
    demand_close(
        arrays.to_host(product(v)),
        first,
        arrays.eps(classifier),
        "products of one map before and after another was made",
    )


def _scaled_rows(x: Array, classifier: Classifier, seed: int) -> Array:
    """Random rows, scaled by the largest number of the inputs."""
    v = rows_like(x, classifier, seed)
    size = float(classifier.xp.max(classifier.xp.abs(x)))
    return v * (size or 1.0)
