"""Classifiers of backends that are wrong, each in one way and named for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Bound, Classifier, Objective
from eigencore.space import Array
from eigencore.testing.spoiling import Specimen, like, of_classifiers, of_gradients, of_input_products

# -- samples and logits ------------------------------------------------------------------------------------


@of_classifiers
def has_labels_of_numbers(classifier: Classifier) -> Any:
    def samples(most: int | None = None) -> tuple[Array, Array]:
        x, y = classifier.samples(most)
        return x, classifier.xp.astype(y, classifier.dtype)

    return like(classifier, samples=samples)


@of_classifiers
def begins_at_the_end(classifier: Classifier) -> Any:
    def samples(most: int | None = None) -> tuple[Array, Array]:
        x, y = classifier.samples()
        return (x, y) if most is None else (x[-most:, :], y[-most:])

    return like(classifier, samples=samples)


@of_classifiers
def leaves_out_a_class(classifier: Classifier) -> Any:
    return like(classifier, logits=lambda x: classifier.logits(x)[:, 1:])


_ANEW = itertools.count()


@of_classifiers
def is_random(classifier: Classifier) -> Any:
    """As a model with dropout that is left in training mode."""

    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        return z * (1 + 0.1 * arrays.random_normal(np.random.default_rng(next(_ANEW)), z.shape, classifier))

    return like(classifier, logits=logits)


@of_classifiers
def centres_the_batch(classifier: Classifier) -> Any:
    """As batch normalisation that is left in training mode."""

    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        return z - classifier.xp.mean(z, axis=0)

    return like(classifier, logits=logits)


def stays_narrow(bound: Bound) -> Bound:
    """A classifier of its own precision, whichever was asked for."""
    return like(bound, classifier=lambda dtype=None: bound.classifier())


@of_classifiers
def writes_into_its_inputs(classifier: Classifier) -> Any:
    def logits(x: Array) -> Array:
        z = classifier.logits(x)
        arrays.write(x, (0, 0), x[0, 0] + 1)
        return z

    return like(classifier, logits=logits)


# -- gradients and products --------------------------------------------------------------------------------


@of_gradients
def halves_the_value(value: Array, gradient: Array) -> tuple[Array, Array]:
    return value / 2, gradient


@of_gradients
def is_of_the_mean(value: Array, gradient: Array) -> tuple[Array, Array]:
    """The gradient of the batch's mean."""
    return value, gradient / gradient.shape[0]


@of_gradients
def descends(value: Array, gradient: Array) -> tuple[Array, Array]:
    return value, -gradient


@of_input_products
def bends(classifier: Classifier, v: Array, product: Array) -> Array:
    return classifier.xp.abs(product)


@of_input_products
def turns_rows_round(classifier: Classifier, v: Array, product: Array) -> Array:
    return classifier.xp.flip(product, axis=1)


@of_input_products
def mixes_samples(classifier: Classifier, v: Array, product: Array) -> Array:
    """As the Hessian of all samples together would, if they saw each other."""
    return product + classifier.xp.mean(v, axis=0)


@of_input_products
def curves_half(classifier: Classifier, v: Array, product: Array) -> Array:
    return product / 2


@of_classifiers
def has_one_graph(classifier: Classifier) -> Any:
    """Every map multiplies by what was made last."""
    kept: dict[str, Callable[[Array], Array]] = {}

    def input_products(objective: Objective, x: Array, y: Array) -> Callable[[Array], Array]:
        kept["last"] = classifier.input_products(objective, x, y)
        return lambda v: kept["last"](v)

    return like(classifier, input_products=input_products)


SPECIMENS = (
    Specimen(is_random, "numbers_repeat"),
    Specimen(has_labels_of_numbers, "samples_are_well_formed"),
    Specimen(begins_at_the_end, "few_samples_are_the_first"),
    Specimen(leaves_out_a_class, "logits_are_well_formed"),
    Specimen(centres_the_batch, "rows_are_independent"),
    Specimen(stays_narrow, "float64_comes_when_asked", "float32"),
    Specimen(writes_into_its_inputs, "arguments_are_left_alone"),
    Specimen(halves_the_value, "values_are_the_objectives"),
    Specimen(is_of_the_mean, "rows_are_independent"),
    Specimen(descends, "gradients_are_differences"),
    Specimen(bends, "input_products_are_linear"),
    Specimen(turns_rows_round, "input_products_are_symmetric"),
    Specimen(mixes_samples, "rows_are_independent"),
    Specimen(curves_half, "input_products_are_differences_of_gradients"),
    Specimen(has_one_graph, "kept_products_stay"),
)
