"""The laws over the weights of a bound problem: its loss, its layout, and the curvature of each sample."""

from __future__ import annotations

import glob
import math
import re
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.analyses.block_products import embedded
from eigencore.interfaces import LinearOperator
from eigencore.objectives import CrossEntropy
from eigencore.space import Array, BlockedOperator
from eigencore.testing.backends.comparisons import (
    DRAWS,
    ROUNDING,
    SIGMAS,
    demand_close,
    demand_well_formed,
)
from eigencore.testing.backends.differences import (
    check_first_derivative,
    check_second_derivative,
    skip_unless_any,
)
from eigencore.testing.backends.subject import BackendSubject, direction, loss_in_logits
from eigencore.testing.checks import demand

if TYPE_CHECKING:
    from eigencore.interfaces import Bound
    from eigencore.space import Floats

PARAMETERS = 4  # the number of parameters that a law examines one by one
ALONE = 3  # the number of samples that are bound separately


def layout_covers_the_vector(subject: BackendSubject) -> None:
    """Every weight belongs to exactly one parameter, in the order of the vector; norms are not negative."""
    layout, n = subject.bound.layout(), subject.operator.shape[0]
    next_index = 0
    for name, where, norm in layout:
        demand(where.start == next_index, f"{name} starts at {where.start}; expected {next_index}")
        demand(where.stop > next_index and where.step in (None, 1), f"{name} has the slice {where}")
        demand(norm >= 0 and math.isfinite(norm), f"{name} has a norm of {norm}")
        next_index = where.stop
    demand(next_index == n, f"the layout ends at {next_index}; a direction has {n} numbers")
    names = [one.name for one in layout]
    demand(len(set(names)) == len(names), f"a name occurs twice in the layout: {names}")


def loss_is_evaluated_at_the_weights(subject: BackendSubject) -> None:
    """A finite float, which a direction of zeros does not change and a random direction does."""
    bound, v = subject.bound, direction(subject.operator, 20)
    here, zeros, there = bound.loss(), bound.loss(0 * v), bound.loss(v)
    for loss in (here, zeros, there):
        demand(
            isinstance(loss, float) and math.isfinite(loss), f"the loss is {loss!r}; expected a finite float"
        )
    demand(
        abs(here - zeros) <= ROUNDING * arrays.eps(subject.operator) * abs(here),
        f"the loss is {here} at the weights, but {zeros} along a direction of zeros",
    )
    demand(there != here, f"the loss is {here} at the weights and also along a random direction from them")


def gradients_match_differences_of_the_loss(subject: BackendSubject) -> None:
    """g'v is the derivative of the loss along v, and the gradient over one parameter is a part of g."""
    bound = subject.exact
    A, g = bound.operator(), bound.gradient()
    demand_well_formed(g, A.shape[:1], A, "the gradient")
    changed = []
    for v in (direction(A, 25), g / max(arrays.norm(g), np.finfo(np.float64).tiny)):

        def loss(t: float, v: Array = v) -> Floats:
            return np.array(bound.loss(t * v))

        changed.append(
            check_first_derivative(np.array(arrays.scalar(g @ v)), loss, 1.0, "g'v", arrays.eps(A))
        )
    skip_unless_any(changed, "the loss")
    one = bound.layout()[0]
    part = bound.gradient(glob.escape(one.name))
    whole = arrays.to_host(g)[one.where]
    demand_close(arrays.to_host(part), whole, arrays.eps(A), f"the gradients over {one.name}")


def gradients_of_minibatches_are_unbiased(subject: BackendSubject) -> None:
    """Their mean is the gradient over all data, within five standard errors along it."""
    bound, eps = subject.bound, arrays.eps(subject.operator)
    g = arrays.to_host(bound.gradient())
    along = g / (np.linalg.norm(g) or 1.0)
    found = [arrays.to_host(bound.gradient(minibatch=(step, 0, 1))) @ along for step in range(DRAWS)]
    again = arrays.to_host(bound.gradient(minibatch=(0, 0, 1))) @ along
    demand_close(np.array([again]), np.array(found[:1]), eps, "two gradients over the same minibatch")
    mean, error, whole = float(np.mean(found)), float(np.std(found)) / DRAWS**0.5, float(g @ along)
    allowed = SIGMAS * error + ROUNDING * eps * abs(whole)
    demand(
        abs(mean - whole) <= allowed,
        f"along the gradient, the mean over {DRAWS} minibatches is {mean:.6g} and that over all data "
        f"{whole:.6g}; they may differ by at most {allowed:.2g}",
    )


def products_match_differences_of_the_loss(subject: BackendSubject) -> None:
    """v'Av is the second derivative of the loss along v, a random direction or one of large curvature."""
    bound = subject.exact
    A = bound.operator()
    large = direction(A, 21)
    for _ in range(3):
        product = A.matvec(large)
        large = product / max(arrays.norm(product), np.finfo(np.float64).tiny)
    changed = []
    for v in (large, direction(A, 22), direction(A, 23), direction(A, 24) + large):

        def loss(t: float, v: Array = v) -> Floats:
            return np.array(bound.loss(t * v))

        curvature = np.array(arrays.scalar(v @ A.matvec(v)))
        changed.append(check_second_derivative(curvature, loss, 1.0, "v'Av", arrays.eps(A)))
    skip_unless_any(changed, "the loss")


def parameters_are_blocks_of_the_whole(subject: BackendSubject) -> None:
    """The operator, layout and loss of one parameter agree with those of all parameters together."""
    bound, eps = subject.bound, arrays.eps(subject.operator)
    for name, where, norm in bound.layout()[:PARAMETERS]:
        params = glob.escape(name)
        A = bound.operator(subject.kind, params)
        (own,) = bound.layout(params)
        length = where.stop - where.start
        demand(A.shape[0] == length, f"{name} has {length} weights, but its operator has {A.shape[0]} rows")
        demand((own.name, own.where) == (name, slice(0, length)), f"the layout of {name} on its own is {own}")
        demand(
            math.isclose(own.norm, norm, rel_tol=ROUNDING * eps),
            f"{name} has the norm {own.norm} on its own and {norm} in the whole layout",
        )
        v = direction(A, 25)
        whole = arrays.write(arrays.zeros(subject.operator.shape[:1], A), where, v)
        product = arrays.to_host(subject.operator.matvec(whole))[where]
        what = f"the product over {name} and that of its block of the whole operator"
        demand_close(arrays.to_host(A.matvec(v)), product, eps, what)
        one, other = bound.loss(v, params), bound.loss(whole)
        demand(
            math.isclose(one, other, rel_tol=ROUNDING * eps),
            f"the loss along a direction in {name} is {one} on its own and {other} in the whole vector",
        )


def block_products_are_those_of_the_blocks(subject: BackendSubject) -> None:
    """The products of several diagonal blocks at once are those of the operators over their parameters."""
    A, bound = subject.operator, subject.bound
    assert isinstance(A, BlockedOperator)
    first, *others = bound.layout()[:PARAMETERS]
    groups = [[first], others[::-1]] if others else [[first]]
    blocks = [[one.where for one in group] for group in groups]
    sizes = [sum(where.stop - where.start for where in block) for block in blocks]
    Vs = [A.xp.stack([direction(A, 30 + i + j)[:n] for j in range(2)], axis=1) for i, n in enumerate(sizes)]
    found = A.block_products(blocks, Vs)
    for block, V, product in zip(blocks, Vs, found, strict=True):
        expected = A.matmat(embedded(A, block, V))
        expected = A.xp.concat([expected[where, :] for where in block])
        what = "the products of a diagonal block, together with others and on its own"
        demand_close(arrays.to_host(product), arrays.to_host(expected), arrays.eps(A), what)


def several_patterns_select_their_parameters(subject: BackendSubject) -> None:
    """Patterns of every kind select every parameter that one of them matches, once and in its order."""
    chosen = [one for one in subject.bound.layout() if "," not in one.name][-2:]
    names, sizes = [one.name for one in chosen], [one.where.stop - one.where.start for one in chosen]
    globs = [glob.escape(name) for name in (*reversed(names), *names)]
    regex = "re:^(" + "|".join(map(re.escape, names)) + ")$"
    for params in (globs, ",".join(globs), regex, lambda name: name in names):
        found = [one.name for one in subject.bound.layout(params)]
        demand(found == names, f"the layout of {params} has {found}; expected {names}")
        n = subject.bound.operator(subject.kind, params).shape[0]
        demand(n == sum(sizes), f"the operator over {params} has {n} rows; expected {sum(sizes)}")


def sample_curvature_is_well_formed(subject: BackendSubject) -> None:
    """One finite number per sample."""
    x, y = subject.samples()
    for objective in subject.objectives():
        curvature = subject.bound.sample_curvature(objective, direction(subject.operator, 26), x, y)
        space = subject.bound.classifier()
        demand_well_formed(curvature, (x.shape[0],), space, f"sample_curvature of {objective}")


def sample_curvature_has_the_requested_precision(subject: BackendSubject) -> None:
    """In every available precision it is of that type, and agrees with that in the operator's precision."""
    x, y = subject.samples()
    v = direction(subject.operator, 30)
    own = arrays.to_host(subject.bound.sample_curvature(CrossEntropy(), v, x, y))
    for dtype in subject.bound.precisions:
        space = subject.bound.classifier(dtype)
        found = subject.bound.sample_curvature(CrossEntropy(), v, x, y, dtype=dtype)
        demand_well_formed(found, (x.shape[0],), space, f"sample_curvature(dtype={dtype!r})")
        allowed = 10 * max(arrays.eps(space), arrays.eps(subject.operator)) ** 0.5
        error, size = np.linalg.norm(arrays.to_host(found) - own), np.linalg.norm(own)
        demand(
            error <= allowed * size,
            f"sample curvatures in {dtype} and in the precision of the operator differ by {error:.2g}; their "
            f"norm is {size:.2g}",
        )


def sample_curvature_is_that_of_the_sample_alone(subject: BackendSubject) -> None:
    """The curvature of a sample is v'Av for the operator of the problem that has only this sample."""
    classifier = subject.exact.classifier()
    x, y = classifier.samples(ALONE)
    for i in range(x.shape[0]):
        alone = _bound_to_one_sample(
            subject, classifier.xp.reshape(x[i : i + 1], (1, *classifier.shape)), y[i : i + 1]
        )
        objective, _ = loss_in_logits(alone)
        A = alone.operator()
        v = direction(A, 27)
        reported = arrays.to_host(subject.exact.sample_curvature(objective, v, x, y))[i]
        _demand_curvature(float(reported), A, v, f"sample {i} alone")


def sample_curvatures_add_up_to_the_operator(subject: BackendSubject) -> None:
    """The mean of the curvatures over all data, or their sum if the loss is a sum, is v'Av."""
    bound = subject.bind(dtype=subject.exact_dtype, validation=None)
    objective, scale = loss_in_logits(bound)
    x, y = bound.classifier().samples()
    A = bound.operator()
    v = direction(A, 28)
    each = arrays.to_host(bound.sample_curvature(objective, v, x, y))
    _demand_curvature(scale * float(np.sum(each)), A, v, "all samples together")


def sample_curvature_agrees_along_one_parameter(subject: BackendSubject) -> None:
    """The curvature along a direction in one parameter is the same if the direction is padded with zeros."""
    bound, eps = subject.bound, arrays.eps(subject.operator)
    x, y = subject.samples()
    for name, where, _ in bound.layout()[:PARAMETERS]:
        v = direction(bound.operator(params=glob.escape(name)), 29)
        whole = arrays.write(arrays.zeros(subject.operator.shape[:1], subject.operator), where, v)
        one, other = (
            arrays.to_host(bound.sample_curvature(CrossEntropy(), along, x, y, params))
            for along, params in ((v, glob.escape(name)), (whole, None))
        )
        what = f"sample curvatures along a direction in {name}, on its own and in the whole vector,"
        demand_close(one, other, eps, what)


def classifiers_at_moved_weights_have_their_loss(subject: BackendSubject) -> None:
    """The classifier at weights + v has the loss that is reported there, also for v over one parameter."""
    bound = subject.bind(dtype=subject.exact_dtype, validation=None)
    objective, scale = loss_in_logits(bound)
    x, y = bound.classifier().samples()
    for params in (None, *(glob.escape(one.name) for one in bound.layout()[:PARAMETERS])):
        A = bound.operator(params=params)
        for v in (direction(A, 32), -3 * direction(A, 33)):
            logits = bound.classifier(direction=v, params=params).logits(x)
            found = scale * float(np.sum(arrays.to_host(objective.value(logits, y))))
            reported = bound.loss(v, params)
            demand(
                math.isclose(found, reported, rel_tol=ROUNDING * arrays.eps(A)),
                f"the classifier at weights + v has the loss {found:.8g}; that reported for v is "
                f"{reported:.8g}",
            )


def classifiers_at_moved_weights_are_independent(subject: BackendSubject) -> None:
    """Zeros move nothing, a classifier keeps its weights, and its precision is the requested one."""
    bound, v = subject.bound, direction(subject.operator, 34)
    own = bound.classifier()
    x, _ = subject.samples(own)
    before, moved = arrays.to_host(own.logits(x)), bound.classifier(direction=v)
    at_v, eps = arrays.to_host(moved.logits(x)), arrays.eps(own)
    opposite = arrays.to_host(bound.classifier(direction=-v).logits(x))
    demand(not np.array_equal(at_v, opposite), "the logits are equal at weights + v and weights - v")
    for what, found, expected in (
        (
            "the logits at the weights and along a direction of zeros",
            bound.classifier(direction=0 * v),
            before,
        ),
        ("logits before and after other classifiers were moved", own, before),
        ("logits of new classifiers before and after others were moved", bound.classifier(), before),
        ("logits at moved weights before and after another classifier was moved", moved, at_v),
    ):
        demand_close(arrays.to_host(found.logits(x)), expected, eps, what)
    for dtype in bound.precisions:
        classifier = bound.classifier(dtype, direction=v)
        logits = classifier.logits(subject.samples(classifier)[0])
        demand_well_formed(logits, at_v.shape, bound.classifier(dtype), f"logits of classifier({dtype!r})")
        allowed = max(arrays.eps(classifier), eps)
        demand_close(arrays.to_host(logits), at_v, allowed, f"logits at moved weights in {dtype}")


def _bound_to_one_sample(subject: BackendSubject, x: Array, y: Array) -> Bound:
    return subject.bind(
        dtype=subject.exact_dtype,
        data=[(x, y)],
        validation=None,
        weight=None,
        reduction="mean",
        description="",
    )


def _demand_curvature(reported: float, A: LinearOperator, v: Array, what: str) -> None:
    expected, size = arrays.scalar(v @ A.matvec(v)), arrays.norm(A.matvec(v))
    demand(
        abs(reported - expected) <= arrays.eps(A) ** 0.5 * size,
        f"{what}: the sample curvature is {reported:.8g}; v'Av is {expected:.8g}",
    )
