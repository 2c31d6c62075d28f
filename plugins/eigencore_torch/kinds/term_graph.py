"""What a kind of operator defines for a term of the risk: the graph with which its matrix is multiplied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor


class TermGraph(Protocol):
    """The autograd graph of a term of the risk, with which its matrix is multiplied."""

    def product(self, v: Tensor, *, keep: bool) -> Sequence[Tensor | None]:
        """The matrix of the term's batch loss times the flat vector v (n,).

        Args:
            v: a direction in the selected weights.
            keep: whether the graph is used again.

        Returns:
            One piece per parameter of the layout; None stands for zeros.
        """

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block of the matrix times a direction in some parameters alone.

        Args:
            pieces: the direction in each parameter of the block, by its position in the layout.
            keep: whether the graph is used again.

        Returns:
            One piece per parameter of the block, in the order of `pieces`.
        """
