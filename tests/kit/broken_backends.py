"""Backends that are broken on purpose, each in one way and named after it, and the law that detects each.

The faults here concern operators and weights; those of classifiers are in `broken_classifiers`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.interfaces import Bound, LinearOperator, Params
from eigencore.operators import FunctionOperator, as_operator
from eigencore.space import Array
from kit import broken_classifiers
from kit.faults import (
    BackendSpecimen,
    fault_in_curvatures,
    fault_in_products,
    with_attributes,
    with_changed_products,
)

# -- operators ---------------------------------------------------------------------------------------------


@fault_in_products
def returns_columns(A: LinearOperator, product: Array) -> Array:
    return product[:, None]


@fault_in_products
def adds_a_constant(A: LinearOperator, product: Array) -> Array:
    return product + 1e-3


@fault_in_products
def reverses_the_rows(A: LinearOperator, product: Array) -> Array:
    """An asymmetric operator: the rows of the Hessian in reverse order."""
    return A.xp.flip(product)


@fault_in_products
def doubles_the_product(A: LinearOperator, product: Array) -> Array:
    """The Hessian of another loss than the reported one."""
    return 2 * product


@fault_in_products
def is_inaccurate_below_float64(A: LinearOperator, product: Array) -> Array:
    """A relative error of a hundredth in every precision but float64."""
    return product if arrays.eps(A) < 1e-10 else 1.01 * product


@fault_in_products
def draws_from_the_global_generator(A: LinearOperator, product: Array) -> Array:
    return product + 0 * float(np.random.standard_normal())


@fault_in_products
def prints(A: LinearOperator, product: Array) -> Array:
    print("a product")
    return product


@fault_in_products
def changes_the_error_state(A: LinearOperator, product: Array) -> Array:
    """NumPy goes on without reporting a division by zero, in code of the user, too."""
    np.seterr(divide="ignore")
    return product


def computes_in_float32(bound: Bound) -> Bound:
    """The operator has float32 in every precision."""

    def operator(kind: str = "hessian", params: Params = None) -> Any:
        A: Any = bound.operator(kind, params)
        return FunctionOperator(
            lambda v: A.xp.astype(A.matvec(A.xp.astype(v, A.dtype)), A.xp.float32),
            A.shape[0],
            xp=A.xp,
            dtype=A.xp.float32,
            device=A.device,
        )

    return with_attributes(bound, operator=operator)


def shrinks_with_every_product(bound: Bound) -> Bound:
    """Every product is slightly smaller than the one before."""
    made = itertools.count()
    return fault_in_products(lambda A, product: product * 0.999 ** next(made))(bound)


_BINDS = itertools.count(1)


def rescales_at_every_bind(bound: Bound) -> Bound:
    """Every bind has another scale."""
    scale = next(_BINDS)
    return fault_in_products(lambda A, product: scale * product)(bound)


def repeats_the_first_column(bound: Bound) -> Bound:
    """The product of a block repeats that of its first column."""

    def operator(kind: str = "hessian", params: Params = None) -> Any:
        A = bound.operator(kind, params)
        return with_attributes(A, matmat=lambda V: A.xp.stack([A.matvec(V[:, 0])] * V.shape[1], axis=1))

    return with_attributes(bound, operator=operator)


def scales_minibatches_by_their_share(bound: Bound) -> Bound:
    """A minibatch is scaled by its share, so that it does not estimate the whole operator."""

    def operator(kind: str = "hessian", params: Params = None) -> Any:
        A: Any = bound.operator(kind, params)

        def minibatch(step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
            sample, share = A.minibatch(step, seed, batches)
            return with_changed_products(sample, lambda A, product: share * product), share

        return with_attributes(A, minibatch=minibatch)

    return with_attributes(bound, operator=operator)


def accepts_any_name(bound: Bound) -> Bound:
    return with_attributes(
        bound, operator=lambda kind="hessian", params=None: bound.operator("hessian", params)
    )


def accepts_wrong_derivatives(bound: Bound) -> Bound:
    """Where the problem is refused, its operator is zero."""

    def operator(kind: str = "hessian", params: str | None = None) -> Any:
        try:
            return bound.operator(kind, params)
        except ProblemError:
            return as_operator(np.zeros(2 * (bound.layout(params)[-1].where.stop,)))

    return with_attributes(bound, operator=operator)


def doubles_blocks_of_parameters(bound: Bound) -> Bound:
    """The operator over some parameters is twice the block of the whole operator."""

    def operator(kind: str = "hessian", params: Params = None) -> Any:
        scale = 1 if params is None else 2
        return with_changed_products(bound.operator(kind, params), lambda A, product: scale * product)

    return with_attributes(bound, operator=operator)


# -- weights -----------------------------------------------------------------------------------------------


def places_all_parameters_at_the_start(bound: Bound) -> Bound:
    """The slice of every parameter starts at zero."""

    def layout(params: Params = None) -> Any:
        parts = bound.layout(params)
        return tuple(one._replace(where=slice(0, one.where.stop - one.where.start)) for one in parts)

    return with_attributes(bound, layout=layout)


def uses_only_the_first_of_several_globs(bound: Bound) -> Bound:
    def layout(params: Params = None) -> Any:
        return bound.layout(params[0] if isinstance(params, list) else params)

    return with_attributes(bound, layout=layout)


def doubles_gradients_of_parameters(bound: Bound) -> Bound:
    """The gradient over some parameters is twice that part of the whole gradient."""

    def gradient(params: Params = None, minibatch: Any = None) -> Any:
        return bound.gradient(params, minibatch) * (1 if params is None else 2)

    return with_attributes(bound, gradient=gradient)


def ignores_the_seed_of_gradients(bound: Bound) -> Bound:
    """Every minibatch has the gradient of the first one."""

    def gradient(params: Params = None, minibatch: Any = None) -> Any:
        return bound.gradient(params, None if minibatch is None else (0, 0, 1))

    return with_attributes(bound, gradient=gradient)


def ignores_the_direction_of_the_loss(bound: Bound) -> Bound:
    """The loss ignores its direction."""
    return with_attributes(bound, loss=lambda direction=None, params=None: bound.loss())


@fault_in_curvatures
def keeps_an_extra_dimension(curvature: Array, params: Params) -> Array:
    return curvature[:, None]


@fault_in_curvatures
def divides_by_the_batch_size(curvature: Array, params: Params) -> Array:
    """The curvature of the mean over the batch."""
    return curvature / curvature.shape[0]


@fault_in_curvatures
def flips_the_sign(curvature: Array, params: Params) -> Array:
    return -curvature


@fault_in_curvatures
def drops_the_last_sample(curvature: Array, params: Params) -> Array:
    """The last sample of a large batch has a curvature of zero."""
    b = curvature.shape[0]
    return arrays.write(curvature, b - 1, 0.0) if b > 3 else curvature


@fault_in_curvatures
def doubles_the_curvature_of_parameters(curvature: Array, params: Params) -> Array:
    return curvature if params is None else 2 * curvature


def ignores_the_precision_of_curvatures(bound: Bound) -> Bound:
    """Sample curvatures in the precision of the operator, whatever is requested."""

    def sample_curvature(
        objective: Any, v: Array, x: Array, y: Array, params: Any = None, dtype: Any = None
    ) -> Any:
        return bound.sample_curvature(objective, v, x, y, params)

    return with_attributes(bound, sample_curvature=sample_curvature)


# -- kinds of operator -------------------------------------------------------------------------------------


@fault_in_products
def negates_the_product(A: LinearOperator, product: Array) -> Array:
    """A negative semidefinite operator."""
    return -product


def is_slightly_indefinite(bound: Bound) -> Bound:
    """A symmetric matrix whose first diagonal entry is negative."""

    def operator(kind: str = "hessian", params: Params = None) -> Any:
        A = bound.operator(kind, params)
        first = arrays.write(arrays.zeros(A.shape[:1], A), 0, 1.0)
        row = A.matvec(first)
        most = 1.1 * float(row[0]) + 1e-3

        def matvec(v: Array) -> Array:
            return A.matvec(v) - most * v[0] * first

        def matmat(V: Array) -> Array:
            return A.xp.stack([matvec(V[:, i]) for i in range(V.shape[1])], axis=1)

        return with_attributes(A, matvec=matvec, matmat=matmat)

    return with_attributes(bound, operator=operator)


def ignores_the_kind_for_parameters(bound: Bound) -> Bound:
    """Over some parameters, the operator is the Hessian, whatever the kind."""
    return with_attributes(
        bound,
        operator=lambda kind="hessian", params=None: bound.operator(
            kind if params is None else "hessian", params
        ),
    )


# Faults that are caught by the laws of another kind than the Hessian.
OF_A_KIND = (
    BackendSpecimen(negates_the_product, "products_are_semidefinite"),
    BackendSpecimen(is_slightly_indefinite, "products_are_semidefinite"),
    BackendSpecimen(ignores_the_kind_for_parameters, "parameters_are_blocks_of_the_whole"),
    BackendSpecimen(doubles_blocks_of_parameters, "parameters_are_blocks_of_the_whole"),
    BackendSpecimen(reverses_the_rows, "products_are_symmetric"),
    BackendSpecimen(scales_minibatches_by_their_share, "minibatches_are_unbiased"),
)

SPECIMENS = (
    BackendSpecimen(returns_columns, "products_are_well_formed"),
    BackendSpecimen(adds_a_constant, "products_are_linear"),
    BackendSpecimen(reverses_the_rows, "products_are_symmetric"),
    BackendSpecimen(repeats_the_first_column, "block_products_equal_single_products"),
    BackendSpecimen(scales_minibatches_by_their_share, "minibatches_are_unbiased"),
    BackendSpecimen(shrinks_with_every_product, "results_are_reproducible"),
    BackendSpecimen(rescales_at_every_bind, "two_binds_agree"),
    BackendSpecimen(is_inaccurate_below_float64, "agrees_with_float64", "float32"),
    BackendSpecimen(computes_in_float32, "operators_have_the_precision_of_the_weights"),
    BackendSpecimen(accepts_any_name, "invalid_requests_are_refused"),
    BackendSpecimen(accepts_wrong_derivatives, "wrong_derivatives_are_refused"),
    BackendSpecimen(draws_from_the_global_generator, "global_random_state_is_unchanged"),
    BackendSpecimen(changes_the_error_state, "global_switches_are_unchanged"),
    BackendSpecimen(prints, "prints_nothing"),
    BackendSpecimen(places_all_parameters_at_the_start, "layout_covers_the_vector"),
    BackendSpecimen(ignores_the_direction_of_the_loss, "loss_is_evaluated_at_the_weights"),
    BackendSpecimen(doubles_gradients_of_parameters, "gradients_match_differences_of_the_loss"),
    BackendSpecimen(ignores_the_seed_of_gradients, "gradients_of_minibatches_are_unbiased"),
    BackendSpecimen(doubles_the_product, "products_match_differences_of_the_loss"),
    BackendSpecimen(doubles_blocks_of_parameters, "parameters_are_blocks_of_the_whole"),
    BackendSpecimen(uses_only_the_first_of_several_globs, "several_patterns_select_their_parameters"),
    BackendSpecimen(keeps_an_extra_dimension, "sample_curvature_is_well_formed"),
    BackendSpecimen(
        ignores_the_precision_of_curvatures, "sample_curvature_has_the_requested_precision", "float32"
    ),
    BackendSpecimen(divides_by_the_batch_size, "sample_curvature_is_that_of_the_sample_alone"),
    BackendSpecimen(flips_the_sign, "sample_curvature_is_that_of_the_sample_alone"),
    BackendSpecimen(drops_the_last_sample, "sample_curvatures_add_up_to_the_operator"),
    BackendSpecimen(doubles_the_curvature_of_parameters, "sample_curvature_agrees_along_one_parameter"),
    *broken_classifiers.SPECIMENS,
)
