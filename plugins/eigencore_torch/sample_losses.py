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


def scores(risk: Risk, losses: SampleLosses) -> tuple[Floats, int]:
    """The trace of the Hessian of each sample's loss over the outputs (N,); ones if the loss is not known.

    Returns:
        The scores, and the number of samples in the largest batch.

    Raises:
        CapabilityError: the samples of a batch can't be told apart, or its loss is not their mean or sum.
    """
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
    return np.concatenate(found), max(map(len, found))


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


def draw_batches(risk: Risk, groups: Sequence[Sequence[int]], weights: Floats) -> list[tuple[Batch, Tensor]]:
    """One batch for each group of samples, with the weights of its samples.

    Args:
        groups: the numbers of the samples over all batches, in the order of the data.
        weights: the weight of each, in the order of the groups.

    Raises:
        CapabilityError: samples from different batches have different shapes or types.
    """
    wanted = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
    order, samples = np.argsort(wanted, kind="stable"), dict[int, Batch]()
    start = place = 0
    for batch in risk.batches():
        count = sample_count(batch) or 0
        while place < len(order) and wanted[order[place]] < start + count:
            row = int(wanted[order[place]]) - start
            samples[start + row] = take_samples(batch, slice(row, row + 1))
            place += 1
        start += count
    parts = iter(np.split(weights, np.cumsum([len(group) for group in groups])[:-1]))
    drawn = []
    for group in groups:
        singles = [samples[int(s)] for s in group]
        joined = singles[0] if len(singles) == 1 else join_batches(*singles)
        if joined is None:
            raise CapabilityError(
                "samples of different batches differ in shape or type, so they can't be drawn into one batch",
                hint="Pad all batches to the same length, or leave samples and rtol out.",
            )
        drawn.append((joined, torch.from_numpy(np.array(next(parts)))))
    return drawn


def _without_reduction(function: Any) -> Callable[[Tensor, Any], Tensor]:
    """A loss function of PyTorch that returns the loss of each label."""
    if isinstance(function, nn.Module):
        each = copy(function)
        each.reduction = "none"  # type: ignore[assignment]
        return each
    return partial(function, reduction="none")
