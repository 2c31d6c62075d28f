"""The kind `ggn`: the generalised Gauss-Newton matrix J'HJ, with the Hessian H of the loss over the outputs.

It is the Hessian of the loss if the model is replaced by its linearisation at the weights, and positive
semidefinite if the loss is convex in the outputs (Schraudolph, Neural Computation 14 (2002) 1723-1738).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.kinds.mean_operator import MeanRiskOperator, Sample
from eigencore_torch.kinds.output_graph import (
    OutputGraph,
    OutputLoss,
    OutputMatrix,
    evaluate,
    gradients_in_outputs,
    output_graphs,
)
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Term

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound


def ggn(
    bound: TorchBound, layout: Layout, options: CurvatureOptions, scale: Tensor | None = None
) -> MeanRiskOperator:
    """The generalised Gauss-Newton matrix of the loss over all data; see `eigencore.interfaces.Kind`.

    Args:
        scale: the diagonal (n,) of D, for D J'HJ D; None: the identity.

    Raises:
        CapabilityError: products are to be taken by differences.
        ProblemError: in a product, the loss depends on the weights other than through the model's outputs.
    """
    bound.require_hessian("ggn")
    graphs = output_graphs(bound.risk, layout, hessian_in_outputs, "ggn")
    return MeanRiskOperator(
        bound,
        layout,
        graphs,
        options,
        scale,
        again=lambda other: ggn(other, layout, options, scale),
        curvature=_curvature,
    )


def _curvature(sample: Sample, term: Term, v: Tensor) -> Tensor:
    """v'J'CJ v of each sample of a term, for the Gauss-Newton matrix."""
    loss = evaluate(sample.risk.loss, term, "ggn")
    graph = OutputGraph(loss, sample.layout, hessian_in_outputs(loss))
    samples = len(term.batch[1])
    parts = graph.curvature(dict(enumerate(sample.layout.split(v))))
    if len(parts) == samples and all(len(part) == 1 for part in parts):
        return samples * torch.stack([part.sum() for part in parts])  # the model was called for each sample
    return samples * sum((part.reshape(samples, -1).sum(dim=1) for part in parts), torch.zeros_like(v[:1]))


def hessian_in_outputs(loss: OutputLoss) -> OutputMatrix:
    """The Hessian of a batch loss over the outputs, by double backward: exact for every loss."""
    gradients = gradients_in_outputs(loss, create_graph=True)
    active = [i for i, g in enumerate(gradients) if g.requires_grad]

    def multiply(directions: Sequence[Tensor]) -> Sequence[Tensor]:
        if not active:  # the loss is linear in the outputs
            return [torch.zeros_like(z) for z in directions]
        return torch.autograd.grad(
            [gradients[i] for i in active],
            loss.outputs,
            [directions[i] for i in active],
            retain_graph=True,
            materialize_grads=True,
        )

    return multiply
