"""Classifiers of backends that are broken on purpose, each in one way, and the law that detects each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Bound, Classifier, Objective
from eigencore.space import Array
from kit.faults import (
    BackendSpecimen,
    fault_in_classifier,
    fault_in_gradients,
    fault_in_input_products,
    with_attributes,
)

# -- samples and logits ------------------------------------------------------------------------------------


@fault_in_classifier
def returns_float_labels(classifier: Classifier) -> Any:
    def samples(most: int | None = None) -> tuple[Array, Array]:
        x, y = classifier.samples(most)
        return x, classifier.xp.astype(y, classifier.dtype)

    return with_attributes(classifier, samples=samples)


@fault_in_classifier
def has_the_channels_first(classifier: Classifier) -> Any:
    """Whatever the problem states."""
    return with_attributes(classifier, channel_axis=0 if len(classifier.shape) > 1 else None)


@fault_in_classifier
def takes_the_last_samples(classifier: Classifier) -> Any:
    def samples(most: int | None = None) -> tuple[Array, Array]:
        x, y = classifier.samples()
        return (x, y) if most is None else (x[-most:, :], y[-most:])

    return with_attributes(classifier, samples=samples)


@fault_in_classifier
def drops_a_class(classifier: Classifier) -> Any:
    return with_attributes(classifier, logits=lambda x: classifier.logits(x)[:, 1:])


_CALLS = itertools.count()


@fault_in_classifier
def has_active_dropout(classifier: Classifier) -> Any:
    """Like a model with dropout in training mode."""

    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        return z * (1 + 0.1 * arrays.random_normal(np.random.default_rng(next(_CALLS)), z.shape, classifier))

    return with_attributes(classifier, logits=logits)


@fault_in_classifier
def centres_logits_over_the_batch(classifier: Classifier) -> Any:
    """Like batch normalisation in training mode."""

    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        return z - classifier.xp.mean(z, axis=0)

    return with_attributes(classifier, logits=logits)


def ignores_the_requested_precision(bound: Bound) -> Bound:
    """A classifier in its own precision, whatever is requested."""
    return with_attributes(bound, classifier=lambda dtype=None, **moved: bound.classifier(**moved))


def ignores_the_direction_of_classifiers(bound: Bound) -> Bound:
    """A classifier at the weights, wherever they are to be moved."""
    return with_attributes(bound, classifier=lambda dtype=None, **moved: bound.classifier(dtype))


def ignores_the_parameters_of_directions(bound: Bound) -> Bound:
    """A direction over one parameter moves the first weights."""

    def classifier(dtype: str | None = None, *, direction: Any = None, params: Any = None) -> Any:
        if direction is None:
            return bound.classifier(dtype)
        whole = arrays.zeros(bound.operator().shape[:1], bound.operator())
        whole = arrays.write(whole, slice(0, direction.shape[0]), direction)
        return bound.classifier(dtype, direction=whole)

    return with_attributes(bound, classifier=classifier)


def moves_all_later_classifiers(bound: Bound) -> Bound:
    """The direction is added to the weights of the model itself."""
    moved: list[Array] = []

    def classifier(dtype: str | None = None, *, direction: Any = None, params: Any = None) -> Any:
        if direction is not None and params is None:
            moved.append(direction)
        whole = sum(moved[1:], moved[0]) if moved else None
        return bound.classifier(dtype, direction=whole)

    return with_attributes(bound, classifier=classifier)


@fault_in_classifier
def writes_into_its_inputs(classifier: Classifier) -> Any:
    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        arrays.write(x, (0, 0), x[0, 0] + 1)
        return z

    return with_attributes(classifier, logits=logits)


# -- gradients and products --------------------------------------------------------------------------------


@fault_in_gradients
def halves_the_value(value: Array, gradient: Array) -> tuple[Array, Array]:
    return value / 2, gradient


@fault_in_gradients
def divides_by_the_batch_size(value: Array, gradient: Array) -> tuple[Array, Array]:
    """The gradient of the mean over the batch."""
    return value, gradient / gradient.shape[0]


@fault_in_gradients
def negates_the_gradient(value: Array, gradient: Array) -> tuple[Array, Array]:
    return value, -gradient


@fault_in_input_products
def takes_absolute_values(classifier: Classifier, v: Array, product: Array) -> Array:
    return classifier.xp.abs(product)


@fault_in_input_products
def reverses_the_inputs(classifier: Classifier, v: Array, product: Array) -> Array:
    return classifier.xp.flip(product, axis=1)


@fault_in_input_products
def mixes_samples(classifier: Classifier, v: Array, product: Array) -> Array:
    """Like the Hessian over all samples together if they depended on each other."""
    return product + classifier.xp.mean(v, axis=0)


@fault_in_input_products
def halves_the_product(classifier: Classifier, v: Array, product: Array) -> Array:
    return product / 2


@fault_in_classifier
def shares_the_last_map(classifier: Classifier) -> Any:
    """Every map multiplies by the Hessian of the map that was made last."""
    kept: dict[str, Callable[[Array], Array]] = {}

    def input_products(objective: Objective, x: Array, y: Array) -> Callable[[Array], Array]:
        kept["last"] = classifier.input_products(objective, x, y)
        return lambda v: kept["last"](v)

    return with_attributes(classifier, input_products=input_products)


SPECIMENS = (
    BackendSpecimen(has_active_dropout, "results_are_reproducible"),
    BackendSpecimen(returns_float_labels, "samples_are_well_formed"),
    BackendSpecimen(has_the_channels_first, "channel_axis_is_that_of_the_inputs"),
    BackendSpecimen(takes_the_last_samples, "few_samples_are_the_first"),
    BackendSpecimen(drops_a_class, "logits_are_well_formed"),
    BackendSpecimen(centres_logits_over_the_batch, "rows_are_independent"),
    BackendSpecimen(ignores_the_requested_precision, "listed_precisions_are_available", "float32"),
    BackendSpecimen(writes_into_its_inputs, "arguments_are_not_modified"),
    BackendSpecimen(ignores_the_direction_of_classifiers, "classifiers_at_moved_weights_have_their_loss"),
    BackendSpecimen(ignores_the_parameters_of_directions, "classifiers_at_moved_weights_have_their_loss"),
    BackendSpecimen(moves_all_later_classifiers, "classifiers_at_moved_weights_are_independent"),
    BackendSpecimen(halves_the_value, "values_are_those_of_the_objective"),
    BackendSpecimen(divides_by_the_batch_size, "rows_are_independent"),
    BackendSpecimen(negates_the_gradient, "gradients_match_differences"),
    BackendSpecimen(takes_absolute_values, "input_products_are_linear"),
    BackendSpecimen(reverses_the_inputs, "input_products_are_symmetric"),
    BackendSpecimen(mixes_samples, "rows_are_independent"),
    BackendSpecimen(halves_the_product, "input_products_match_differences_of_gradients"),
    BackendSpecimen(shares_the_last_map, "earlier_products_stay_valid"),
)
