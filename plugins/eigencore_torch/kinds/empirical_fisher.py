"""The kind `empirical_fisher`: the sum of c_s g_s g_s' over the samples, without their single gradients.

The loss over all data is sum_s c_s l_s, with the loss l_s of sample s, its gradient g_s and its weight c_s,
such as 1/N for a mean. If u_s is the part of J v that belongs to sample s, then g_s'v = (dl_s/dz)'u_s: a
product takes the Jacobian of the outputs, not the gradients of samples. Kunstner, Balles and Hennig (NeurIPS
2019) show how it differs from the Fisher matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.data.batches import sample_count
from eigencore_torch.kinds.likelihoods import likelihood_of
from eigencore_torch.kinds.output_graph import OutputLoss, OutputMatrix, gradients_in_outputs, output_graphs
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.models.params import Layout
from eigencore_torch.reductions.label_counts import LabelCount

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound
    from eigencore_torch.reductions.reduction import Reduction


def empirical_fisher(bound: TorchBound, layout: Layout, options: CurvatureOptions) -> RiskOperator:
    """The empirical Fisher matrix; see `eigencore.interfaces.Kind`.

    A sample is an index of the first axis of the outputs.

    Raises:
        ProblemError: in a product, the first axis of the outputs is not that of the samples, or the weights
            of the samples in the loss are unknown.
    """
    risk, function = bound.risk, bound.problem.loss

    def matrix(loss: OutputLoss) -> OutputMatrix:
        slopes = gradients_in_outputs(loss)
        weights = weights_of_samples(loss, function, risk.reduction, "empirical_fisher")
        inverse = torch.where(weights > 0, 1 / weights, torch.zeros_like(weights))

        def multiply(directions: Sequence[Tensor]) -> Sequence[Tensor]:
            along = sum(
                ((g * u).reshape(len(g), -1).sum(dim=1) for g, u in zip(slopes, directions, strict=True)),
                torch.zeros_like(inverse),
            )
            return [g * (along * inverse).reshape(-1, *[1] * (g.ndim - 1)) for g in slopes]

        return multiply

    graphs = output_graphs(risk, layout, matrix, "empirical_fisher")
    return RiskOperator(bound, layout, graphs, options)


def weights_of_samples(loss: OutputLoss, function: object, reduction: Reduction, kind: str) -> Tensor:
    """The weight (b,) of each sample in a batch loss, which is the sum of the samples' losses times these.

    In a mean over several labels a sample, the loss of a sample is the mean over its own labels, and its
    weight is that of these labels together. In a sum, it is the sum over its labels, and its weight is 1, or
    the mean of the class weights of its labels.

    Args:
        loss: the loss of the batch.
        function: the loss function.
        reduction: how batch losses are joined.
        kind: the name of the kind, for messages.

    Raises:
        ProblemError: the first axis of the outputs is not that of the samples, or the weights are unknown.
    """
    samples = sample_count(loss.term.batch)
    if not loss.outputs or samples is None or any(z.shape[:1] != (samples,) for z in loss.outputs):
        shapes = ", ".join(str(tuple(z.shape)) for z in loss.outputs) or "none that depend on the weights"
        raise ProblemError(
            f"the kind {kind} needs outputs whose first axis is that of the samples; the outputs of batch "
            f"{loss.term.index}, of {samples} samples, are {shapes}",
            hint="Let forward() return a row for each sample; or use the kinds hessian and ggn.",
        )
    z, likelihood = loss.outputs[0].detach(), likelihood_of(function)
    if likelihood is not None and len(loss.outputs) == 1 and loss.targets is not None:
        weights = likelihood.weights(z, loss.targets).reshape(samples, -1)
        if likelihood.mean:
            return weights.sum(dim=1)
        return weights.sum(dim=1) / (weights > 0).sum(dim=1).clamp(min=1)
    if reduction.rule == "sum":
        return torch.ones(samples, dtype=z.dtype, device=z.device)
    if isinstance(reduction.weight, LabelCount):
        counts = reduction.weight.of_samples(loss.term.batch).to(z.dtype)
        return counts / counts.sum()
    if reduction.weight is None and reduction.measured is None:
        return torch.full((samples,), 1 / samples, dtype=z.dtype, device=z.device)
    raise ProblemError(
        f"the kind {kind} needs the weight of each sample, but the loss is a mean with weights",
        hint="Give torch.nn.CrossEntropyLoss, BCEWithLogitsLoss or MSELoss, whose weights are known, or a "
        "mean over samples.",
    )
