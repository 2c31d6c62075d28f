"""Attacks that are broken on purpose, each in one way and named after it, and the law that detects each."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.entries import AttackEntry
from eigencore.interfaces import Attack, Classifier
from eigencore.objectives import Margin
from eigencore.problems.sharing import input_range
from eigencore.space import Array

STEPS, HALVINGS = 8, 13
FIXED = AttackEntry(name="margin_descent", summary="", load="", goal="fixed_eps", norms=("Linf", "L2"))
SMALLEST = AttackEntry(name="radius_bisection", summary="", load="", goal="min_norm", norms=("L2",))

AttackFault = Callable[[Array, Classifier, Array, int], Array]


@dataclass(frozen=True)
class AttackSpecimen:
    """A broken attack, the law that detects it, and a library on which it is detected."""

    attack: Attack
    caught_by: str
    library: str = "numpy-float64"
    entry: AttackEntry = FIXED

    def __str__(self) -> str:
        return getattr(self.attack, "__name__", "")


# -- two correct attacks -----------------------------------------------------------------------------------


def margin_descent(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Descends the margin in a ball of radius eps, and keeps the last iterate."""
    assert eps is not None
    radius = classifier.xp.full((x.shape[0], 1), eps, dtype=x.dtype, device=classifier.device)
    return _descended(classifier, x, y, radius, options.norm)


def radius_bisection(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Bisects between a radius at which it succeeds on a sample and one at which it does not."""
    return _bisected(classifier, x, y, input_range(x, classifier.bounds))


def _bisected(classifier: Classifier, x: Array, y: Array, span: float) -> Array:
    xp, reach = classifier.xp, span * x.shape[1] ** 0.5
    outer = xp.full((x.shape[0], 1), reach, dtype=x.dtype, device=classifier.device)
    inner = xp.zeros_like(outer)
    for _ in range(HALVINGS):
        between = (outer + inner) / 2
        succeeded = _misclassified(classifier, _descended(classifier, x, y, between, "L2"), y)
        outer, inner = xp.where(succeeded, between, outer), xp.where(succeeded, inner, between)
    return _descended(classifier, x, y, outer, "L2")


def _descended(classifier: Classifier, x: Array, y: Array, radius: Array, norm: str) -> Array:
    xp, at = classifier.xp, x
    for _ in range(STEPS):
        _, gradient = classifier.value_and_grad(Margin(), at, y)
        step = xp.sign(gradient) if norm == "Linf" else gradient / _nonzero(_lengths(gradient))
        change = at - x - radius * step / 2
        if norm == "Linf":
            change = xp.minimum(xp.maximum(change, -radius), radius)
        else:
            change = change * xp.minimum(radius / _nonzero(_lengths(change)), xp.ones_like(radius))
        at = x + change if classifier.bounds is None else xp.clip(x + change, *classifier.bounds)
    return at


def _misclassified(classifier: Classifier, x: Array, y: Array) -> Array:
    return (classifier.xp.argmax(classifier.logits(x), axis=1) != y)[:, None]


def _lengths(x: Array) -> Array:
    return arrays.namespace(x).linalg.vector_norm(x, axis=1, keepdims=True)


def _nonzero(x: Array) -> Array:
    xp = arrays.namespace(x)
    return xp.where(x > 0, x, xp.ones_like(x))


# -- broken attacks made from them -------------------------------------------------------------------------


def fault_in_answer(fault: AttackFault) -> Attack:
    """Changes the inputs that margin_descent returns: fault(found, classifier, x, seed)."""

    @functools.wraps(fault)
    def attack(
        classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        return fault(margin_descent(classifier, x, y, options, eps=eps, seed=seed), classifier, x, seed)

    return attack


@fault_in_answer
def leaves_the_ball(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Moves a hundredth further than the radius of the ball."""
    far = x + 1.01 * (found - x)
    return far if classifier.bounds is None else classifier.xp.clip(far, *classifier.bounds)


@fault_in_answer
def leaves_the_bounds(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return found if classifier.bounds is None else found + (found - x) / 100


@fault_in_answer
def keeps_the_same_bounds_for_all_entries(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Clips every entry to the range of all entries together."""
    if classifier.bounds is None:
        return found
    xp, (low, high) = classifier.xp, classifier.bounds
    return xp.clip(found + (found - x) / 100, float(xp.min(low)), float(xp.max(high)))


@fault_in_answer
def stops_half_way(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Stops half step."""
    return (found + x) / 2


@fault_in_answer
def ignores_small_changes(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Undoes changes below an absolute threshold of a thousandth."""
    xp = classifier.xp
    return xp.where(xp.abs(found - x) > 1e-3, found, x)


@fault_in_answer
def drops_the_batch_dimension(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Returns a single sample without the dimension of the batch."""
    return found[0, :] if found.shape[0] == 1 else found


@fault_in_answer
def returns_float64(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return classifier.xp.astype(found, classifier.xp.float64)


@fault_in_answer
def overwrites_its_inputs(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return arrays.write(x, ..., found)


@fault_in_answer
def ignores_the_seed(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    factors = arrays.from_host(np.random.default_rng().uniform(0.99, 1, found.shape), classifier)
    return x + factors * (found - x)


@fault_in_answer
def draws_from_the_global_generator(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    random.random()
    return found


@fault_in_answer
def prints(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    print("done")
    return found


@fault_in_answer
def divides_by_zero(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Returns NaN for a sample that has not moved, like a division by its distance."""
    xp, moved = classifier.xp, _lengths(found - x)
    return xp.where(moved > 0, found, xp.full_like(found, xp.nan))


def fails_in_large_balls(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Returns the inputs unchanged if eps is large."""
    assert eps is not None
    return margin_descent(classifier, x, y, options, eps=eps, seed=seed) if eps < 0.5 else x


def swallows_errors(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    try:
        return margin_descent(classifier, x, y, options, eps=eps, seed=seed)
    except BaseException:
        return x


def assumes_inputs_between_0_and_1(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Searches within distances of inputs between 0 and 1 if it does not know the bounds."""
    return _bisected(
        classifier, x, y, 1.0 if classifier.bounds is None else input_range(x, classifier.bounds)
    )


def overshoots_the_boundary(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Moves a tenth further than necessary."""
    return x + 1.1 * (radius_bisection(classifier, x, y, options, eps=eps, seed=seed) - x)


SPECIMENS = (
    AttackSpecimen(leaves_the_ball, "stays_in_the_ball"),
    AttackSpecimen(leaves_the_bounds, "stays_in_the_bounds"),
    AttackSpecimen(keeps_the_same_bounds_for_all_entries, "stays_in_the_bounds"),
    AttackSpecimen(stops_half_way, "succeeds_within_reach"),
    AttackSpecimen(overshoots_the_boundary, "succeeds_within_reach", entry=SMALLEST),
    AttackSpecimen(fails_in_large_balls, "larger_eps_succeeds_no_less_often"),
    AttackSpecimen(ignores_small_changes, "is_independent_of_units"),
    AttackSpecimen(assumes_inputs_between_0_and_1, "is_independent_of_units", entry=SMALLEST),
    AttackSpecimen(drops_the_batch_dimension, "accepts_a_single_sample"),
    AttackSpecimen(returns_float64, "returns_inputs_of_the_same_kind", "numpy-float32"),
    AttackSpecimen(divides_by_zero, "stays_finite_without_a_gradient"),
    AttackSpecimen(overwrites_its_inputs, "arguments_are_not_modified"),
    AttackSpecimen(ignores_the_seed, "same_seed_same_bits"),
    AttackSpecimen(draws_from_the_global_generator, "global_random_state_is_unchanged"),
    AttackSpecimen(swallows_errors, "errors_propagate"),
    AttackSpecimen(prints, "prints_nothing"),
)
