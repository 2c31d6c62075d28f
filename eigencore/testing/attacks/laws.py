"""The laws of an attack: its constraints, what it finds, and how it behaves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.testing.attacks.classifiers import (
    INPUTS,
    FailingClassifier,
    constant,
    curved,
    distances,
    flat,
)
from eigencore.testing.attacks.subject import AttackSubject
from eigencore.testing.checks import demand
from eigencore.testing.side_effects import (
    refuse_global_randomness,
    refuse_printing,
    refuse_swallowed_errors,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats
    from eigencore.testing.attacks.classifiers import Dense, Limits

# Bounds of the inputs: none, the same for all entries, and different ones for each entry.
RANGES: tuple[Limits, ...] = (
    None,
    (0.0, 1.0),
    (-2.0, 5.0),
    (np.linspace(-2.0, 0.5, INPUTS), np.linspace(0.0, 3.0, INPUTS)),
)
SLACK = 1e-6  # relative to eps, or to the range of the inputs
WITHIN_REACH = 1.05  # an attack may need at most this multiple of the exact distance


# -- constraints -------------------------------------------------------------------------------------------


def returns_inputs_of_the_same_kind(subject: AttackSubject) -> None:
    """The returned inputs have the array library, shape and data type of the given inputs."""
    classifier = curved(subject.library)
    x, _ = classifier.samples()
    found = subject.run(classifier, 0.1)
    demand(arrays.is_array(found), f"it returned a {type(found).__name__}; expected an array")
    demand(arrays.namespace(found) is arrays.namespace(x), "it returned an array of another library")
    demand(tuple(found.shape) == tuple(x.shape), f"shape {tuple(found.shape)} for inputs {tuple(x.shape)}")
    demand(found.dtype == x.dtype, f"data type {found.dtype} for inputs of {x.dtype}")


def stays_in_the_ball(subject: AttackSubject) -> None:
    """No input moves by more than eps, up to rounding, whatever the range of the inputs."""
    for limits in RANGES:
        classifier = curved(subject.library, limits)
        x = arrays.to_host(classifier.samples()[0])
        span = 1.0 if limits is None else float(np.max(limits[1] - limits[0]))
        for norm, radius in subject.balls():
            for eps in (span * radius / 10, span * radius):
                moved = _lengths(arrays.to_host(subject.run(classifier, eps, norm)) - x, norm)
                most = eps * (1 + SLACK) + 4 * subject.library.eps * float(np.abs(x).max())
                demand(
                    bool(np.all(moved <= most)),
                    f"an input moved by {moved.max():g} in the norm {norm}; eps is {eps:g}, bounds {limits}",
                )


def stays_in_the_bounds(subject: AttackSubject) -> None:
    """No input leaves the bounds of the classifier, which may differ from entry to entry."""
    for limits in RANGES[1:]:
        assert limits is not None
        low, high = limits
        span = float(np.max(high - low))
        classifier = curved(subject.library, limits)
        for norm, radius in subject.balls():
            found = arrays.to_host(subject.run(classifier, 3 * span * radius, norm))
            excess = float(np.max(np.maximum(low - found, found - high)))
            demand(excess <= SLACK * span, f"an input left the bounds {limits} by {excess:g}")


# -- what it finds -----------------------------------------------------------------------------------------


def succeeds_within_reach(subject: AttackSubject) -> None:
    """With a plane as class boundary, it misclassifies each sample whose ball reaches the plane.

    An attack that minimises the norm finds the nearest point of the plane.
    """
    classifier = flat(subject.library)
    x, y = classifier.samples()
    for norm, _ in subject.balls():
        exact = distances(classifier, arrays.to_host(y).astype(np.int64), norm)
        eps = float(np.median(exact))
        found = subject.run(classifier, eps, norm)
        succeeded = _misclassified(classifier, found, y)
        reachable = exact * WITHIN_REACH < (eps if subject.fixed else np.inf)
        demand(
            bool(np.all(succeeded[reachable])),
            f"{norm}: at eps {eps:g} it failed on samples at the distances {exact[reachable & ~succeeded]}",
        )
        if not subject.fixed:
            ratio = float((_lengths(arrays.to_host(found - x), norm) / exact).max())
            demand(ratio < WITHIN_REACH, f"{norm}: an input moved {ratio:.3f} times as far as necessary")


def larger_eps_succeeds_no_less_often(subject: AttackSubject) -> None:
    """The number of misclassified samples does not fall as eps grows."""
    classifier = curved(subject.library)
    for norm, radius in subject.balls():
        _, y = classifier.samples()
        successes = [
            int(_misclassified(classifier, subject.run(classifier, eps, norm), y).sum())
            for eps in (radius / 4, radius / 2, radius, 2 * radius, 10 * radius)
        ]
        demand(
            successes == sorted(successes),
            f"{norm}: as eps grows, it succeeds on {successes} samples; expected no decrease",
        )


def is_independent_of_units(subject: AttackSubject) -> None:
    """If inputs, bounds and eps are multiplied by a power of two, so is what the attack returns.

    Without bounds, an attack that chooses its steps must infer their size from the inputs.
    """
    for limits in RANGES[:2]:
        one = curved(subject.library, limits)
        for norm, eps in subject.balls():
            expected = arrays.to_host(subject.run(one, eps, norm))
            for unit in (2.0**11, 2.0**-8):
                other = curved(subject.library, limits, unit)
                found = arrays.to_host(subject.run(other, unit * eps, norm)) / unit
                error = float(np.abs(found - expected).max())
                demand(
                    error <= 1e3 * subject.library.eps,
                    f"{norm}, bounds {limits}: with inputs {unit:g} times as large, the returned inputs "
                    f"differ by {error:g}",
                )


def accepts_a_single_sample(subject: AttackSubject) -> None:
    """A batch of one sample stays a batch."""
    whole = curved(subject.library)
    alone = replace(whole, inputs=whole.inputs[:1])
    found, expected = subject.run(alone, 0.1), (1, whole.inputs.shape[1])
    demand(
        tuple(found.shape) == expected,
        f"shape {tuple(found.shape)} for a batch of one sample; expected {expected}",
    )


def stays_finite_without_a_gradient(subject: AttackSubject) -> None:
    """If all gradients are zero, the attack cannot succeed, but it returns finite numbers."""
    for norm, eps in subject.balls():
        found = arrays.to_host(subject.run(constant(subject.library), eps, norm))
        demand(
            bool(np.all(np.isfinite(found))),
            f"{norm}: it returned numbers that are not finite when all gradients are zero",
        )


# -- how it behaves ----------------------------------------------------------------------------------------


def arguments_are_not_modified(subject: AttackSubject) -> None:
    """Inputs and labels belong to the caller and are not written to."""
    classifier = curved(subject.library)
    x, y = classifier.samples()
    before = arrays.to_host(x), arrays.to_host(y)
    subject.run_on(classifier, x, y, 0.1)
    demand(np.array_equal(arrays.to_host(x), before[0]), "the inputs were overwritten")
    demand(np.array_equal(arrays.to_host(y), before[1]), "the labels were overwritten")


def same_seed_same_bits(subject: AttackSubject) -> None:
    """Two runs with the same seed return identical inputs."""
    one, other = (arrays.to_host(subject.run(curved(subject.library), 0.1, seed=3)) for _ in range(2))
    demand(np.array_equal(one, other), "two runs with the same seed differ")


def global_random_state_is_unchanged(subject: AttackSubject) -> None:
    """The attack uses its own random generators, seeded by its argument `seed`."""
    for classifier in (curved(subject.library), constant(subject.library)):
        refuse_global_randomness(partial(subject.run, classifier, 0.1))


def errors_propagate(subject: AttackSubject) -> None:
    """An error of the classifier propagates: it may be Ctrl-C, or memory may have run out."""
    for last in (0, 1):

        def run(error: type[BaseException], last: int = last) -> None:
            subject.run(FailingClassifier(constant(subject.library), last, error), 0.1)

        refuse_swallowed_errors(run, f"by the classifier in pass {last + 1}")


def prints_nothing(subject: AttackSubject) -> None:
    refuse_printing(lambda: subject.run(curved(subject.library), 0.1))


def _lengths(x: Floats, norm: str) -> Floats:
    return np.asarray(np.linalg.norm(x, ord=np.inf if norm == "Linf" else 2, axis=1))


def _misclassified(classifier: Dense, found: Array, y: Array) -> npt.NDArray[np.bool_]:
    predicted = classifier.xp.argmax(classifier.logits(found), axis=1)
    return np.asarray(arrays.to_host(predicted) != arrays.to_host(y))
