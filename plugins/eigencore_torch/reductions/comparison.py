"""Compares the loss of some samples with those of two parts, by as many gradients as a decision takes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.checks.failure_hints import single_sample_hint
from eigencore_torch.data.batch_tensors import Batch, map_tensors
from eigencore_torch.data.batches import join_batches, sample_count, take_samples
from eigencore_torch.models.number_types import converted
from eigencore_torch.models.params import differentiable
from eigencore_torch.models.shards import whole
from eigencore_torch.reductions.additivity import Relation, Slope, last_weights, relate, slope
from eigencore_torch.reductions.reduction import DECLARE_HINT, Rule
from eigencore_torch.user_errors import explain_errors, gradient_hint
from eigencore_torch.weight_space import shifted_weights

Outcome = Literal["mean", "sum", "neither", "undecided"]

# The largest error of a share, relative to the smaller of the two expected shares, for each Detail.
_LARGEST_ERRORS = 1e-3, 1e-3, 4e-3, 4e-3
# A share that agrees with the expected one may be measured less precisely, by this factor.
_IF_EXPECTED = 2.5
# Numbers of the gradient over one parameter that are compared.
_NUMBERS = 4096
# Gradients that are smaller than elsewhere by this factor may consist of rounding errors.
_NEGLIGIBLE = 1e-4
# Shares that differ by less, in the same units, are not distinguished: no batch has that many labels.
_SAME = 1e-7


class Detail(IntEnum):
    """What losses are compared by; the later ones cost more."""

    OUTPUTS = 0  # gradients over the outputs of the model, which is not called again; for pairs only
    LAST_WEIGHTS = 1
    ALL_WEIGHTS = 2
    SHIFTED_WEIGHTS = 3  # at other weights, where the network is not dead, nor its last layer zero


@dataclass
class ComparedSamples:
    """Samples with their loss and its gradients, as far as these have been computed.

    Attributes:
        name: their name in messages.
        index: the number of the batch that they are from.
        value: their loss with its graph, until a gradient is computed from it.
        outputs: the outputs of the model for them, one row per sample, if they are pairs.
        derived: whether they are a part of a batch, or a union of parts.
    """

    name: str
    batch: Batch
    index: int
    value: Tensor | None = None
    outputs: Tensor | None = None
    derived: bool = False
    slopes: dict[Detail, Slope] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sample_count(self.batch) or 0

    @property
    def cheapest(self) -> Detail:
        """What their loss is obtained from at the lowest cost."""
        return Detail.LAST_WEIGHTS if self.outputs is None else Detail.OUTPUTS

    def part(self, name: str, where: slice) -> ComparedSamples:
        """Some of the samples."""
        outputs = None if self.outputs is None else self.outputs[where]
        return ComparedSamples(
            name, take_samples(self.batch, where), self.index, outputs=outputs, derived=True
        )

    def joined(self, other: ComparedSamples) -> ComparedSamples:
        """These samples and others of the same shape, from whose batch the union takes its number."""
        outputs = None
        if self.outputs is not None and other.outputs is not None:
            outputs = torch.cat([self.outputs, other.outputs])
        name, batch = f"{self.name} joined with {other.name}", join_batches(self.batch, other.batch)
        return ComparedSamples(name, batch, other.index, outputs=outputs, derived=True)


@dataclass(frozen=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        share: the first part's share of the weight, if the outcome is a mean: exactly the expected share, 0
            or 1 if it is that up to rounding.
        error: a bound on the rounding error of the share.
        residual: what neither a sum nor a mean explains, relative to the largest loss and gradient.
        size: the norm of the largest gradient.
    """

    outcome: Outcome
    share: float
    error: float
    residual: float
    size: float


class LossComparison:
    """Compares losses and their gradients over the trainable weights of a model."""

    def __init__(self, loss: BatchLoss):
        self._loss, self._float64_loss = loss, _in_float64(loss.function)
        self._layout = differentiable(loss.model)
        self._last: list[nn.Parameter] | None = None

    def compare(
        self, whole: ComparedSamples, a: ComparedSamples, b: ComparedSamples, share: float, rule: Rule | None
    ) -> Verdict:
        """How the loss of `whole` follows from those of its parts.

        Args:
            share: the share of the weight that the first part is expected to have.
            rule: what earlier comparisons showed, if any; if the cheapest gradients confirm it, no others are
                used.
        """
        three = whole, a, b
        cheapest = max(samples.cheapest for samples in three)
        if rule:
            confirmed = self._verdict(three, cheapest, share, rule)
            if confirmed.outcome == rule:
                return confirmed
        verdict = self._verdict(three, Detail.ALL_WEIGHTS, share, rule)
        if verdict.outcome in ("mean", "sum"):
            return verdict
        elsewhere = self._verdict(three, Detail.SHIFTED_WEIGHTS, share, rule)
        # Nothing but rounding errors is left of the gradients of a network that fits its data perfectly.
        if verdict.outcome == "neither" and verdict.size > _NEGLIGIBLE * elsewhere.size:
            return verdict
        return elsewhere

    def _verdict(
        self, three: Sequence[ComparedSamples], detail: Detail, share: float, rule: Rule | None
    ) -> Verdict:
        relation = relate(*(self.slope(samples, detail) for samples in three))
        return _verdict(relation, share, rule, _LARGEST_ERRORS[detail])

    def slope(self, samples: ComparedSamples, detail: Detail) -> Slope:
        """The loss of some samples and its gradient, computed once."""
        if detail not in samples.slopes:
            samples.slopes[detail] = self._compute(samples, detail)
        return samples.slopes[detail]

    def _compute(self, samples: ComparedSamples, detail: Detail) -> Slope:
        if detail is Detail.SHIFTED_WEIGHTS and self._layout.parameters:
            try:
                with shifted_weights(self._layout, self._shift):
                    return self._slope(self._loss(samples.batch, samples.index), samples.index, detail)
            except ProblemError:  # the model does not work with these weights
                return Slope(math.nan, (), 1.0, finite=False)
        if detail is Detail.OUTPUTS and samples.outputs is not None:
            return self._slope_over_outputs(samples, samples.outputs)
        value, samples.value = samples.value, None
        return self._slope(self._loss_of(samples) if value is None else value, samples.index, detail)

    def _loss_of(self, samples: ComparedSamples) -> Tensor:
        try:
            return self._loss(samples.batch, samples.index)
        except ProblemError as error:
            if not samples.derived:
                raise
            raise ProblemError(
                "the loss can't be computed with another batch size, so how it depends on the number of "
                f"samples can't be determined: {error.message}",
                hint=single_sample_hint(samples.batch) or DECLARE_HINT,
            ) from error

    def _slope(self, value: Tensor, index: int, detail: Detail) -> Slope:
        if self._last is None and value.requires_grad:
            self._last = last_weights(value, self._layout.parameters)
        weights = self._last or () if detail is Detail.LAST_WEIGHTS else self._layout.parameters
        with explain_errors(f"the gradient of the loss of batch {index} failed", hint=gradient_hint):
            found = slope(value, weights)
        return replace(found, gradient=[_thinned(g) for g in found.gradient])

    def _slope_over_outputs(self, samples: ComparedSamples, outputs: Tensor) -> Slope:
        """The loss and its gradient over a bias and a scale of each output, in float64 if possible."""
        if self._float64_loss is not None:
            try:
                targets = map_tensors(samples.batch[1], lambda x: converted(x, None, torch.float64))
                return _slope_over_outputs(self._float64_loss, outputs.double(), targets)
            except Exception:  # such as class weights in float32 that the loss function refers to
                self._float64_loss = None
        with explain_errors(f"the loss of batch {samples.index} failed on {len(outputs)} of its outputs"):
            return _slope_over_outputs(self._loss.function, outputs, samples.batch[1])

    @cached_property
    def _shift(self) -> Tensor:
        """A direction to half the weights, where a confident network is less so, and random ones in addition.

        The random ones are up to a quarter of the root mean square of their parameter.
        """
        generator = torch.Generator().manual_seed(0)
        pieces = []
        for p in self._layout.parameters:
            flat = whole(p.detach()).reshape(-1)
            size = float(flat.double().square().mean().sqrt()) or 0.4
            noise = (torch.rand(len(flat), generator=generator) - 0.5).to(flat)
            pieces.append((size * noise - flat) / 2)
        return self._layout.cut(torch.cat(pieces).to(self._layout.dtype))


def _thinned(g: Tensor) -> Tensor:
    """At most a few thousand numbers of a gradient, at equal distances."""
    flat = g.reshape(-1)
    return flat[:: -(-len(flat) // _NUMBERS)].clone() if len(flat) > _NUMBERS else flat


def _slope_over_outputs(loss: Callable[..., Tensor], outputs: Tensor, targets: Any) -> Slope:
    leaf = outputs.detach().requires_grad_()
    over_outputs = slope(loss(leaf, targets).reshape(()), [leaf])
    (g,) = over_outputs.gradient
    return replace(over_outputs, gradient=[g.sum(0), (g * outputs).sum(0)])


def _in_float64(loss: Callable[..., Any]) -> Callable[..., Any] | None:
    """The loss function for float64 outputs: a copy if it is a module, which may have class weights."""
    if not isinstance(loss, nn.Module):
        return loss
    try:
        return copy.deepcopy(loss).double()
    except (RuntimeError, TypeError):
        return None


def _verdict(relation: Relation, expected: float, rule: Rule | None, largest_error: float) -> Verdict:
    """The outcome of one comparison, with the share rounded to the expected one, 0 or 1 within its error."""
    share, smaller = relation.share, max(min(expected, 1 - expected), 0.1)
    rounding = max(relation.error, _SAME * smaller)
    exact = [one for one in (expected, 0.0, 1.0) if abs(share - one) <= rounding]
    precise = relation.error <= largest_error * smaller * (_IF_EXPECTED if exact[:1] == [expected] else 1)
    mean = relation.is_mean and precise and (relation.size or exact[:1] == [expected])
    outcome: Outcome = "undecided"
    if relation.is_sum and (rule == "sum" or not relation.is_mean):
        outcome = "sum"
    elif mean and not (relation.is_sum and rule is None):
        outcome = "mean"
    elif not (relation.is_sum or relation.is_mean):
        outcome = "neither"
    return Verdict(outcome, exact[0] if exact else share, relation.error, relation.residual, relation.size)
