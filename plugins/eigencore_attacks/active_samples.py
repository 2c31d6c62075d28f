"""The samples of a batch that are still under attack.

A sample leaves the batch at its first misclassified iterate, so it needs no further passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Space


class ActiveSamples:
    """The b samples of a batch that are not misclassified yet.

    Attributes:
        x, y: inputs (b, d) and labels (b,).
        best, best_loss: the iterate of largest loss (b, d), and that loss (b,).
        index: the positions of these samples in the batch (b,), on the host.
    """

    def __init__(self, space: Space, x: Array, y: Array):
        self._space = space
        self._misclassified: list[Array] = []
        self._misclassified_index: list[npt.NDArray[np.intp]] = []
        self.x, self.y, self.best = x, y, x
        self.best_loss = space.xp.full((x.shape[0],), -float("inf"), dtype=x.dtype, device=space.device)
        self.index = np.arange(x.shape[0])

    def __len__(self) -> int:
        return len(self.index)

    def record(self, loss: Array, iterate: Array, *state: Array) -> tuple[Array, ...]:
        """Keeps iterates (b, d) whose loss (b,) is larger, and removes the samples whose loss is above zero.

        Returns:
            The rows of the `state` arrays that belong to the remaining samples.
        """
        xp, better = self._space.xp, loss > self.best_loss
        self.best = xp.where(better[:, None], iterate, self.best)
        self.best_loss = xp.where(better, loss, self.best_loss)
        misclassified = arrays.to_host(loss) > 0
        if not misclassified.any():
            return state
        self._misclassified.append(arrays.rows(iterate, np.flatnonzero(misclassified)))
        self._misclassified_index.append(self.index[misclassified])
        self.index = self.index[~misclassified]
        remaining = np.flatnonzero(~misclassified)
        rows = (self.x, self.y, self.best, self.best_loss, *state)
        self.x, self.y, self.best, self.best_loss, *rest = (arrays.rows(row, remaining) for row in rows)
        return tuple(rest)

    def results(self) -> Array:
        """Returns an input for every sample of the batch, in the order of the batch.

        It is the misclassified iterate of a sample that has one, and the iterate of largest loss otherwise.
        """
        order = np.argsort(np.concatenate([*self._misclassified_index, self.index]))
        return arrays.rows(self._space.xp.concat([*self._misclassified, self.best]), order)
