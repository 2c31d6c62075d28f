"""The kind `uncoupled` on the PyTorch backend: the block-diagonal Hessian, a block for each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eigencore_torch.bound import TorchBound
from eigencore_torch.kinds import CurvatureOptions, GradientGraph, Layout, Passes, RiskOperator, Term
from torch import Tensor


class UncoupledGraph(GradientGraph):
    """The graph of a batch: a product takes one backward pass for each parameter."""

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        last = list(pieces)[-1]
        return [
            super(UncoupledGraph, self).block_product({i: piece}, keep=keep or i != last)[0]
            for i, piece in pieces.items()
        ]


def uncoupled(bound: TorchBound, layout: Layout, options: CurvatureOptions) -> RiskOperator:
    """The Hessian without the blocks that couple two parameters; see `eigencore.interfaces.Kind`."""

    def graph(term: Term, passes: Passes) -> UncoupledGraph:
        loss = bound.risk.loss(term.batch, term.index)
        with passes():
            return UncoupledGraph(loss, layout)

    return RiskOperator(bound, layout, graph, options)
