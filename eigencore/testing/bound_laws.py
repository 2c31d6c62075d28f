"""What must hold of a bound problem and its operator: each law is a function, and raises where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import CapabilityError, UnknownNameError, UsageError
from eigencore.interfaces import MinibatchOperator
from eigencore.testing.bound_subject import BoundSubject, direction, numbers
from eigencore.testing.laws import demand
from eigencore.testing.traces import refuse_global_randomness, refuse_printing

if TYPE_CHECKING:
    from collections.abc import Callable

    from eigencore.space import Array, Floats, Space

ROUNDING = 1e3  # in rounding units of what is compared
DRAWS, SIGMAS = 100, 5.0  # of minibatches


def same(one: Floats, other: Floats, eps: float, what: str) -> None:
    """Equal but for rounding, as a part of the larger of the two."""
    demand(one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}")
    size = max(float(np.max(np.abs(each), initial=0.0)) for each in (one, other))
    off = float(np.max(np.abs(one - other), initial=0.0))
    demand(off <= ROUNDING * eps * size, f"{what}: they differ by {off:.2g}, at most {size:.2g} in size")


def well_formed(x: Array, shape: tuple[int, ...], space: Space, what: str) -> None:
    """Finite numbers of the space's library, data type and device, in that shape."""
    like = arrays.zeros((1,), space)
    demand(type(x) is type(like), f"{what} is a {type(x).__name__}; expected a {type(like).__name__}")
    demand(tuple(x.shape) == shape, f"{what} has shape {tuple(x.shape)}; expected {shape}")
    demand(x.dtype == like.dtype, f"{what} is {x.dtype}; expected {like.dtype}")
    here = arrays.device_of(x)
    demand(here == arrays.device_of(like), f"{what} lives on {here}, not on {space.device}")
    demand(not getattr(x, "requires_grad", False), f"{what} carries a gradient")
    demand(arrays.is_finite(x), f"{what} is not finite")


# -- the operator ------------------------------------------------------------------------------------------


def products_are_well_formed(subject: BoundSubject) -> None:
    """A product is a vector of the operator's own kind, a block's a block, also where it has one column."""
    A = subject.operator
    n = A.shape[0]
    demand(n >= 1 and A.shape == (n, n), f"the operator has shape {A.shape}; expected a square one")
    v = direction(A, 0)
    well_formed(A.matvec(v), (n,), A, "a product")
    for columns in (1, 3):
        V = A.xp.stack([v] * columns, axis=1)
        well_formed(A.matmat(V), (n, columns), A, f"the product of {columns} vectors")


def products_are_linear(subject: BoundSubject) -> None:
    A, eps = subject.operator, arrays.eps(subject.operator)
    u, v = direction(A, 1), direction(A, 2)
    together = arrays.to_host(A.matvec(2 * u - 3 * v))
    same(together, arrays.to_host(2 * A.matvec(u) - 3 * A.matvec(v)), eps, "A(2u - 3v) and 2Au - 3Av")
    demand(not np.any(arrays.to_host(A.matvec(0 * u))), "the product of zeros is not zero")


def products_are_symmetric(subject: BoundSubject) -> None:
    """u'Av = v'Au, for vectors of the operator's range: others hardly see it where n is large."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    pairs = [(A.matvec(direction(A, 3)), A.matvec(direction(A, 4))), (direction(A, 5), direction(A, 6))]
    for u, v in pairs:
        Au, Av = A.matvec(u), A.matvec(v)
        one, other = arrays.scalar(u @ Av), arrays.scalar(v @ Au)
        size = arrays.norm(u) * arrays.norm(Av) + arrays.norm(v) * arrays.norm(Au)
        demand(abs(one - other) <= ROUNDING * eps * size, f"u'Av is {one:.6g}, v'Au is {other:.6g}")


def blocks_are_products(subject: BoundSubject) -> None:
    """A block's columns are the products of its columns."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    vectors = [direction(A, seed) for seed in (7, 8, 9)]
    block = arrays.to_host(A.matmat(A.xp.stack(vectors, axis=1)))
    single = np.stack([arrays.to_host(A.matvec(v)) for v in vectors], axis=1)
    same(block, single, eps, "a block and its columns")


def minibatches_are_unbiased(subject: BoundSubject) -> None:
    """Over the draws, v'Av is in the mean what the whole operator has, within five standard errors."""
    A, eps = subject.operator, arrays.eps(subject.operator)
    demand(isinstance(A, MinibatchOperator), "minibatches are offered, and the operator has none")
    assert isinstance(A, MinibatchOperator)
    v = A.matvec(direction(A, 10))
    v = v / arrays.norm(v)
    whole = arrays.scalar(v @ A.matvec(v))
    found = []
    for step in range(DRAWS):
        sample, share = A.minibatch(step, 0)
        demand(0 < share <= 1, f"a share of {share}; expected more than 0, and at most 1")
        found.append(arrays.scalar(v @ sample.matvec(v)))
    again = arrays.scalar(v @ A.minibatch(0, 0)[0].matvec(v))
    demand(abs(again - found[0]) <= ROUNDING * eps * abs(found[0]), "a step and seed give two minibatches")
    mean, error = float(np.mean(found)), float(np.std(found)) / DRAWS**0.5
    off = abs(mean - whole)
    allowed = SIGMAS * error + ROUNDING * eps * abs(whole)
    demand(
        off <= allowed,
        f"a mean of {mean:.6g} over {DRAWS} draws, {whole:.6g} whole; at most {allowed:.2g} off",
    )


# -- all that is bound -------------------------------------------------------------------------------------


def numbers_repeat(subject: BoundSubject) -> None:
    """Asked again, after everything else has been asked, it says the same."""
    _agree(numbers(subject.bound), numbers(subject.bound), subject, "asked twice")


def two_binds_agree(subject: BoundSubject) -> None:
    _agree(numbers(subject.bound), numbers(subject.bind()), subject, "of two binds")


def float64_agrees(subject: BoundSubject) -> None:
    """In its own precision it says what it says in float64, to half the digits."""
    own, exact = numbers(subject.bound), numbers(subject.exact)
    demand(own.keys() == exact.keys(), f"it offers {list(own)} and, in float64, {list(exact)}")
    for name, told in exact.items():
        off, size = np.linalg.norm(own[name] - told), np.linalg.norm(told)
        allowed = 10 * arrays.eps(subject.operator) ** 0.5
        demand(off <= allowed * size, f"the {name} is {off / size:.2g} of its size from float64's")


def what_is_not_there_is_refused(subject: BoundSubject) -> None:
    """A kind or parameter of an unknown name, and what is not among the capabilities."""
    refuses(lambda: subject.bound.operator("no-such-kind"), UsageError)
    v = direction(subject.operator, 11)
    if subject.offers(Capability.WEIGHT_LOSS):
        refuses(lambda: subject.bound.operator(params="no/such/parameter"), UnknownNameError)
        refuses(lambda: subject.bound.layout("no/such/parameter"), UnknownNameError)
        refuses(lambda: subject.bound.loss(v, "no/such/parameter"), UnknownNameError)
    else:
        refuses(subject.bound.layout, CapabilityError)
        refuses(lambda: subject.bound.loss(v), CapabilityError)
    if not subject.offers(Capability.LOGITS):
        refuses(subject.bound.classifier, CapabilityError)


def refuses(ask: Callable[[], object], error: type[Exception]) -> None:
    told = "nothing was raised"
    try:
        ask()
    except error:
        return
    except Exception as other:
        told = f"{type(other).__name__} was raised: {other}"
    raise AssertionError(f"{told}; expected {error.__name__}")


def global_randomness_is_left_alone(subject: BoundSubject) -> None:
    numbers(subject.bound)  # what is done once, such as a look at the data, may import things
    refuse_global_randomness(lambda: numbers(subject.bind()))


def prints_nothing(subject: BoundSubject) -> None:
    refuse_printing(lambda: numbers(subject.bind()))


def _agree(one: dict[str, Floats], other: dict[str, Floats], subject: BoundSubject, when: str) -> None:
    demand(one.keys() == other.keys(), f"{when}: {list(one)} and {list(other)}")
    for name, told in one.items():
        same(told, other[name], arrays.eps(subject.operator), f"the {name} {when}")
