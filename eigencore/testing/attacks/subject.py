"""The attack under test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eigencore.entries import AttackEntry
from eigencore.interfaces import Attack, Classifier
from eigencore.space import Array
from eigencore.testing.checks import loaded
from eigencore.testing.libraries import Library


@dataclass(frozen=True)
class AttackSubject:
    """An attack on one array library. `entry` is what the attack declares."""

    attack: str | Attack
    entry: AttackEntry
    library: Library
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return str(self.library)

    @property
    def fixed(self) -> bool:
        """Whether the attack takes the radius of a ball."""
        return self.entry.goal == "fixed_eps"

    def run(self, classifier: Classifier, eps: float, norm: str | None = None, seed: int = 0) -> Array:
        """The inputs that the attack returns for the samples of the classifier."""
        x, y = classifier.samples()
        return self.run_on(classifier, x, y, eps, norm, seed)

    def run_on(
        self, classifier: Classifier, x: Array, y: Array, eps: float, norm: str | None = None, seed: int = 0
    ) -> Array:
        """The inputs that the attack returns for x (b, d) with the labels y (b,).

        `eps` is ignored by an attack that takes no radius, and `norm` by one that has a single norm.
        """
        options = dict(self.options)
        if norm is not None and len(self.entry.norms) > 1:
            options["norm"] = norm
        if not isinstance(self.attack, str):
            options.setdefault("norm", self.entry.norms[0])
        attack, resolved = loaded(self.attack, self.entry, options)
        found: Array = attack(classifier, x, y, resolved, eps=eps if self.fixed else None, seed=seed)
        return found

    def balls(self) -> Iterator[tuple[str, float]]:
        """Each norm of the attack, with a radius at which some samples of `curved` can be misclassified."""
        for norm in self.entry.norms:
            yield norm, 0.1 if norm == "Linf" else 0.25
