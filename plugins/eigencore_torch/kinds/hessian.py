"""The kind `hessian`: the Hessian of the loss, by double backward (Pearlmutter 1994) or by differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.gradient_graph import GradientGraph
from eigencore_torch.kinds.difference import DifferenceOperator
from eigencore_torch.kinds.mean_operator import MeanRiskOperator, loss_curvature
from eigencore_torch.kinds.recorded_operator import RecordedOperator
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.kinds.term_graph import Passes
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Term

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound


def hessian(
    bound: TorchBound, layout: Layout, options: CurvatureOptions, scale: Tensor | None = None
) -> RiskOperator:
    """The Hessian of the loss over all data; see `eigencore.interfaces.Kind`.

    Args:
        scale: the diagonal (n,) of D, for D H D; None: the identity.
    """
    if bound.derivative == "difference":
        return DifferenceOperator(bound, layout, options, scale)
    if bound.route != "graph":
        return RecordedOperator(bound, layout, _graphs(bound, layout), options, scale, route=bound.route)
    return _exact(bound, layout, options, scale)


def _graphs(bound: TorchBound, layout: Layout) -> Callable[[Term, Passes], GradientGraph]:
    def graph(term: Term, passes: Passes) -> GradientGraph:
        loss = bound.risk.loss(term.batch, term.index)
        with passes():
            return GradientGraph(loss, layout)

    return graph


def _exact(
    bound: TorchBound, layout: Layout, options: CurvatureOptions, scale: Tensor | None
) -> MeanRiskOperator:
    return MeanRiskOperator(
        bound,
        layout,
        _graphs(bound, layout),
        options,
        scale,
        again=lambda other: _exact(other, layout, options, scale),
        curvature=loss_curvature,
    )
