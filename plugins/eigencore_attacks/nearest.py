"""The nearest misclassified input to each sample, as far as it has been found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.problems.sharing import clip_to_bounds
from eigencore_attacks.losses import LOSSES
from eigencore_attacks.norm_ball import lengths

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array
    from eigencore_attacks.norm_ball import Norm

BISECTIONS = 10  # one forward pass each


class Nearest:
    """The misclassified iterate nearest to each of b samples.

    Attributes:
        x, y: the samples (b, d) and their labels (b,).
        norm: the norm of the distances.
        inputs, distance: the iterates (b, d) and their distances (b, 1); the sample itself and infinity where
            there is none.
    """

    def __init__(self, x: Array, y: Array, norm: Norm):
        xp = arrays.namespace(x)
        self.x, self.y, self.norm = x, y, norm
        self.inputs, self.distance = x, xp.full_like(x[:, :1], math.inf)

    @property
    def found(self) -> Array:
        """Whether a sample has a misclassified iterate (b, 1)."""
        return self.distance < math.inf

    def distances(self, at: Array) -> Array:
        """The distances of iterates (b, d) from the samples (b, 1)."""
        return lengths(at - self.x, self.norm)

    def record(self, at: Array, loss: Array) -> None:
        """Keeps nearer iterates (b, d) whose loss (b,) is above zero, which are misclassified."""
        xp, distance = arrays.namespace(at), self.distances(at)
        better = (loss[:, None] > 0) & (distance < self.distance)
        self.inputs = xp.where(better, at, self.inputs)
        self.distance = xp.where(better, distance, self.distance)

    def evaluate(self, classifier: Classifier, at: Array) -> None:
        """Keeps iterates (b, d) that are nearer and misclassified, which takes a forward pass."""
        self.record(at, LOSSES["cross_entropy"].value(classifier.logits(at), self.y))

    def bisected(self, classifier: Classifier) -> Array:
        """Bisects the segments from the samples to their iterates; returns the misclassified ends (b, d)."""
        xp, loss, change = classifier.xp, LOSSES["cross_entropy"], self.inputs - self.x
        wrong, right = xp.ones_like(self.distance), xp.zeros_like(self.distance)
        for _ in range(BISECTIONS):
            middle = (wrong + right) / 2
            misclassified = loss.value(classifier.logits(self.x + middle * change), self.y)[:, None] > 0
            wrong, right = xp.where(misclassified, middle, wrong), xp.where(misclassified, right, middle)
        return clip_to_bounds(self.x + wrong * change, classifier.bounds)
