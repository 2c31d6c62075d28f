"""Every bundled attack passes the conformance kit on every array library, also with other options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eigencore.testing import attack_checks
from eigencore.testing.attacks.subject import AttackSubject
from eigencore.testing.checks import Check
from eigencore.testing.libraries import installed

STRICT = [str(one) for one in installed() if one.name == "strict"]
OTHERS = [str(one) for one in installed() if one.name != "strict"]

# array-api-strict is slow, so it runs fewer steps.
RUNS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("fgsm", STRICT + OTHERS, {}),
    ("pgd", OTHERS, {}),
    ("pgd", STRICT, {"steps": 8}),
    ("pgd", OTHERS, {"step": 0.25, "restarts": 3}),
    ("pgd", OTHERS, {"loss": "margin", "steps": 10}),
    ("apgd", OTHERS, {}),
    ("apgd", STRICT, {"steps": 8, "restarts": 2}),
    ("apgd_t", OTHERS, {"steps": 50}),
    ("apgd_t", STRICT, {"steps": 8}),
    ("square", ["numpy-float64"], {"queries": 300}),
    ("square", [one for one in STRICT + OTHERS if one.endswith("32")], {"queries": 50}),
    ("ddn", OTHERS, {}),
    ("ddn", STRICT, {"steps": 30, "gamma": 0.1}),
    ("fmn", OTHERS, {}),
    ("fmn", STRICT, {"steps": 30, "gamma": 0.1}),
    ("deepfool", OTHERS, {}),
    ("deepfool", STRICT, {"steps": 8, "targets": 1}),
]


def checks() -> Iterator[Any]:
    for name, libraries, options in RUNS:
        setting = "-".join([name, *(f"{key}={value}" for key, value in options.items())])
        for check in attack_checks(name, libraries=libraries, **options):
            yield pytest.param(check, id=f"{setting}-{check.__name__}")


@pytest.mark.parametrize("check", list(checks()))
def test_an_attack_passes_the_check(check: Check[AttackSubject]) -> None:
    check()
