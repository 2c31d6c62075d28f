"""Attacks that are wrong, each in one way and named for it: a check that fails none proves nothing."""

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
from eigencore.space import Array

STEPS, HALVINGS = 8, 13
FIXED = AttackEntry(name="climber", summary="", load="", goal="fixed_eps", norms=("Linf", "L2"))
SMALLEST = AttackEntry(name="bisector", summary="", load="", goal="min_norm", norms=("L2",))

Spoil = Callable[[Array, Classifier, Array, int], Array]


@dataclass(frozen=True)
class AttackSpecimen:
    """A broken attack, the law that catches it, and a library on which it does."""

    attack: Attack
    caught_by: str
    library: str = "numpy-float64"
    entry: AttackEntry = FIXED

    def __str__(self) -> str:
        return getattr(self.attack, "__name__", "")


# -- two that are right ------------------------------------------------------------------------------------


def climber(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Descends the margin in a ball of radius eps, and keeps the last iterate."""
    assert eps is not None
    radius = classifier.xp.full((x.shape[0], 1), eps, dtype=x.dtype, device=classifier.device)
    return _climbed(classifier, x, y, radius, options.norm)


def bisector(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Halves the radius between one that breaks a sample and one that does not."""
    xp = classifier.xp
    low, high = classifier.bounds or (0.0, 1.0)
    reach = (high - low) * x.shape[1] ** 0.5
    broken = xp.full((x.shape[0], 1), reach, dtype=x.dtype, device=classifier.device)
    unbroken = xp.zeros_like(broken)
    for _ in range(HALVINGS):
        between = (broken + unbroken) / 2
        is_broken = _misclassified(classifier, _climbed(classifier, x, y, between, "L2"), y)
        broken, unbroken = xp.where(is_broken, between, broken), xp.where(is_broken, unbroken, between)
    return _climbed(classifier, x, y, broken, "L2")


def _climbed(classifier: Classifier, x: Array, y: Array, radius: Array, norm: str) -> Array:
    xp, at = classifier.xp, x
    for _ in range(STEPS):
        _, gradient = classifier.value_and_grad(Margin(), at, y)
        way = xp.sign(gradient) if norm == "Linf" else gradient / _nonzero(_lengths(gradient))
        change = at - x - radius * way / 2
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


# -- and others made of them -------------------------------------------------------------------------------


def spoiling(spoil: Spoil) -> Attack:
    """The climber, whose answer is spoilt."""

    @functools.wraps(spoil)
    def attack(
        classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        return spoil(climber(classifier, x, y, options, eps=eps, seed=seed), classifier, x, seed)

    return attack


@spoiling
def goes_too_far(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """A hundredth more than the ball has."""
    far = x + 1.01 * (found - x)
    return far if classifier.bounds is None else classifier.xp.clip(far, *classifier.bounds)


@spoiling
def forgets_the_bounds(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return found if classifier.bounds is None else found + (found - x) / 100


@spoiling
def timid(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Stops half way."""
    return (found + x) / 2


@spoiling
def has_a_unit(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Takes changes below a thousandth for none."""
    xp = classifier.xp
    return xp.where(xp.abs(found - x) > 1e-3, found, x)


@spoiling
def squeezes(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Drops the dimension of a single sample."""
    return found[0, :] if found.shape[0] == 1 else found


@spoiling
def widens(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return classifier.xp.astype(found, classifier.xp.float64)


@spoiling
def overwrites(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    return arrays.write(x, ..., found)


@spoiling
def has_no_seed(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    chance = arrays.from_host(np.random.default_rng().uniform(0.99, 1, found.shape), classifier)
    return x + chance * (found - x)


@spoiling
def global_random_state(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    random.random()
    return found


@spoiling
def prints(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    print("done")
    return found


@spoiling
def divides_by_zero(found: Array, classifier: Classifier, x: Array, seed: int) -> Array:
    """Of what has not moved, the direction is not a number."""
    xp, moved = classifier.xp, _lengths(found - x)
    return xp.where(moved > 0, found, xp.full_like(found, xp.nan))


def lost_in_room(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Gives up where there is much of it."""
    assert eps is not None
    return climber(classifier, x, y, options, eps=eps, seed=seed) if eps < 0.5 else x


def swallows_errors(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    try:
        return climber(classifier, x, y, options, eps=eps, seed=seed)
    except BaseException:
        return x


def content_with_less(
    classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
) -> Array:
    """Goes a tenth further than it needs to."""
    return x + 1.1 * (bisector(classifier, x, y, options, eps=eps, seed=seed) - x)


SPECIMENS = (
    AttackSpecimen(goes_too_far, "stays_in_the_ball"),
    AttackSpecimen(forgets_the_bounds, "stays_in_the_bounds"),
    AttackSpecimen(timid, "breaks_what_is_within_reach"),
    AttackSpecimen(content_with_less, "breaks_what_is_within_reach", entry=SMALLEST),
    AttackSpecimen(lost_in_room, "more_room_breaks_no_fewer"),
    AttackSpecimen(has_a_unit, "knows_no_unit"),
    AttackSpecimen(squeezes, "one_sample_is_a_batch"),
    AttackSpecimen(widens, "returns_inputs_like_those_it_gets", "numpy-float32"),
    AttackSpecimen(divides_by_zero, "survives_without_a_gradient"),
    AttackSpecimen(overwrites, "leaves_its_arguments_alone"),
    AttackSpecimen(has_no_seed, "same_seed_same_bits"),
    AttackSpecimen(global_random_state, "global_randomness_is_left_alone"),
    AttackSpecimen(swallows_errors, "errors_come_through"),
    AttackSpecimen(prints, "prints_nothing"),
)
