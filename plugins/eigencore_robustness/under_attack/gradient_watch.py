"""The gradients that an attack follows: of the loss that it climbs, in the precision that it uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.problems.sharing import channel_axis

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array


class GradientWatch:
    """A classifier that counts the gradients taken of it, and those that are exactly zero.

    An attack that is given this classifier shows what it follows, whatever its loss.
    """

    def __init__(self, classifier: Classifier):
        self._classifier = classifier
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes, self.bounds = classifier.shape, classifier.classes, classifier.bounds
        self.channel_axis = channel_axis(classifier)
        self.samples, self.logits = classifier.samples, classifier.logits
        self._taken, self._zero = 0, self.xp.zeros((), dtype=self.dtype, device=self.device)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        value, gradient = self._classifier.value_and_grad(objective, x, y)
        self._taken += x.shape[0]
        # Added up on the device, because a transfer in every step would delay the attack.
        zero = self.xp.astype(self.xp.all(gradient == 0, axis=1), self.dtype)
        self._zero = self._zero + self.xp.sum(zero)
        return value, gradient

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        return self._classifier.input_products(objective, x, y)

    @property
    def zero_share(self) -> float:
        """The share of the gradients that are zero; 0 if none was taken."""
        return arrays.scalar(self._zero) / max(self._taken, 1)
