"""Attacks do not depend on the scale of the logits, nor on that of the inputs, with or without bounds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from eigencore import attack, bind
from eigencore.entries import AttackEntry
from eigencore.registry import registry
from eigencore.results import AttackResult
from eigencore_attacks.losses import LOSSES, LogOdds
from kit.rescaled import Rescaled

EPS = {"Linf": 0.05, "L2": 0.35}  # about half of the samples can be fooled
IMAGES = 150
ENTRIES = {
    one.entry.name: one.entry
    for one in registry().entries(AttackEntry)
    if one.entry.load.startswith("eigencore_attacks.") and one.entry.extra is None
}
CASES = [(name, norm) for name, entry in ENTRIES.items() for norm in entry.norms]


@cache
def digits() -> Any:
    return bind("demo:digits-numpy", dtype="float32")


@cache
def found(
    name: str, norm: str, logits: float = 1.0, inputs: float = 1.0, bounded: bool = True
) -> AttackResult:
    classifier = Rescaled(digits().classifier(), logits=logits, inputs=inputs, bounded=bounded)
    entry = ENTRIES[name]
    options: dict[str, Any] = {"norm": norm} if len(entry.norms) > 1 else {}
    if name == "square":
        options["queries"] = 100
    eps = inputs * EPS[norm] if entry.goal == "fixed_eps" else None
    return attack(digits(), name, eps=eps, images=IMAGES, classifier=classifier, **options)


def median(result: AttackResult) -> float:
    """The median distance of the samples that were classified correctly; infinity is a distance, too."""
    return float(np.median(result.distance[result.correct]))


def agree(one: AttackResult, other: AttackResult, unit: float = 1.0) -> None:
    assert one.accuracy == pytest.approx(other.accuracy, abs=0.01)
    if one.eps is None:
        assert median(one) == pytest.approx(unit * median(other), rel=0.01)
        assert 0 < median(other) < np.inf
    else:
        assert 0.1 < other.accuracy < 0.9


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_an_attack_does_not_depend_on_the_scale_of_the_logits(name: str, norm: str, factor: float) -> None:
    agree(found(name, norm, logits=factor), found(name, norm))


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("factor", [1 / 255, 255.0, 2000.0])
def test_an_attack_does_not_depend_on_the_scale_of_the_inputs(
    name: str, norm: str, bounded: bool, factor: float
) -> None:
    agree(found(name, norm, inputs=factor, bounded=bounded), found(name, norm, bounded=bounded), factor)


@pytest.mark.parametrize("name", ["pgd", "ddn"])
def test_the_log_odds_alone_depend_on_the_scale_of_the_logits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above have power."""
    monkeypatch.setitem(LOSSES, "cross_entropy", LogOdds())
    norm = ENTRIES[name].norms[0]
    one, other = (found.__wrapped__(name, norm, logits=factor) for factor in (1e-3, 1.0))
    with pytest.raises(AssertionError):
        agree(one, other)
