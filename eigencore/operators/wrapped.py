"""What operators that wrap another one have in common: its space, its notes, and what it keeps."""

from __future__ import annotations

from typing import Any

from eigencore.operators.caching import release
from eigencore.operators.conversion import is_inexact, notes_of
from eigencore.operators.matrix_like import MatrixLike
from eigencore.processes import processes_of
from eigencore.space import LinearOperator


class WrappedOperator(MatrixLike):
    """The parts of an operator A that a wrapper passes on; a subclass multiplies.

    Whether its vectors are shards, and whether it has minibatches or samples, is for the subclass to say.
    """

    _A: Any  # the operator inside, of the type that the subclass names

    def __init__(self, A: LinearOperator):
        self._A, self.processes = A, processes_of(A)
        self.shape, self.xp, self.dtype, self.device = A.shape, A.xp, A.dtype, A.device

    def release(self, needed: int | None = None) -> None:
        """Frees what A keeps between products."""
        release(self._A, needed=needed)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of A."""
        return notes_of(self._A)

    @property
    def inexact(self) -> bool:
        """Whether the products of A have a larger error than rounding."""
        return is_inexact(self._A)
