"""The weighted sum of the products of graphs with diagonal blocks, all in one pass over the graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from eigencore.errors import UsageError
from eigencore_torch.evaluation.kernels import ProductKernels
from eigencore_torch.kinds.term_graph import TermGraph
from eigencore_torch.models.params import Layout

# Graphs with their weights in the sum, and whether each is used again afterwards.
WeightedGraphs: TypeAlias = Iterator[tuple[TermGraph, float, bool]]


@dataclass(frozen=True)
class ParameterBlock:
    """Vectors V (n_b, c) of a diagonal block, the parameters that it covers, and its part (n_b, 1) of D."""

    positions: list[int]
    layout: Layout
    V: Tensor
    scale: Tensor | None

    def scaled(self, V: Tensor) -> Tensor:
        """D V."""
        return V if self.scale is None else self.scale * V


def whole_block(layout: Layout, V: Tensor, scale: Tensor | None) -> ParameterBlock:
    """All parameters of a layout as one block, for V (n, c) and the diagonal (n,) of D."""
    positions = list(range(len(layout.parameters)))
    return ParameterBlock(positions, layout, V, None if scale is None else scale[:, None])


def block_of(layout: Layout, slices: Sequence[slice], V: Tensor, scale: Tensor | None) -> ParameterBlock:
    """The block of some parameters, by their slices of a vector of the layout.

    Raises:
        UsageError: a slice is not that of a parameter, or V has another shape.
    """
    starts = {where.start: i for i, where in enumerate(layout.slices)}
    positions = [starts.get(where.start) for where in slices]
    for where, i in zip(slices, positions, strict=True):
        if i is None or layout.slices[i] != where:
            raise UsageError(f"the block has the slice {where}, which is not that of a parameter")
    known = [i for i in positions if i is not None]
    part = layout.part(known)
    if V.ndim != 2 or V.shape[0] != part.n:
        raise UsageError(f"the vectors of a block have shape {tuple(V.shape)}; expected ({part.n}, b)")
    own = None if scale is None else torch.cat([scale[where] for where in slices])[:, None]
    return ParameterBlock(known, part, V, own)


def weighted_sums(
    blocks: Sequence[ParameterBlock], graphs: WeightedGraphs, whole: Layout, kernels: ProductKernels
) -> tuple[Tensor, float]:
    """sum_t w_t A_t D V for the columns of each block, one block after another in one tensor; and sum_t w_t.

    Args:
        whole: the layout whose data type and device the sums have.
    """
    inner = [block.scaled(block.V).detach() for block in blocks]
    flat = torch.zeros(sum(V.numel() for V in inner), dtype=whole.dtype, device=whole.device)
    sums = [
        piece.view(V.T.shape)
        for piece, V in zip(torch.split(flat, [V.numel() for V in inner]), inner, strict=True)
    ]
    columns = [(b, j) for b, V in enumerate(inner) for j in range(V.shape[1])]
    total_weight = 0.0
    for graph, weight, kept in graphs:
        total_weight += weight
        kernels.decide(graph.outputs)
        with kernels.selected():
            for b, j in columns:
                layout = blocks[b].layout
                pieces = dict(zip(blocks[b].positions, layout.split(inner[b][:, j]), strict=True))
                keep = kept or (b, j) != columns[-1]
                layout.add(sums[b][j], graph.block_product(pieces, keep=keep), weight)
        del graph  # before the next one is made
    return flat, total_weight
