"""Operators of kinds that are means over samples, and the weighted mean over a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import array_api_compat.torch as xp
import torch
from torch import Tensor, nn
from torch.func import functional_call

from eigencore.errors import CapabilityError
from eigencore.operators import MatrixLike
from eigencore.problems.sharing import CALLS, CurvatureOptions, weight_minibatch
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.kinds.graph_memory import GraphMemory
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.kinds.term_graph import Passes, TermGraph
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Risk, Term
from eigencore_torch.sample_losses import (
    SampleLosses,
    SampleScores,
    draw_batches,
    sample_losses,
    scores,
)
from eigencore_torch.user_errors import THIRD_DERIVATIVE_HINT, explain_errors

if TYPE_CHECKING:
    from eigencore.space import Floats, LinearOperator
    from eigencore_torch.bound import TorchBound

# The weighted curvature (b,) of each sample of a term along a direction (n,), from the risk of the sample.
Curvature: TypeAlias = Callable[["Sample", Term, Tensor], Tensor]


class MeanRiskOperator(RiskOperator):
    """A RiskOperator of which the mean over any samples of the data can be taken, with weights.

    Args:
        again: makes the operator of the same kind, layout and options for another bound problem.
        curvature: the curvature of each sample of a term.
    """

    def __init__(
        self,
        bound: TorchBound,
        layout: Layout,
        graph: Callable[[Term, Passes], TermGraph],
        options: CurvatureOptions,
        scale: Tensor | None,
        *,
        again: Callable[[TorchBound], MeanRiskOperator],
        curvature: Curvature,
    ):
        super().__init__(bound, layout, graph, options, scale)
        # The graphs of these kinds hold what a forward pass returns, and gradients of that.
        weights = float(layout.n * layout.dtype.itemsize)
        self._memory = GraphMemory(bound.memory, forward=bound.risk.forward, weights=weights)
        self._bound, self._again, self._curvature = bound, again, curvature

    def sample_scores(self) -> Floats:
        """See `eigencore.space.MeanOperator`.

        Raises:
            CapabilityError: the loss over all data is not the mean or the sum over samples.
        """
        if self._layout.shards is not None:
            raise CapabilityError(
                "samples of the data are not available for weights that are cut into shards (DTensor)",
                hint="Leave samples and rtol out.",
            )
        if self._scale is not None and self._options.weight_decay:
            raise CapabilityError(
                "the operator of a sample can't have both a scaling and weight decay",
                hint="Leave samples and rtol out, or set weight_decay to 0.",
            )
        losses = self._losses
        with self._risk.session(), explain_errors("computing the scores of the samples failed"):
            self._scores = found = scores(self._risk, losses)
        return found.scores

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> RiskSample:
        """See `eigencore.space.MeanOperator`; raises the same errors as `sample_scores`."""
        losses, risk = self._losses, self._risk
        if self._scores is None:
            self.sample_scores()
        found = self._scores
        assert found is not None
        if not losses.mean:  # the loss is the sum over samples
            weights = weights * len(found.scores)
        with risk.processes.together("drawing samples"), risk.session():
            drawn = draw_batches(risk, groups, weights, found.before)
        loss = BatchLoss(
            risk.loss.model,
            losses.weighted,
            CALLS[1],
            failure_hint=risk.loss.failure_hint,
            uses=risk.loss.named_modules,
        )
        # A group is small. The mean over all of them is computed in batches as large as those of the data.
        whole = risk.of_samples(loss, drawn.batches, join=found.largest)
        apart = risk.of_samples(loss, drawn.batches, numbers=drawn.numbers)
        sample = Sample(whole, losses, self._layout, drawn.draws, len(weights))
        shift = self._options.weight_decay + self._options.damping
        return RiskSample(self._of(whole), self._of(apart), sample, self._curvature, self._scale, shift)

    def of_batches(self) -> Iterator[LinearOperator]:
        """For each batch, the operator of its loss alone."""
        with self._risk.session():
            weights = self._risk.batch_weights
        for index in range(len(weights)):
            with self.processes.together("a group of samples"):
                one = self._sampled(weight_minibatch({index: 1}, weights))
            yield one

    def _of(self, risk: Risk) -> MeanRiskOperator:
        """The operator of the same kind for another risk."""
        bound = copy(self._bound)
        bound.risk = risk  # in place of the cached property
        return self._again(bound)

    @cached_property
    def _losses(self) -> SampleLosses:
        return sample_losses(self._risk)

    _scores: SampleScores | None = None  # once they were computed


@dataclass(frozen=True)
class Sample:
    """The loss over a sample, the losses of its single samples, and the selected parameters.

    Attributes:
        draws: which of all draws are in the risk of this process.
        total: the number of all draws.
    """

    risk: Risk
    losses: SampleLosses
    layout: Layout
    draws: Sequence[int]
    total: int


class RiskSample(MatrixLike):
    """The weighted mean over some samples; see `eigencore.space.SampleMean`.

    Args:
        mean, groups: the operator of all drawn samples, and the same with a batch for each group.
        sample: the loss of `mean`.
        curvature: the curvature of each sample of a term.
        scale: the diagonal (n,) of D; None for the identity.
        shift: the number c of c I.
    """

    xp = xp

    def __init__(
        self,
        mean: MeanRiskOperator,
        groups: MeanRiskOperator,
        sample: Sample,
        curvature: Curvature,
        scale: Tensor | None,
        shift: float,
    ):
        self._mean, self._groups, self._sample = mean, groups, sample
        self._curvature, self._scale = curvature, scale
        self.shape, self.dtype, self.device, self.shift = mean.shape, mean.dtype, mean.device, shift
        self.processes = mean.processes

    def matvec(self, v: Tensor, /) -> Tensor:
        """The mean times v (n,)."""
        return self._mean.matvec(v)

    def matmat(self, V: Tensor, /) -> Tensor:
        """The mean times V (n, b)."""
        return self._mean.matmat(V)

    def group_products(self, V: Tensor | Callable[[int], Tensor], /) -> Iterator[Tensor]:
        """Each group's mean times V (n, b), or times a block of its own."""
        for number, group in enumerate(self._groups.of_batches()):
            block = V(number) if callable(V) else V
            yield group.matmat(block) - self.shift * block

    def curvatures(self, V: Tensor, /) -> Floats:
        """The weighted curvature of each draw along each column of V, (draws, b).

        Raises:
            ProblemError: an operation of the model has no third derivative.
        """
        processes = self._sample.risk.processes
        found = processes.sum(lambda: self._own_curvatures(V), "the curvature of samples", V)
        curvatures: Floats = found.numpy()
        return curvatures

    def _own_curvatures(self, V: Tensor) -> Tensor:
        """The rows of the draws of this process, between rows of zeros, in float64 on the host."""
        sample = self._sample
        V = V if self._scale is None else self._scale[:, None] * V
        rows = [torch.zeros((0, V.shape[1]), dtype=torch.float64)]
        with (
            sample.risk.session(),
            explain_errors("computing the samples' curvature failed", hint=THIRD_DERIVATIVE_HINT),
        ):
            for term in sample.risk.terms():
                columns = [self._curvature(sample, term, v) for v in V.T]
                rows.append(torch.stack(columns, dim=1).detach().cpu().double())
        whole = torch.zeros((sample.total, V.shape[1]), dtype=torch.float64)
        whole[sample.draws] = torch.cat(rows)
        return whole

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the operator."""
        return self._mean.notes

    def release(self, needed: int | None = None) -> None:
        """Frees the kept graphs; see `RiskOperator.release`."""
        self._mean.release(needed)


def loss_curvature(sample: Sample, term: Term, v: Tensor) -> Tensor:
    """The second derivative of each sample's loss along v (n,), for the Hessian.

    Only backward passes are used, as in `weight_space`: the sum of u_s l_s is linear in u, so that the
    derivative with respect to u of its second derivative along v is that of each l_s.
    """
    batch: Any
    weights: Tensor
    batch, weights = term.batch
    model, layout = sample.risk.loss.model, sample.layout
    t = torch.zeros((), dtype=v.dtype, device=v.device, requires_grad=True)
    u = torch.ones(len(weights), dtype=v.dtype, device=v.device, requires_grad=True)
    along = dict(zip(layout.parameters, layout.split(v), strict=True))
    at = {
        f"model.{name}": p.detach() + t * along[p] if p in along else p.detach()
        for name, p in model.named_parameters()
    }
    losses = functional_call(_Losses(model, sample.losses), at, (batch,))
    slope = (u * losses).sum()
    for _ in range(2):
        if not slope.requires_grad:
            return torch.zeros_like(weights)
        (slope,) = torch.autograd.grad(slope, t, create_graph=True, materialize_grads=True)
    if not slope.requires_grad:
        return torch.zeros_like(weights)
    (second,) = torch.autograd.grad(slope, u, materialize_grads=True)
    return weights * second.detach()


class _Losses(nn.Module):
    """The losses of samples as a module, so that the weights of its model can be replaced."""

    def __init__(self, model: nn.Module, losses: SampleLosses):
        super().__init__()
        self.model, self._each = model, losses

    def forward(self, batch: Any) -> Tensor:
        """The losses (b,) of a batch."""
        losses: Tensor = self._each(self.model, batch)
        return losses
