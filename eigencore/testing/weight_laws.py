"""What must hold over the weights of a bound problem: its loss, its layout, and each sample's curvature."""

from __future__ import annotations

import glob
import math
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.interfaces import LinearOperator
from eigencore.objectives import CrossEntropy
from eigencore.space import Array
from eigencore.testing.bound_laws import ROUNDING, same, well_formed
from eigencore.testing.bound_subject import BoundSubject, direction, loss_in_logits
from eigencore.testing.differences import is_second_derivative, seen
from eigencore.testing.laws import demand

if TYPE_CHECKING:
    from eigencore.interfaces import Bound
    from eigencore.space import Floats

PARAMETERS = 4  # that a law looks at one by one
ALONE = 3  # samples that are bound alone


def layout_covers_the_vector(subject: BoundSubject) -> None:
    """Every weight belongs to one parameter, in the vector's order; norms are lengths."""
    layout, n = subject.bound.layout(), subject.operator.shape[0]
    at = 0
    for name, where, norm in layout:
        demand(where.start == at, f"{name} starts at {where.start}; {at} comes next")
        demand(where.stop > at and where.step in (None, 1), f"{name} lies in {where}")
        demand(norm >= 0 and math.isfinite(norm), f"{name} has a norm of {norm}")
        at = where.stop
    demand(at == n, f"the layout ends at {at}; a direction has {n} numbers")
    names = [one.name for one in layout]
    demand(len(set(names)) == len(names), f"a name comes twice: {names}")


def loss_is_that_of_the_weights(subject: BoundSubject) -> None:
    """One finite number; at a direction of zeros that of the weights themselves, elsewhere another."""
    bound, v = subject.bound, direction(subject.operator, 20)
    here, zeros, there = bound.loss(), bound.loss(0 * v), bound.loss(v)
    for loss in (here, zeros, there):
        demand(isinstance(loss, float) and math.isfinite(loss), f"the loss is {loss!r}; expected a float")
    off = abs(here - zeros)
    demand(
        off <= ROUNDING * arrays.eps(subject.operator) * abs(here), f"{here} at the weights, {zeros} at + 0"
    )
    demand(there != here, f"the loss is {here} at the weights and at a random direction from them")


def products_are_differences_of_the_loss(subject: BoundSubject) -> None:
    """v'Av is the second derivative of the loss along v: random ones, and one of large curvature."""
    bound = subject.exact
    A = bound.operator()
    large = direction(A, 21)
    for _ in range(3):
        product = A.matvec(large)
        large = product / max(arrays.norm(product), np.finfo(np.float64).tiny)
    judged = []
    for v in (large, direction(A, 22), direction(A, 23), direction(A, 24) + large):

        def loss(t: float, v: Array = v) -> Floats:
            return np.array(bound.loss(t * v))

        judged.append(is_second_derivative(np.array(arrays.scalar(v @ A.matvec(v))), loss, 1.0, "v'Av"))
    seen(judged, "the loss")


def parameters_are_parts_of_the_whole(subject: BoundSubject) -> None:
    """Over one parameter: its block of the operator, its norm, and the loss along its part of a vector."""
    bound, eps = subject.bound, arrays.eps(subject.operator)
    for name, where, norm in bound.layout()[:PARAMETERS]:
        params = glob.escape(name)
        A = bound.operator(params=params)
        (own,) = bound.layout(params)
        length = where.stop - where.start
        demand(A.shape[0] == length, f"{name} has {length} weights, its operator {A.shape[0]}")
        demand((own.name, own.where) == (name, slice(0, length)), f"{name} alone has the layout {own}")
        demand(math.isclose(own.norm, norm, rel_tol=ROUNDING * eps), f"{name} has norms {own.norm}, {norm}")
        v = direction(A, 25)
        whole = arrays.write(arrays.zeros(subject.operator.shape[:1], A), where, v)
        product = arrays.to_host(subject.operator.matvec(whole))[where]
        same(arrays.to_host(A.matvec(v)), product, eps, f"products over {name} and its block")
        one, other = bound.loss(v, params), bound.loss(whole)
        demand(math.isclose(one, other, rel_tol=ROUNDING * eps), f"losses over {name}: {one} and {other}")


def sample_curvature_is_well_formed(subject: BoundSubject) -> None:
    x, y = subject.samples()
    for objective in subject.objectives():
        curvature = subject.bound.sample_curvature(objective, direction(subject.operator, 26), x, y)
        well_formed(curvature, (x.shape[0],), subject.operator, f"sample_curvature of {objective}")


def sample_curvature_is_each_samples_own(subject: BoundSubject) -> None:
    """What the operator of a problem with that one sample has along the direction."""
    classifier = subject.exact.classifier()
    x, y = classifier.samples(ALONE)
    for i in range(x.shape[0]):
        alone = _of_one_sample(
            subject, classifier.xp.reshape(x[i : i + 1], (1, *classifier.shape)), y[i : i + 1]
        )
        objective, _ = loss_in_logits(alone)
        A = alone.operator()
        v = direction(A, 27)
        told = arrays.to_host(subject.exact.sample_curvature(objective, v, x, y))[i]
        _close(float(told), A, v, f"sample {i} alone")


def sample_curvatures_add_up_to_the_operator(subject: BoundSubject) -> None:
    """Their mean (or sum, where the loss is one) over all data is v'Av."""
    bound = subject.bind(dtype="float64", validation=None)
    objective, scale = loss_in_logits(bound)
    x, y = bound.classifier().samples()
    A = bound.operator()
    v = direction(A, 28)
    each = arrays.to_host(bound.sample_curvature(objective, v, x, y))
    _close(scale * float(np.sum(each)), A, v, "all samples together")


def parameters_have_curvature_of_their_own(subject: BoundSubject) -> None:
    """Along a direction in one parameter: that of the whole direction, zero elsewhere."""
    bound, eps = subject.bound, arrays.eps(subject.operator)
    x, y = subject.samples()
    for name, where, _ in bound.layout()[:PARAMETERS]:
        v = direction(bound.operator(params=glob.escape(name)), 29)
        whole = arrays.write(arrays.zeros(subject.operator.shape[:1], subject.operator), where, v)
        alone, among = (
            arrays.to_host(bound.sample_curvature(CrossEntropy(), along, x, y, params))
            for along, params in ((v, glob.escape(name)), (whole, None))
        )
        same(alone, among, eps, f"sample curvatures along {name}")


def _of_one_sample(subject: BoundSubject, x: Array, y: Array) -> Bound:
    return subject.bind(
        dtype="float64", data=[(x, y)], validation=None, weight=None, reduction="mean", description=""
    )


def _close(told: float, A: LinearOperator, v: Array, what: str) -> None:
    expected, size = arrays.scalar(v @ A.matvec(v)), arrays.norm(A.matvec(v))
    off = abs(told - expected)
    demand(off <= 1e-8 * size, f"{what}: a curvature of {told:.8g}; the operator has {expected:.8g}")
