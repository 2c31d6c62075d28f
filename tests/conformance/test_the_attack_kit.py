"""The checks of attacks are checked: right attacks pass all, and every broken one is caught by its own."""

from __future__ import annotations

import contextlib
import functools
import io

import numpy as np
import pytest

from eigencore.entries import AttackEntry
from eigencore.objectives import CrossEntropy, Margin
from eigencore.testing import attack_checks, check_attack
from eigencore.testing.attack_subject import AttackSubject, curved, flat
from eigencore.testing.attacks import ALWAYS, IF_FIXED
from eigencore.testing.broken_attacks import (
    FIXED,
    SMALLEST,
    SPECIMENS,
    AttackSpecimen,
    bisector,
    climber,
    goes_too_far,
)
from eigencore.testing.check import Check
from eigencore.testing.classifiers import Dense, distances
from eigencore.testing.libraries import installed, library

ONE_OF_EACH = [
    str(one) for one in installed() if str(one) in ("numpy-float64", "strict-float64", "torch-float32")
]


@pytest.mark.parametrize("check", attack_checks(climber, entry=FIXED, libraries=ONE_OF_EACH))
def test_a_right_attack_in_a_ball_passes(check: Check[AttackSubject]) -> None:
    check()


@pytest.mark.parametrize("check", attack_checks(bisector, entry=SMALLEST, libraries=ONE_OF_EACH))
def test_a_right_attack_for_the_smallest_norm_passes(check: Check[AttackSubject]) -> None:
    check()


@functools.cache
def caught(specimen: AttackSpecimen) -> dict[str, str]:
    """Name of each check that the specimen fails -> what it says."""
    found = {}
    checks = attack_checks(specimen.attack, entry=specimen.entry, libraries=[specimen.library])
    for check in checks:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                check()
            except AssertionError as failure:
                found[check.name] = str(failure)
    return found


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_attack_is_caught_by_its_law(specimen: AttackSpecimen) -> None:
    found = caught(specimen)
    assert specimen.caught_by in found
    assert "raises_nothing" not in found[specimen.caught_by]


def test_every_law_catches_an_attack() -> None:
    assert {law.__name__ for law in (*ALWAYS, *IF_FIXED)} <= {specimen.caught_by for specimen in SPECIMENS}


def test_the_checks_follow_the_goal() -> None:
    fixed, smallest = ({check.name for check in attack_checks(climber, entry=e)} for e in (FIXED, SMALLEST))
    assert fixed - smallest == {law.__name__ for law in IF_FIXED}


def test_an_attack_that_is_not_registered_is_taken_for_one_in_a_ball() -> None:
    (entry,) = {check.subject.entry for check in attack_checks(climber)}
    assert isinstance(entry, AttackEntry)
    assert (entry.name, entry.goal, entry.norms) == ("climber", "fixed_eps", ("Linf", "L2"))


def test_check_attack_tells_what_fails() -> None:
    check_attack(climber)
    with pytest.raises(
        AssertionError, match=r"1 checks failed\nstays_in_the_ball/numpy-float64: it went 0\.0"
    ):
        check_attack(goes_too_far)


# -- the classifiers that they are held to -----------------------------------------------------------------


@pytest.mark.parametrize("make", [curved, flat])
@pytest.mark.parametrize("objective", [CrossEntropy(), Margin()], ids=lambda one: type(one).__name__)
def test_their_gradients_are_those_of_their_values(make, objective) -> None:
    classifier: Dense = make(library("numpy-float64"))
    x, y = classifier.samples()
    _, gradient = classifier.value_and_grad(objective, x, y)
    v, h = np.random.default_rng(0).standard_normal(x.shape), 1e-6
    ahead, behind = (classifier.value_and_grad(objective, x + s * h * v, y)[0] for s in (1, -1))
    np.testing.assert_allclose(np.sum(gradient * v, axis=1), (ahead - behind) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_distance_is_where_the_class_changes(norm: str) -> None:
    rng = np.random.default_rng(3)
    three = Dense(
        library("numpy-float64"),
        rng.standard_normal((3, 4)),
        rng.standard_normal(3),
        rng.standard_normal((9, 4)),
    )
    x, y = three.samples()
    far = distances(three, y, norm)
    for row in range(len(y)):
        ways = [three.W[k] - three.W[y[row]] for k in range(3) if k != y[row]]
        ways = [np.sign(w) if norm == "Linf" else w / np.linalg.norm(w) for w in ways]
        for factor, changes in ((0.999, False), (1.001, True)):
            there = np.stack([x[row] + factor * far[row] * way for way in ways])
            assert (np.argmax(three.logits(there), axis=1) != y[row]).any() == changes
