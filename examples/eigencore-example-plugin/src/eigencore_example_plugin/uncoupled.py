"""The kind `uncoupled` on the PyTorch backend: the block-diagonal Hessian, a block for each parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from eigencore_torch.bound import TorchBound
from eigencore_torch.kinds import CurvatureOptions, GradientGraph, Layout, Passes, RiskOperator, Term


class UncoupledGraph(GradientGraph):
    """The graph of a batch: a product takes one backward pass for each parameter."""

    def __init__(self, loss: torch.Tensor, layout: Layout):
        super().__init__(loss, layout)
        self._slices = layout.slices

    def product(self, v: torch.Tensor, *, keep: bool) -> Sequence[torch.Tensor | None]:
        pieces: list[torch.Tensor | None] = []
        for i, where in enumerate(self._slices):
            alone = torch.zeros_like(v)
            alone[where] = v[where]
            last = i + 1 == len(self._slices)
            pieces.append(super().product(alone, keep=keep or not last)[i])
        return pieces


def uncoupled(bound: TorchBound, layout: Layout, options: CurvatureOptions) -> RiskOperator:
    """The Hessian without the blocks that couple two parameters; see `eigencore.interfaces.Kind`."""

    def graph(term: Term, passes: Passes) -> UncoupledGraph:
        loss = bound.risk.loss(term.batch, term.index)
        with passes():
            return UncoupledGraph(loss, layout)

    return RiskOperator(bound, layout, graph, options)
