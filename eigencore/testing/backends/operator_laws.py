"""The laws of a bound problem and its operator: products, minibatches, reproducibility, invalid requests."""

from __future__ import annotations

import unittest
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import CapabilityError, EigencoreError, ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Bound, MinibatchOperator
from eigencore.problems.sharing import DTYPES
from eigencore.testing.backends.comparisons import (
    DRAWS,
    ROUNDING,
    SIGMAS,
    demand_close,
    demand_error,
    demand_well_formed,
)
from eigencore.testing.backends.subject import BackendSubject, direction
from eigencore.testing.checks import demand
from eigencore.testing.side_effects import (
    refuse_global_randomness,
    refuse_global_switches,
    refuse_printing,
)

if TYPE_CHECKING:
    from eigencore.space import Floats

KRYLOV_STEPS = 40


# -- the operator ------------------------------------------------------------------------------------------


def products_are_well_formed(subject: BackendSubject) -> None:
    """The product of a vector is a vector in the operator's space, and that of a block is a block."""
    A = subject.operator
    n = A.shape[0]
    demand(n >= 1 and A.shape == (n, n), f"the operator has shape {A.shape}; expected a square one")
    v = direction(A, 0)
    demand_well_formed(A.matvec(v), (n,), A, "a product")
    for columns in (1, 3):
        V = A.xp.stack([v] * columns, axis=1)
        demand_well_formed(A.matmat(V), (n, columns), A, f"the product of {columns} vectors")


def products_are_linear(subject: BackendSubject) -> None:
    A, eps = subject.operator, arrays.eps(subject.operator)
    u, v = direction(A, 1), direction(A, 2)
    together = arrays.to_host(A.matvec(2 * u - 3 * v))
    demand_close(together, arrays.to_host(2 * A.matvec(u) - 3 * A.matvec(v)), eps, "A(2u - 3v) and 2Au - 3Av")
    demand(not np.any(arrays.to_host(A.matvec(0 * u))), "the product of zeros is not zero")


def products_are_symmetric(subject: BackendSubject) -> None:
    """u'Av = v'Au, for random vectors and for vectors in the range of the operator.

    If n is large, random vectors may be almost orthogonal to the range.
    """
    A, eps = subject.operator, arrays.eps(subject.operator)
    pairs = [(A.matvec(direction(A, 3)), A.matvec(direction(A, 4))), (direction(A, 5), direction(A, 6))]
    for u, v in pairs:
        Au, Av = A.matvec(u), A.matvec(v)
        one, other = arrays.scalar(u @ Av), arrays.scalar(v @ Au)
        size = arrays.norm(u) * arrays.norm(Av) + arrays.norm(v) * arrays.norm(Au)
        demand(abs(one - other) <= ROUNDING * eps * size, f"u'Av is {one:.6g}, but v'Au is {other:.6g}")


def products_are_semidefinite(subject: BackendSubject) -> None:
    """No vector of the Krylov space of a random vector has a negative v'Av."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    v = arrays.to_host(direction(A, 13)).astype(np.float64)
    basis: list[Floats] = []
    products: list[Floats] = []
    while len(basis) < min(A.shape[0], KRYLOV_STEPS):
        for _ in range(2):  # once is not enough for orthogonality to rounding errors
            for q in basis:
                v = v - (q @ v) * q
        size = float(np.linalg.norm(v))
        if basis and size <= ROUNDING * eps * float(np.linalg.norm(products[-1])):
            break  # the space is invariant
        basis.append(v / size)
        products.append(arrays.to_host(A.matvec(arrays.from_host(basis[-1], A))).astype(np.float64))
        v = products[-1]
    projected = np.array(basis) @ np.array(products).T
    values = np.linalg.eigvalsh((projected + projected.T) / 2)
    demand(
        values[0] >= -ROUNDING * eps * float(np.abs(values).max()),
        f"v'Av is {values[0]:.6g} for a unit vector, but the kind is declared positive semidefinite",
    )


def block_products_equal_single_products(subject: BackendSubject) -> None:
    """The product of a block consists of the products of its columns."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    vectors = [direction(A, seed) for seed in (7, 8, 9)]
    block = arrays.to_host(A.matmat(A.xp.stack(vectors, axis=1)))
    single = np.stack([arrays.to_host(A.matvec(v)) for v in vectors], axis=1)
    demand_close(block, single, eps, "the product of a block and the products of its columns")


def minibatches_are_unbiased(subject: BackendSubject) -> None:
    """The mean of v'Av over minibatches is that of the whole operator, within five standard errors."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    demand(
        isinstance(A, MinibatchOperator),
        "the capability minibatches is offered, but the operator has no method minibatch",
    )
    assert isinstance(A, MinibatchOperator)
    v = A.matvec(direction(A, 10))
    v = v / arrays.norm(v)
    whole = arrays.scalar(v @ A.matvec(v))
    found = []
    for step in range(DRAWS):
        sample, share = A.minibatch(step, 0)
        demand(0 < share <= 1, f"the share of a minibatch is {share}; expected more than 0 and at most 1")
        found.append(arrays.scalar(v @ sample.matvec(v)))
    again = arrays.scalar(v @ A.minibatch(0, 0)[0].matvec(v))
    demand(
        abs(again - found[0]) <= ROUNDING * eps * abs(found[0]),
        "the same step and seed give two different minibatches",
    )
    mean, standard_error = float(np.mean(found)), float(np.std(found)) / DRAWS**0.5
    allowed = SIGMAS * standard_error + ROUNDING * eps * abs(whole)
    demand(
        abs(mean - whole) <= allowed,
        f"the mean of v'Av over {DRAWS} minibatches is {mean:.6g}; for the whole operator it is {whole:.6g}; "
        f"they may differ by at most {allowed:.2g}",
    )


# -- the bound problem -------------------------------------------------------------------------------------


def results_are_reproducible(subject: BackendSubject) -> None:
    """Computing all results a second time gives the same values."""
    _agree(subject.numbers(subject.bound), subject.numbers(subject.bound), subject, "two computations")


def two_binds_agree(subject: BackendSubject) -> None:
    """A problem that is bound twice gives the same numbers."""
    _agree(subject.numbers(subject.bound), subject.numbers(subject.bind()), subject, "two binds")


def agrees_with_float64(subject: BackendSubject) -> None:
    """Results agree with those in float64 to half of the digits of their own precision."""
    if subject.exact_dtype is None:
        raise unittest.SkipTest("the backend has no float64 to compare with")
    own, exact = subject.numbers(subject.bound), subject.numbers(subject.exact)
    demand(own.keys() == exact.keys(), f"it offers {list(own)}, but {list(exact)} in float64")
    for name, expected in exact.items():
        error, size = np.linalg.norm(own[name] - expected), np.linalg.norm(expected)
        allowed = 10 * arrays.eps(subject.operator) ** 0.5
        demand(
            error <= allowed * size,
            f"the {name} differs from float64 by {error / size:.2g} of its size; the limit is {allowed:.2g}",
        )


def operators_have_the_precision_of_the_weights(subject: BackendSubject) -> None:
    """Products have the requested data type, or else that of the weights; if it is not listed, it is refused.

    A library that computes in a shorter type by default, as JAX does, converts longer weights silently.
    """
    as_given = replace(subject, dtype=None)
    for dtype in DTYPES:
        if dtype in subject.bound.precisions:
            _demand_precision(subject, subject.bind(dtype=dtype), dtype, f"bound in {dtype}")
        else:
            demand_error(partial(subject.bind, dtype=dtype), UsageError)
    own = subject.weights_dtype
    if own is not None and own in subject.bound.precisions:
        _demand_precision(subject, as_given.bind(), own, f"bound without a data type, for {own} weights,")
    elif own is not None:
        demand_error(as_given.bind, EigencoreError)


def _demand_precision(subject: BackendSubject, bound: Bound, dtype: str, what: str) -> None:
    A = bound.operator(subject.kind)
    demand(A.dtype == getattr(A.xp, dtype), f"the operator {what} has the data type {A.dtype}")
    demand_well_formed(A.matvec(direction(A, 14)), A.shape[:1], A, f"the product of the operator {what}")


def invalid_requests_are_refused(subject: BackendSubject) -> None:
    """An unknown kind or parameter raises, and so does everything outside the offered capabilities."""
    demand_error(lambda: subject.bound.operator("no-such-kind"), UsageError)
    v = direction(subject.operator, 11)
    if not subject.kind_entry.over_weights:
        demand_error(lambda: subject.bound.operator(subject.kind, "*"), UsageError)
    elif subject.offers(Capability.WEIGHT_LOSS):
        demand_error(lambda: subject.bound.operator(subject.kind, "no/such/parameter"), UnknownNameError)
        demand_error(lambda: subject.bound.layout("no/such/parameter"), UnknownNameError)
        demand_error(lambda: subject.bound.loss(v, "no/such/parameter"), UnknownNameError)
    else:
        demand_error(subject.bound.layout, CapabilityError)
        demand_error(lambda: subject.bound.loss(v), CapabilityError)
    if not subject.offers(Capability.LOGITS):
        demand_error(subject.bound.classifier, CapabilityError)


def wrong_derivatives_are_refused(subject: BackendSubject) -> None:
    """A loss that is differentiated wrongly raises ProblemError, in the first product at the latest.

    A custom operation may have a backward pass that is not its derivative or can't be differentiated again;
    the eigenvalues are then wrong, and no certificate shows it. A comparison with central differences along
    one direction does (see `eigencore.problems.sharing.derivative_gaps`).
    """
    v = direction(subject.operator, 12)
    demand_error(lambda: subject.bind(loss=subject.wrong_loss).operator(subject.kind).matvec(v), ProblemError)


def global_random_state_is_unchanged(subject: BackendSubject) -> None:
    """Binding and computing leave the shared random generators as they were."""
    subject.numbers(subject.bound)  # the first time, reading the data may import modules that draw numbers
    refuse_global_randomness(lambda: subject.numbers(subject.bind()))


def global_switches_are_unchanged(subject: BackendSubject) -> None:
    """Binding and computing leave the settings of array libraries as they were, such as the default type.

    They hold for the whole process: other code would compute something else.
    """
    refuse_global_switches(lambda: subject.numbers(subject.bind()))


def prints_nothing(subject: BackendSubject) -> None:
    """Binding and computing print nothing."""
    refuse_printing(lambda: subject.numbers(subject.bind()))


def _agree(one: dict[str, Floats], other: dict[str, Floats], subject: BackendSubject, what: str) -> None:
    demand(one.keys() == other.keys(), f"{what} offer different things: {list(one)} and {list(other)}")
    for name, expected in one.items():
        demand_close(expected, other[name], arrays.eps(subject.operator), f"the {name}: {what}")
