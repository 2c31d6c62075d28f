"""What a kind of operator defines for a term of the risk: the graph with which its matrix is multiplied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from torch import Tensor
from torch.autograd.graph import Node

# Returns a context that encloses the backward passes of a graph, in which other kernels may be selected.
Passes: TypeAlias = Callable[[], AbstractContextManager[None]]


class TermGraph(Protocol):
    """The autograd graph of a term of the risk, with which its matrix is multiplied."""

    @property
    def outputs(self) -> Sequence[Node | None]:
        """The last nodes of the graph, from which all others are reached: their shapes select kernels."""

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
