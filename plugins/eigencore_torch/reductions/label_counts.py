"""Batches of sequences, weighted by the number of their labels that count.

The models of Hugging Face's libraries ignore labels that are -100. A causal language model predicts the
following token, so that it also ignores the first label of each sequence; a masked language model does not.
Both means look alike on sequences of equal length. Which one a loss is, if any, is found by replacing labels:
four columns of labels are kept, and the loss over all of them is compared with those over the first two and
over the others. With the first column ignored, the first two have half as many labels that count.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import sample_count, take_samples
from eigencore_torch.reductions.comparison import ComparedSamples, LossComparison

LABELS, IGNORED = "labels", -100
_SAMPLES = 8
_COLUMNS = 4


@dataclass(frozen=True)
class LabelCount:
    """The number of labels that count: those that are not -100.

    Attributes:
        shifted: whether the first label of each sequence is ignored, as in causal language models.
    """

    shifted: bool

    def __call__(self, batch: Batch) -> float:
        return float(self.of_samples(batch).sum())

    def of_samples(self, batch: Batch) -> Tensor:
        """The number of labels that count in each sample (b,)."""
        counts: Tensor = (batch[LABELS][:, int(self.shifted) :] != IGNORED).sum(dim=1)
        return counts

    @property
    def note(self) -> str:
        """What the weights of batches are, for descriptions."""
        counted = "labels[:, 1:] != -100 (shifted)" if self.shifted else "labels != -100"
        return f"batches weighted by the number of {counted}, as gradients confirm"


def label_count(comparison: LossComparison, samples: ComparedSamples) -> LabelCount | None:
    """The number of labels that the loss is a mean over; None if it is not such a mean, or not known to be.

    Args:
        samples: a batch; only a mapping with integer `labels` (b, t) is examined, with t of at least four.
    """
    labels = _labels(samples.batch)
    if labels is None or not samples.count:
        return None
    few = take_samples(samples.batch, slice(_SAMPLES))
    whole, first = _masks(labels[:_SAMPLES])
    valid = labels[labels != IGNORED]
    if not len(valid):
        return None
    # Ignored labels are replaced, so that whether they count does not depend on the padding.
    complete = torch.where(labels == IGNORED, valid[0], labels)[:_SAMPLES]

    def kept(name: str, mask: Tensor) -> ComparedSamples:
        batch = _with_labels(few, complete.masked_fill(~mask, IGNORED))
        return ComparedSamples(f"{name} of batch {samples.index}", batch, samples.index, derived=True)

    three = (kept("some labels", whole), kept("a part of them", first), kept("the others", whole & ~first))
    shares = {
        count: count(three[1].batch) / count(three[0].batch) for count in map(LabelCount, (True, False))
    }
    for count, share in shares.items():
        # A model that takes its inputs from the labels, or fails on these, has a loss of another form.
        with suppress(ProblemError):
            verdict = comparison.compare(*three, share, "mean")
            if verdict.outcome == "mean" and verdict.share == share:
                return count
    return None


def _labels(batch: Batch) -> Tensor | None:
    labels = batch.get(LABELS) if isinstance(batch, MutableMapping) else None
    if not isinstance(labels, Tensor) or labels.is_nested or labels.ndim != 2 or labels.shape[1] < _COLUMNS:
        return None
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels if integer and sample_count(batch) == len(labels) else None


def _masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The labels that are kept, and the first part of them.

    The first sample keeps one fewer than the others: a mean over the means of samples has other weights.
    """
    whole, first = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)
    whole[:, :_COLUMNS], first[:, : _COLUMNS // 2] = True, True
    whole[0, _COLUMNS - 1] = False
    return whole, first


def _with_labels(batch: Batch, labels: Tensor) -> Batch:
    # Not by `map_tensors`: the labels may be the same tensor as the inputs.
    changed = copy.copy(batch)
    changed[LABELS] = labels
    return changed
