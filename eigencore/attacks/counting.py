"""A classifier that counts the passes through its network, in samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eigencore.problems.sharing import channel_axis

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier, Objective
    from eigencore.space import Array


class CountingClassifier:
    """Wraps a classifier. `forward` and `backward` are the passes so far, in samples."""

    def __init__(self, classifier: Classifier):
        self._classifier = classifier
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes, self.bounds = classifier.shape, classifier.classes, classifier.bounds
        self.channel_axis = channel_axis(classifier)
        self.samples = classifier.samples
        self.forward = self.backward = 0

    def logits(self, x: Array, /) -> Array:
        self._count(x, 1, 0)
        return self._classifier.logits(x)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        self._count(x, 1, 1)
        return self._classifier.value_and_grad(objective, x, y)

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        self._count(x, 1, 1)
        product = self._classifier.input_products(objective, x, y)

        def counted(v: Array) -> Array:
            self._count(v, 0, 1)
            return product(v)

        return counted

    def _count(self, x: Array, forward: int, backward: int) -> None:
        self.forward += forward * x.shape[0]
        self.backward += backward * x.shape[0]
