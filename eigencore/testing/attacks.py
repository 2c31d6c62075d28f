"""Conformance checks for attacks.

    import pytest
    from eigencore.testing import attack_checks

    @pytest.mark.parametrize("check", attack_checks("mine", libraries=["numpy-float64", "torch-float32"]))
    def test_mine(check):
        check()

Each is a law of `eigencore.testing.attack_laws` and bears its name; they are chosen by the goal that the
attack's entry declares. They are held to classifiers of a few inputs, and tell that an attack keeps the rules
and follows gradients; how strong it is on a real network they can't tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eigencore.entries import AttackEntry
from eigencore.interfaces import Attack
from eigencore.registry import registry
from eigencore.testing import attack_laws as laws
from eigencore.testing.attack_laws import AttackLaw
from eigencore.testing.attack_subject import AttackSubject
from eigencore.testing.check import Check, run_all, with_known_failures
from eigencore.testing.libraries import library

ALWAYS: tuple[AttackLaw, ...] = (
    laws.returns_inputs_like_those_it_gets,
    laws.stays_in_the_bounds,
    laws.breaks_what_is_within_reach,
    laws.knows_no_unit,
    laws.one_sample_is_a_batch,
    laws.survives_without_a_gradient,
    laws.leaves_its_arguments_alone,
    laws.same_seed_same_bits,
    laws.global_randomness_is_left_alone,
    laws.errors_come_through,
    laws.prints_nothing,
)
IF_FIXED: tuple[AttackLaw, ...] = (laws.stays_in_the_ball, laws.more_room_breaks_no_fewer)


def attack_checks(
    attack: str | Attack,
    *,
    libraries: Iterable[str] = ("numpy-float64",),
    entry: AttackEntry | None = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[AttackSubject]]:
    """The checks that apply to an attack.

    Args:
        attack: a registered name, or an Attack that is not registered.
        libraries: names such as "strict-float32" (see `eigencore.testing.libraries`).
        entry: what the attack declares; left out, what it is registered with, or a fixed eps in Linf and L2.
        known_failures: name of a check, or NAME/LIBRARY, with * for any text -> the reason it can't hold.
        **options: of the attack; the norm is chosen by the checks.

    Raises:
        ValueError: a library is not installed, or a known failure fits no check.
    """
    if entry is None:
        entry = _declared(attack)
    chosen = ALWAYS + (IF_FIXED if entry.goal == "fixed_eps" else ())
    subjects = [AttackSubject(attack, entry, library(name), options) for name in libraries]
    found = [
        Check(law.__name__, str(subject.library), subject, law) for subject in subjects for law in chosen
    ]
    return with_known_failures(found, known_failures, entry.name)


def check_attack(attack: str | Attack, **as_for_attack_checks: Any) -> None:
    """Runs every check that applies, without pytest.

    Raises:
        AssertionError: with all that failed, and how.
    """
    run_all(attack_checks(attack, **as_for_attack_checks))


def _declared(attack: str | Attack) -> AttackEntry:
    if isinstance(attack, str):
        return registry().find(AttackEntry, attack)
    name = getattr(attack, "__name__", type(attack).__name__)
    return AttackEntry(name=name, summary="", load="", goal="fixed_eps", norms=("Linf", "L2"))
