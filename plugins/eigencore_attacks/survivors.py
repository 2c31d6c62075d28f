"""Who is left of a batch: a sample that is broken is set aside as it is, and costs no further pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Space


class Survivors:
    """The samples of a batch that are not broken yet, b of them.

    Attributes:
        x, y: inputs (b, d) and labels (b,).
        best, highest: the iterate of largest loss (b, d), and that loss (b,).
        index: which of the batch they are (b,), on the host.
    """

    def __init__(self, space: Space, x: Array, y: Array):
        self._space = space
        self._broken: list[Array] = []
        self._whence: list[npt.NDArray[np.intp]] = []
        self.x, self.y, self.best = x, y, x
        self.highest = space.xp.full((x.shape[0],), -float("inf"), dtype=x.dtype, device=space.device)
        self.index = np.arange(x.shape[0])

    def __len__(self) -> int:
        return len(self.index)

    def look(self, loss: Array, iterate: Array, *beside: Array) -> tuple[Array, ...]:
        """Keeps iterates (b, d) of larger loss (b,), and sets those aside whose loss is above zero.

        Returns the rows of `beside` that belong to who is left.
        """
        xp, better = self._space.xp, loss > self.highest
        self.best = xp.where(better[:, None], iterate, self.best)
        self.highest = xp.where(better, loss, self.highest)
        broken = arrays.to_host(loss) > 0
        if not broken.any():
            return beside
        self._broken.append(arrays.rows(iterate, np.flatnonzero(broken)))
        self._whence.append(self.index[broken])
        self.index = self.index[~broken]
        left = np.flatnonzero(~broken)
        rows = (self.x, self.y, self.best, self.highest, *beside)
        self.x, self.y, self.best, self.highest, *beside_left = (arrays.rows(row, left) for row in rows)
        return tuple(beside_left)

    def inputs(self) -> Array:
        """Of the whole batch in its order: broken where they broke, the others at their best."""
        order = np.argsort(np.concatenate([*self._whence, self.index]))
        return arrays.rows(self._space.xp.concat([*self._broken, self.best]), order)
