"""Selects the conformance checks that apply to an attack.

The goal in the attack's entry decides which checks apply. Each check is a law of `laws` and has its name.
The laws run on small classifiers: they show that an attack respects its constraints and follows gradients,
not how strong it is on a real network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eigencore.entries import AttackEntry
from eigencore.interfaces import Attack
from eigencore.testing.attacks import laws
from eigencore.testing.attacks.subject import AttackSubject
from eigencore.testing.checks import (
    Check,
    Law,
    checks_of,
    declared_entry,
    runner_of,
    with_known_failures,
)
from eigencore.testing.libraries import library

ALWAYS: tuple[Law[AttackSubject], ...] = (
    laws.returns_inputs_of_the_same_kind,
    laws.stays_in_the_bounds,
    laws.succeeds_within_reach,
    laws.is_independent_of_units,
    laws.accepts_a_single_sample,
    laws.stays_finite_without_a_gradient,
    laws.arguments_are_not_modified,
    laws.same_seed_same_bits,
    laws.global_random_state_is_unchanged,
    laws.errors_propagate,
    laws.prints_nothing,
)
IF_FIXED: tuple[Law[AttackSubject], ...] = (
    laws.stays_in_the_ball,
    laws.larger_eps_succeeds_no_less_often,
)


def attack_checks(
    attack: str | Attack,
    *,
    libraries: Iterable[str | tuple[str, str]] = ("numpy-float64",),
    entry: AttackEntry | None = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[AttackSubject]]:
    """The checks that apply to an attack.

    Known failures are run as well. Such a check is reported as skipped, with its reason, while it fails, and
    as failed once it passes.

    Args:
        attack: a registered name, or an Attack that is not registered.
        libraries: the array libraries, such as "strict-float32" (see `eigencore.testing.libraries`), or as a
            module and a data type, such as ("jax.numpy", "float32").
        entry: what the attack declares; None: its registered entry, or an AttackEntry with a fixed eps
            and both norms.
        known_failures: name of a check or NAME/LIBRARY, with * for any text -> why the check fails.
        **options: options of the attack; the checks choose the norm.

    Raises:
        UnknownNameError: no attack has this name.
        ValueError: a library is not installed, or a known failure matches no check.

    Example:
        import pytest
        from eigencore.testing import attack_checks

        @pytest.mark.parametrize("check", attack_checks("fgsm", libraries=["numpy-float64"]))
        def test_conforms(check):
            check()
    """
    if entry is None:
        entry = declared_entry(AttackEntry, attack, goal="fixed_eps", norms=("Linf", "L2"))
    applicable = ALWAYS + (IF_FIXED if entry.goal == "fixed_eps" else ())
    subjects = [AttackSubject(attack, entry, library(name), options) for name in libraries]
    found = [check for subject in subjects for check in checks_of(subject, applicable)]
    return with_known_failures(found, known_failures, entry.name)


check_attack = runner_of(
    attack_checks,
    example="""from eigencore.testing import check_attack

        check_attack("fgsm")""",
)
