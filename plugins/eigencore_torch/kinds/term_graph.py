"""What a kind of operator defines for a term of the risk: the graph with which its matrix is multiplied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
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

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """The matrix of the term's batch loss, or a diagonal block of it, times a direction.

        Args:
            pieces: the direction in each parameter of the block, by its position in the layout; all
                parameters for the whole matrix.
            keep: whether the graph is used again.

        Returns:
            One piece per parameter of the block, in the order of `pieces`; None stands for zeros.
        """


@dataclass(frozen=True)
class KeptGraph:
    """The graph of a term that is kept between products, without the term's data.

    Attributes:
        index: the number of the term's batch.
        last: whether it is the last term of its batch.
        weight: the weight of the term in the risk.
    """

    index: int
    last: bool
    weight: float
    graph: TermGraph
