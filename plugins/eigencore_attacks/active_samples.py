"""The samples of a batch that are still under attack.

The first misclassified iterate of a sample is kept. Its row leaves the batch once at most half of the rows
are still under attack: a compiled network is compiled again for every size of its batch. In a library whose
arrays can't be written, which compiles every operation, some rows stay longer, so that batches are halved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Space


class ActiveSamples:
    """The rows of a batch of b samples, more than half of them not misclassified yet.

    Attributes:
        x, y: inputs (b, d) and labels (b,).
        targets: the classes that a targeted attack tries in turn (b, t), or None.
        best, best_loss: the iterate of largest loss (b, d), and that loss (b,); for a misclassified sample,
            those of its first misclassified iterate.
        index: the positions of these rows in the batch (b,), on the host.
    """

    def __init__(self, space: Space, x: Array, y: Array, targets: Array | None = None):
        self._space = space
        self._gone: list[Array] = []
        self._gone_index: list[npt.NDArray[np.intp]] = []
        self.x, self.y, self.targets, self.best = x, y, targets, x
        self.best_loss = space.xp.full((x.shape[0],), -float("inf"), dtype=x.dtype, device=space.device)
        self.index = np.arange(x.shape[0])
        self._left: int = x.shape[0]

    def __len__(self) -> int:
        """The number of samples that are not misclassified yet."""
        return self._left

    def record(self, loss: Array, iterate: Array, *state: Array) -> tuple[Array, ...]:
        """Keeps iterates (b, d) whose loss (b,) is larger; above zero, the sample is misclassified.

        Returns:
            The rows of the `state` arrays that belong to the remaining rows.
        """
        xp = self._space.xp
        better = (loss > self.best_loss) & (self.best_loss <= 0)
        self.best = xp.where(better[:, None], iterate, self.best)
        self.best_loss = xp.where(better, loss, self.best_loss)
        # The only number that is brought to the host in a step.
        self._left = int(xp.sum(xp.astype(self.best_loss <= 0, xp.int32)))
        if 2 * self._left > len(self.index):
            return state
        under_attack = arrays.to_host(self.best_loss) <= 0
        remaining = self._remaining(under_attack)
        gone = np.setdiff1d(np.arange(len(self.index)), remaining)
        self._gone.append(arrays.rows(self.best, gone))
        self._gone_index.append(self.index[gone])
        self.index = self.index[remaining]
        rows = (self.x, self.y, self.best, self.best_loss, *state)
        self.x, self.y, self.best, self.best_loss, *rest = (arrays.rows(row, remaining) for row in rows)
        if self.targets is not None:
            self.targets = arrays.rows(self.targets, remaining)
        return tuple(rest)

    def _remaining(self, under_attack: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """The rows that stay: those under attack, with others up to a half, a quarter, ... of the rows."""
        under = np.flatnonzero(under_attack)
        if arrays.writeable(self._space):
            return under
        size = len(under_attack)
        while size > 1 and (size + 1) // 2 >= len(under):
            size = (size + 1) // 2
        spare = np.flatnonzero(~under_attack)[: size - len(under)]
        return np.sort(np.concatenate([under, spare]))

    def results(self) -> Array:
        """Returns an input for every sample of the batch, in the order of the batch.

        It is the misclassified iterate of a sample that has one, and the iterate of largest loss otherwise.
        """
        order = np.argsort(np.concatenate([*self._gone_index, self.index]))
        return arrays.rows(self._space.xp.concat([*self._gone, self.best]), order)
