"""Backends that are wrong, each in one way and named for it: a law that holds of all of them proves nothing.

These are of operators and weights; those of classifiers come from their own module.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import Bound, LinearOperator
from eigencore.space import Array
from eigencore.testing import broken_classifiers
from eigencore.testing.spoiling import Specimen, like, multiplying, of_curvatures, of_products

# -- operators ---------------------------------------------------------------------------------------------


@of_products
def gives_columns(A: LinearOperator, product: Array) -> Array:
    return product[:, None]


@of_products
def adds_a_constant(A: LinearOperator, product: Array) -> Array:
    return product + 1e-3


@of_products
def turns_round(A: LinearOperator, product: Array) -> Array:
    """An asymmetric Hessian: its rows in another order."""
    return A.xp.flip(product)


@of_products
def doubles(A: LinearOperator, product: Array) -> Array:
    """The Hessian of another loss than the one it tells."""
    return 2 * product


@of_products
def is_coarse(A: LinearOperator, product: Array) -> Array:
    """Wrong by a hundredth wherever it is not asked for float64."""
    return product if arrays.eps(A) < 1e-10 else 1.01 * product


@of_products
def draws_random_numbers(A: LinearOperator, product: Array) -> Array:
    return product + 0 * float(np.random.standard_normal())


@of_products
def prints(A: LinearOperator, product: Array) -> Array:
    print("a product")
    return product


def wears_out(bound: Bound) -> Bound:
    """Every product is a little smaller than the one before."""
    used = itertools.count()
    return of_products(lambda A, product: product * 0.999 ** next(used))(bound)


_BINDS = itertools.count(1)


def is_never_the_same(bound: Bound) -> Bound:
    """Every bind has another scale."""
    scale = next(_BINDS)
    return of_products(lambda A, product: scale * product)(bound)


def repeats_a_column(bound: Bound) -> Bound:
    """A block of the first column's product."""

    def operator(kind: str = "hessian", params: str | None = None) -> Any:
        A = bound.operator(kind, params)
        return like(A, matmat=lambda V: A.xp.stack([A.matvec(V[:, 0])] * V.shape[1], axis=1))

    return like(bound, operator=operator)


def shrinks_minibatches(bound: Bound) -> Bound:
    """A minibatch is added with its share, and not as what stands for the whole."""

    def operator(kind: str = "hessian", params: str | None = None) -> Any:
        A: Any = bound.operator(kind, params)

        def minibatch(step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
            sample, share = A.minibatch(step, seed, batches)
            return multiplying(sample, lambda A, product: share * product), share

        return like(A, minibatch=minibatch)

    return like(bound, operator=operator)


def takes_any_name(bound: Bound) -> Bound:
    return like(bound, operator=lambda kind="hessian", params=None: bound.operator("hessian", params))


def scales_a_part(bound: Bound) -> Bound:
    """The operator over some parameters is twice that block of the whole."""

    def operator(kind: str = "hessian", params: str | None = None) -> Any:
        scale = 1 if params is None else 2
        return multiplying(bound.operator(kind, params), lambda A, product: scale * product)

    return like(bound, operator=operator)


# -- weights -----------------------------------------------------------------------------------------------


def lays_all_at_the_start(bound: Bound) -> Bound:
    """Every parameter lies where the vector begins."""

    def layout(params: str | None = None) -> Any:
        parts = bound.layout(params)
        return tuple(one._replace(where=slice(0, one.where.stop - one.where.start)) for one in parts)

    return like(bound, layout=layout)


def stays_where_it_is(bound: Bound) -> Bound:
    """The loss does not look at its direction."""
    return like(bound, loss=lambda direction=None, params=None: bound.loss())


@of_curvatures
def keeps_a_dimension(curvature: Array, params: str | None) -> Array:
    return curvature[:, None]


@of_curvatures
def shares_out_the_batch(curvature: Array, params: str | None) -> Array:
    """The curvature of the batch's mean."""
    return curvature / curvature.shape[0]


@of_curvatures
def turns_the_sign(curvature: Array, params: str | None) -> Array:
    return -curvature


@of_curvatures
def forgets_the_last(curvature: Array, params: str | None) -> Array:
    """Nothing is left for the last sample of a large batch."""
    b = curvature.shape[0]
    return arrays.write(curvature, b - 1, 0.0) if b > 3 else curvature


@of_curvatures
def curves_parts_twice(curvature: Array, params: str | None) -> Array:
    return curvature if params is None else 2 * curvature


SPECIMENS = (
    Specimen(gives_columns, "products_are_well_formed"),
    Specimen(adds_a_constant, "products_are_linear"),
    Specimen(turns_round, "products_are_symmetric"),
    Specimen(repeats_a_column, "blocks_are_products"),
    Specimen(shrinks_minibatches, "minibatches_are_unbiased"),
    Specimen(wears_out, "numbers_repeat"),
    Specimen(is_never_the_same, "two_binds_agree"),
    Specimen(is_coarse, "float64_agrees", "float32"),
    Specimen(takes_any_name, "what_is_not_there_is_refused"),
    Specimen(draws_random_numbers, "global_randomness_is_left_alone"),
    Specimen(prints, "prints_nothing"),
    Specimen(lays_all_at_the_start, "layout_covers_the_vector"),
    Specimen(stays_where_it_is, "loss_is_that_of_the_weights"),
    Specimen(doubles, "products_are_differences_of_the_loss"),
    Specimen(scales_a_part, "parameters_are_parts_of_the_whole"),
    Specimen(keeps_a_dimension, "sample_curvature_is_well_formed"),
    Specimen(shares_out_the_batch, "sample_curvature_is_each_samples_own"),
    Specimen(turns_the_sign, "sample_curvature_is_each_samples_own"),
    Specimen(forgets_the_last, "sample_curvatures_add_up_to_the_operator"),
    Specimen(curves_parts_twice, "parameters_have_curvature_of_their_own"),
    *broken_classifiers.SPECIMENS,
)
