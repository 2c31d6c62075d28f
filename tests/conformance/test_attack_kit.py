"""The attack kit is tested: correct attacks pass every check, and each broken one is caught by its law."""

from __future__ import annotations

import contextlib
import functools
import io

import numpy as np
import pytest

from eigencore.entries import AttackEntry
from eigencore.objectives import CrossEntropy, Margin
from eigencore.testing import attack_checks, check_attack
from eigencore.testing.attacks.checks import ALWAYS, IF_FIXED
from eigencore.testing.attacks.classifiers import Dense, curved, distances, flat
from eigencore.testing.attacks.subject import AttackSubject
from eigencore.testing.checks import Check
from eigencore.testing.libraries import installed, library
from kit.broken_attacks import (
    FIXED,
    SMALLEST,
    SPECIMENS,
    AttackSpecimen,
    leaves_the_ball,
    margin_descent,
    radius_bisection,
)

ONE_OF_EACH = [
    str(one) for one in installed() if str(one) in ("numpy-float64", "strict-float64", "torch-float32")
]


@pytest.mark.parametrize("check", attack_checks(margin_descent, entry=FIXED, libraries=ONE_OF_EACH))
def test_a_correct_attack_in_a_ball_passes(check: Check[AttackSubject]) -> None:
    check()


@pytest.mark.parametrize("check", attack_checks(radius_bisection, entry=SMALLEST, libraries=ONE_OF_EACH))
def test_a_correct_attack_of_minimal_norm_passes(check: Check[AttackSubject]) -> None:
    check()


@functools.cache
def caught(specimen: AttackSpecimen) -> dict[str, str]:
    """The name of each check that the specimen fails -> its message."""
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
    fixed, smallest = (
        {check.name for check in attack_checks(margin_descent, entry=e)} for e in (FIXED, SMALLEST)
    )
    assert fixed - smallest == {law.__name__ for law in IF_FIXED}


def test_an_attack_that_is_not_registered_is_assumed_to_take_a_radius() -> None:
    (entry,) = {check.subject.entry for check in attack_checks(margin_descent)}
    assert isinstance(entry, AttackEntry)
    assert (entry.name, entry.goal, entry.norms) == ("margin_descent", "fixed_eps", ("Linf", "L2"))


def test_check_attack_names_the_failed_check() -> None:
    check_attack(margin_descent)
    with pytest.raises(
        AssertionError, match=r"1 check failed\nstays_in_the_ball/numpy-float64: an input moved by 0\.0"
    ):
        check_attack(leaves_the_ball)


# -- the classifiers of the kit ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [curved, flat])
@pytest.mark.parametrize("objective", [CrossEntropy(), Margin()], ids=lambda one: type(one).__name__)
def test_gradients_match_differences(make, objective) -> None:
    classifier: Dense = make(library("numpy-float64"))
    x, y = classifier.samples()
    _, gradient = classifier.value_and_grad(objective, x, y)
    v, h = np.random.default_rng(0).standard_normal(x.shape), 1e-6
    ahead, behind = (classifier.value_and_grad(objective, x + s * h * v, y)[0] for s in (1, -1))
    np.testing.assert_allclose(np.sum(gradient * v, axis=1), (ahead - behind) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_class_changes_at_the_distance(norm: str) -> None:
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
        normals = [three.W[k] - three.W[y[row]] for k in range(3) if k != y[row]]
        steps = [np.sign(w) if norm == "Linf" else w / np.linalg.norm(w) for w in normals]
        for factor, changes in ((0.999, False), (1.001, True)):
            there = np.stack([x[row] + factor * far[row] * step for step in steps])
            assert (np.argmax(three.logits(there), axis=1) != y[row]).any() == changes
