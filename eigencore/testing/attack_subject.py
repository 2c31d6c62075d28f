"""The attack under test, and the classifiers that it is let loose on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from eigencore.entries import AttackEntry
from eigencore.interfaces import Attack, Classifier, Objective
from eigencore.options import resolve
from eigencore.registry import load, load_options
from eigencore.space import Array
from eigencore.testing.classifiers import Dense
from eigencore.testing.libraries import Library
from eigencore.testing.subject import StopHere

SAMPLES, INPUTS = 12, 10
Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class AttackSubject:
    """An attack on one array library. `entry` says what it declares."""

    attack: str | Attack
    entry: AttackEntry
    library: Library
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed(self) -> bool:
        return self.entry.goal == "fixed_eps"

    def run(self, classifier: Classifier, eps: float, norm: str | None = None, seed: int = 0) -> Array:
        """What it makes of the classifier's samples; eps is for an attack that takes one."""
        x, y = classifier.samples()
        return self.on(classifier, x, y, eps, norm, seed)

    def on(
        self, classifier: Classifier, x: Array, y: Array, eps: float, norm: str | None = None, seed: int = 0
    ) -> Array:
        given = dict(self.options)
        if norm is not None and len(self.entry.norms) > 1:
            given["norm"] = norm
        attack: Attack
        options: Any = SimpleNamespace(**{"norm": self.entry.norms[0]} | given)
        if isinstance(self.attack, str):
            declared = load_options(self.entry)
            attack = load(self.entry)
            options = None if declared is None else resolve(declared, given, entry=self.attack)
        else:
            attack = self.attack
        return attack(classifier, x, y, options, eps=eps if self.fixed else None, seed=seed)

    def balls(self) -> Iterator[tuple[str, float]]:
        """Each norm that it bounds, with a radius that breaks some samples of `curved` and leaves others."""
        for norm in self.entry.norms:
            yield norm, 0.1 if norm == "Linf" else 0.25


def curved(library: Library, bounds: Bounds = (0.0, 1.0), unit: float = 1.0) -> Dense:
    """Three classes with curved boundaries, over inputs of any unit; some samples lie on the bounds."""
    rng = np.random.default_rng(0)
    low, high = bounds or (-1.0, 1.0)
    span = high - low
    x = np.clip(rng.uniform(low - 0.2 * span, high + 0.2 * span, (SAMPLES, INPUTS)), low, high)
    U = 2 * rng.standard_normal((8, INPUTS)) / span
    return Dense(
        library,
        W=rng.standard_normal((3, 8)),
        b=np.zeros(3),
        inputs=unit * x,
        bounds=None if bounds is None else (unit * low, unit * high),
        inside=(U / unit, -U @ np.full(INPUTS, (low + high) / 2)),
    )


def flat(library: Library) -> Dense:
    """Two classes with a plane between them, and no bounds: the way to it is known."""
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((2, INPUTS)), rng.standard_normal(2)
    return Dense(library, W, b, inputs=rng.standard_normal((SAMPLES, INPUTS)) / 3)


def constant(library: Library) -> Dense:
    """Class 1 everywhere, with no gradient at all."""
    x = np.random.default_rng(2).uniform(size=(SAMPLES, INPUTS))
    return Dense(library, np.zeros((3, INPUTS)), np.array([0.0, 1.0, 0.5]), x, bounds=(0.0, 1.0))


class Mined:
    """A classifier that raises in a pass after `last` of them."""

    def __init__(self, classifier: Classifier, last: int, error: type[BaseException] = StopHere):
        self._classifier, self._left, self._error = classifier, last, error
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes, self.bounds = classifier.shape, classifier.classes, classifier.bounds
        self.samples, self.input_products = classifier.samples, classifier.input_products

    def logits(self, x: Array, /) -> Array:
        self._pass()
        return self._classifier.logits(x)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        self._pass()
        return self._classifier.value_and_grad(objective, x, y)

    def _pass(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error()
