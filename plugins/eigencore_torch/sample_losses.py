"""The loss of each sample of a batch, and batches of drawn samples with weights.

A sample is a row of the tensors of a batch: an image, or a whole sequence, whose loss is the mean over its
terms. For the usual losses of PyTorch, the losses of all samples come from one pass; for any other loss, from
a pass for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencore.errors import CapabilityError, ProblemError
from eigencore.problems.sharing import CALLS
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import describe, is_pair, join_batches, sample_count, take_samples
from eigencore_torch.kinds.likelihoods import Likelihood, likelihood_of
from eigencore_torch.risk import Risk

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

HINT = (
    "Leave samples and rtol out, or set Problem(reduction=...) and give a loss that is a plain mean or sum."
)


@dataclass(frozen=True)
class SampleLosses:
    """The losses of the samples of a batch.

    Attributes:
        loss: the loss of a batch.
        mean: whether that is the mean over the samples; otherwise their sum.
        likelihood: that of the loss function, if it is known and batches are pairs.
    """

    loss: BatchLoss
    mean: bool
    likelihood: Likelihood | None

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each sample (b,), with its autograd graph."""
        if self.likelihood is None or not is_pair(batch):
            loss = replace(self.loss, model=model)
            samples = range(sample_count(batch) or 0)
            return torch.stack([loss(take_samples(batch, slice(i, i + 1)), 0) for i in samples])
        x, y = batch
        return self.of_outputs(model(x), y)

    def of_outputs(self, outputs: Tensor, y: Any) -> Tensor:
        """The loss of each sample (b,), from the outputs of the model; the likelihood is known."""
        terms = _without_reduction(self.loss.function)(outputs, y)
        rows = terms.reshape(len(terms), -1)
        return rows.mean(dim=1) if self.mean else rows.sum(dim=1)

    def weighted(self, model: nn.Module, drawn: tuple[Batch, Tensor]) -> Tensor:
        """The weighted mean over the samples of a batch (), for a batch and its weights (b,)."""
        batch, weights = drawn
        if self.likelihood is not None or not bool((weights == weights[0]).all()):
            return (weights * self(model, batch)).mean()
        value = weights[0] * replace(self.loss, model=model)(batch, 0)
        return value if self.mean else value / len(weights)


def sample_losses(risk: Risk) -> SampleLosses:
    """How the losses of single samples are computed.

    Raises:
        CapabilityError: the loss over all data is not the mean, or the sum, over samples.
    """
    reduction = risk.reduction
    if reduction.measured is not None or reduction.weight is not None:
        raise CapabilityError(
            "the loss over all data is a weighted mean of batches, and not the mean over samples", hint=HINT
        )
    if risk.mixes_samples:
        raise CapabilityError(
            "with torch.batch_norm=batch, the loss of a sample depends on the rest of its batch",
            hint="Set torch.batch_norm=running, or leave samples and rtol out.",
        )
    if risk.loss.vocabulary_chunk is not None:
        raise CapabilityError(
            "with torch.vocabulary_chunk, the losses of single samples are not available",
            hint="Set torch.vocabulary_chunk=none, or leave samples and rtol out.",
        )
    mean = reduction.rule == "mean"
    likelihood = None if risk.loss.call == CALLS[1] else likelihood_of(risk.loss.function)
    return SampleLosses(risk.loss, mean, likelihood)


@dataclass(frozen=True)
class SampleScores:
    """The scores of the samples of all processes.

    Attributes:
        scores: the trace of the Hessian of each sample's loss over the outputs (N,); ones if it is unknown.
        largest: the number of samples in the largest batch.
        before: the number of samples in the processes before this one.
    """

    scores: Floats
    largest: int
    before: int


def scores(risk: Risk, losses: SampleLosses) -> SampleScores:
    """How much each sample may contribute.

    Raises:
        CapabilityError: the samples of a batch can't be told apart, or its loss is not their mean or sum.
    """
    several = risk.processes.collect(lambda: _own_scores(risk, losses), "the scores of samples")
    rank = risk.processes.rank
    return SampleScores(
        np.concatenate([np.concatenate(one) for one in several]),
        max(len(batch) for one in several for batch in one),
        sum(len(batch) for one in several[:rank] for batch in one),
    )


def _own_scores(risk: Risk, losses: SampleLosses) -> list[Floats]:
    """The scores of the samples of this process, batch after batch."""
    found: list[Floats] = []
    for index, batch in enumerate(risk.batches()):
        count = sample_count(batch)
        if count is None:
            raise CapabilityError(
                f"the samples of batch {index}, {describe(batch)}, can't be told apart: its tensors do not "
                "share a first dimension",
                hint="Leave samples and rtol out.",
            )
        known = losses.likelihood is not None and is_pair(batch)
        found.append(_scores_of_batch(losses, batch, index, count) if known else np.ones(count))
    if losses.likelihood is None and not risk.can_split(0):
        raise _refused(0)
    if not found:
        raise ProblemError("data is empty: it yields no batch")
    return found


def _scores_of_batch(losses: SampleLosses, batch: Batch, index: int, count: int) -> Floats:
    seen: list[Tensor] = []
    with torch.no_grad():
        value = losses.loss(batch, index, lambda outputs, y: seen.append(outputs))
        each = losses.of_outputs(seen[0], batch[1])
        whole = each.mean() if losses.mean else each.sum()
    eps = torch.finfo(value.dtype).eps
    if len(each) != count or not abs(float(whole - value)) <= eps**0.5 * abs(float(value)) + 64 * eps * count:
        raise _refused(index)
    assert losses.likelihood is not None
    traces = losses.likelihood.trace(seen[0])
    result: Floats = traces.reshape(count, -1).mean(dim=1).numpy()
    return result


def _refused(index: int) -> CapabilityError:
    return CapabilityError(
        f"the loss of batch {index} is not the mean or the sum of the losses of its samples, as with class "
        "weights, ignored labels or a mean over tokens",
        hint=HINT,
    )


@dataclass(frozen=True)
class DrawnGroups:
    """The drawn samples of this process, one batch for each group that has any.

    Attributes:
        batches: the samples of each, with their weights.
        numbers: the number of each group.
        draws: which of all draws these are, in their order.
    """

    batches: list[tuple[Batch, Tensor]]
    numbers: list[int]
    draws: list[int]


def draw_batches(risk: Risk, groups: Sequence[Sequence[int]], weights: Floats, before: int) -> DrawnGroups:
    """The samples that were drawn, of which each process takes as many, whoever has them.

    Args:
        groups: the numbers of the samples over all batches, in the order of the data.
        weights: the weight of each, in the order of the groups.
        before: the number of samples in the processes before this one.

    Raises:
        CapabilityError: samples from different batches have different shapes or types.
    """
    wanted = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
    samples: dict[int, Batch] = {}
    for one in risk.processes.collect(lambda: _own_samples(risk, wanted, before), "the drawn samples"):
        samples |= one
    rank, count = risk.processes.rank, risk.processes.count
    drawn, draw = DrawnGroups([], [], []), 0
    for number, group in enumerate(groups):
        own = [place for place in range(draw, draw + len(group)) if place % count == rank]
        draw += len(group)
        if not own:
            continue
        singles = [samples[int(wanted[place])] for place in own]
        joined = singles[0] if len(singles) == 1 else join_batches(*singles)
        if joined is None:
            raise CapabilityError(
                "samples of different batches differ in shape or type, so they can't be drawn into one batch",
                hint="Pad all batches to the same length, or leave samples and rtol out.",
            )
        drawn.batches.append((joined, torch.from_numpy(np.array(weights[own]))))
        drawn.numbers.append(number)
        drawn.draws.extend(own)
    return drawn


def _own_samples(risk: Risk, wanted: npt.NDArray[np.int64], before: int) -> dict[int, Batch]:
    """The drawn samples that this process has, each as a batch, by their numbers."""
    samples, chosen, start = dict[int, Batch](), np.unique(wanted), before
    for batch in risk.batches():
        count = sample_count(batch) or 0
        for number in chosen[(chosen >= start) & (chosen < start + count)].tolist():
            samples[number] = take_samples(batch, slice(number - start, number - start + 1))
        start += count
    return samples


def _without_reduction(function: Any) -> Callable[[Tensor, Any], Tensor]:
    """A loss function of PyTorch that returns the loss of each label."""
    if isinstance(function, nn.Module):
        each = copy(function)
        each.reduction = "none"  # type: ignore[assignment]
        return each
    return partial(function, reduction="none")
