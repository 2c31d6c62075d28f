"""What must hold of an attack: each law is a function of it, and raises where it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.testing.attack_subject import AttackSubject, Mined, constant, curved, flat
from eigencore.testing.classifiers import distances
from eigencore.testing.laws import demand
from eigencore.testing.subject import Failure, StopHere
from eigencore.testing.traces import refuse_global_randomness, refuse_printing

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats
    from eigencore.testing.classifiers import Dense

AttackLaw = Callable[[AttackSubject], None]

RANGES = (None, (0.0, 1.0), (-2.0, 5.0))  # of inputs
SLACK = 1e-6  # in parts of eps, or of the range
WITHIN_REACH = 1.05  # an attack may miss what lies between the exact distance and this much of it


# -- where it goes -----------------------------------------------------------------------------------------


def returns_inputs_like_those_it_gets(subject: AttackSubject) -> None:
    classifier = curved(subject.library)
    x, _ = classifier.samples()
    found = subject.run(classifier, 0.1)
    demand(arrays.is_array(found), f"it returned a {type(found).__name__}")
    demand(arrays.namespace(found) is arrays.namespace(x), "its arrays are of another library")
    demand(tuple(found.shape) == tuple(x.shape), f"shape {tuple(found.shape)} for inputs {tuple(x.shape)}")
    demand(found.dtype == x.dtype, f"{found.dtype} for inputs of {x.dtype}")


def stays_in_the_ball(subject: AttackSubject) -> None:
    """In inputs of any range, and as far as rounding allows."""
    for bounds in RANGES:
        classifier = curved(subject.library, bounds)
        x = arrays.to_host(classifier.samples()[0])
        span = 1.0 if bounds is None else bounds[1] - bounds[0]
        for norm, radius in subject.balls():
            for eps in (span * radius / 10, span * radius):
                moved = _lengths(arrays.to_host(subject.run(classifier, eps, norm)) - x, norm)
                most = eps * (1 + SLACK) + 4 * subject.library.eps * float(np.abs(x).max())
                told = f"it went {moved.max():g} far in a ball {norm} {eps:g}, bounds {bounds}"
                demand(bool(np.all(moved <= most)), told)


def stays_in_the_bounds(subject: AttackSubject) -> None:
    for bounds in RANGES[1:]:
        assert bounds is not None
        low, high = bounds
        classifier = curved(subject.library, bounds)
        for norm, radius in subject.balls():
            found = arrays.to_host(subject.run(classifier, 3 * (high - low) * radius, norm))
            over = max(low - float(found.min()), float(found.max()) - high)
            demand(over <= SLACK * (high - low), f"it left the bounds {bounds} by {over:g}")


# -- what it finds -----------------------------------------------------------------------------------------


def breaks_what_is_within_reach(subject: AttackSubject) -> None:
    """Before a plane it finds the nearest point, or breaks all samples whose ball reaches the plane."""
    classifier = flat(subject.library)
    x, y = classifier.samples()
    for norm, _ in subject.balls():
        exact = distances(classifier, arrays.to_host(y).astype(np.int64), norm)
        eps = float(np.median(exact))
        found = subject.run(classifier, eps, norm)
        broken = _broken(classifier, found, y)
        reached = exact * WITHIN_REACH < (eps if subject.fixed else np.inf)
        demand(bool(np.all(broken[reached])), f"{norm}: {exact[reached & ~broken]} are left at eps {eps:g}")
        if not subject.fixed:
            far = _lengths(arrays.to_host(found - x), norm) / exact
            demand(float(far.max()) < WITHIN_REACH, f"{norm}: it went {far.max():.3f} times as far as needed")


def more_room_breaks_no_fewer(subject: AttackSubject) -> None:
    classifier = curved(subject.library)
    for norm, radius in subject.balls():
        _, y = classifier.samples()
        broken = [
            int(_broken(classifier, subject.run(classifier, eps, norm), y).sum())
            for eps in (radius / 4, radius / 2, radius, 2 * radius, 10 * radius)
        ]
        demand(broken == sorted(broken), f"{norm}: with more and more room it broke {broken} samples")


def knows_no_unit(subject: AttackSubject) -> None:
    """Inputs, bounds and eps times a power of two give what it finds times that."""
    one = curved(subject.library)
    for norm, eps in subject.balls():
        expected = arrays.to_host(subject.run(one, eps, norm))
        for unit in (2.0**8, 2.0**-8):
            other = curved(subject.library, unit=unit)
            found = arrays.to_host(subject.run(other, unit * eps, norm)) / unit
            off = float(np.abs(found - expected).max())
            demand(off <= 1e3 * subject.library.eps, f"{norm}: inputs {unit:g} times as large: {off:g} off")


def one_sample_is_a_batch(subject: AttackSubject) -> None:
    whole = curved(subject.library)
    alone = replace(whole, inputs=whole.inputs[:1])
    found = subject.run(alone, 0.1)
    demand(tuple(found.shape) == (1, whole.inputs.shape[1]), f"shape {tuple(found.shape)} for one sample")


def survives_without_a_gradient(subject: AttackSubject) -> None:
    """Where all gradients are zero it finds nothing, and nothing that is not a number."""
    for norm, eps in subject.balls():
        found = arrays.to_host(subject.run(constant(subject.library), eps, norm))
        demand(bool(np.all(np.isfinite(found))), "without a gradient it returned numbers that are not finite")


# -- how it behaves ----------------------------------------------------------------------------------------


def leaves_its_arguments_alone(subject: AttackSubject) -> None:
    classifier = curved(subject.library)
    x, y = classifier.samples()
    kept = arrays.to_host(x), arrays.to_host(y)
    subject.on(classifier, x, y, 0.1)
    demand(np.array_equal(arrays.to_host(x), kept[0]), "the inputs were overwritten")
    demand(np.array_equal(arrays.to_host(y), kept[1]), "the labels were overwritten")


def same_seed_same_bits(subject: AttackSubject) -> None:
    one, other = (arrays.to_host(subject.run(curved(subject.library), 0.1, seed=3)) for _ in range(2))
    demand(np.array_equal(one, other), "two runs of a seed differ")


def global_randomness_is_left_alone(subject: AttackSubject) -> None:
    """It draws from generators of its own, seeded by what it is given."""
    for classifier in (curved(subject.library), constant(subject.library)):
        refuse_global_randomness(partial(subject.run, classifier, 0.1))


def errors_come_through(subject: AttackSubject) -> None:
    """What the classifier raises is not swallowed: it may be Ctrl-C, or memory that ran out."""
    for error in (StopHere, Failure):
        for last in (0, 1):
            try:
                subject.run(Mined(constant(subject.library), last, error), 0.1)
            except error:
                continue
            raise AssertionError(f"{error.__name__}, raised in pass {last + 1}, never came out of the attack")


def prints_nothing(subject: AttackSubject) -> None:
    refuse_printing(lambda: subject.run(curved(subject.library), 0.1))


def _lengths(x: Floats, norm: str) -> Floats:
    return np.asarray(np.linalg.norm(x, ord=np.inf if norm == "Linf" else 2, axis=1))


def _broken(classifier: Dense, found: Array, y: Array) -> npt.NDArray[np.bool_]:
    predicted = classifier.xp.argmax(classifier.logits(found), axis=1)
    return np.asarray(arrays.to_host(predicted) != arrays.to_host(y))
