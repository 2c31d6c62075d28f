"""The reduction of batch losses, inferred from the losses and gradients of batches, their parts and unions.

The first batch is compared with two parts of it, and every other batch, joined with the first part, with that
part and itself. This measures the weight of every batch, also where class weights or numbers of tokens are
uniform within each batch and differ between batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.checks.failure_hints import single_sample_hint
from eigencore_torch.checks.problem_checks import check_finite, no_batch
from eigencore_torch.data.batch_tensors import Batch, tensors_of
from eigencore_torch.data.batches import describe, sample_count, sample_count_beside_objects, sample_shape
from eigencore_torch.models.shards import is_dtensor
from eigencore_torch.reductions.comparison import ComparedSamples, LossComparison, Verdict
from eigencore_torch.reductions.label_counts import label_count
from eigencore_torch.reductions.reduction import DECLARE_HINT, WEIGHT_HINT, MeasuredWeights, Reduction, Rule

_SPLIT_HINT = (
    "Set torch.microbatch=none and torch.join=none, and give batches that fit into memory. A batch can be "
    "split only if its loss is a sum or a mean over samples, or the weighted mean that Problem(weight=...) "
    "describes."
)
_WHOLE_BATCH_HINT = (
    "If the loss compares the samples of a batch with one another, as contrastive and Cox losses do, its "
    'value depends on the batches. Problem(reduction="mean") then takes the mean of their losses by numbers '
    "of samples, and Problem(weight=lambda batch: 1) counts each batch equally. This is right if the batches "
    "are those that the model is trained with. Otherwise look for what mixes samples, such as BatchNorm in "
    "training mode, or for a term that is added to a sum once per batch."
)

# Samples in each of two parts that show, by gradients over all weights, whether the loss is additive.
_FEW = 2

# The shapes beyond the number of samples, and the types, of tensors that can be joined.
_Kind: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype], ...]


@dataclass
class _Weight:
    """The weight of a batch, or of a part of one, in units of the mean weight of a sample of the reference.

    Attributes:
        count: the number of samples.
        error: a bound on the relative rounding error of the value.
    """

    count: int
    value: float = 0.0
    error: float = 0.0


class ReductionInference:
    """Finds out whether a loss is a mean or a sum over samples, or a mean with weights, which it measures.

    The first batch is examined once a second one is observed: a single batch has nothing to weigh.

    Args:
        declared: the reduction that the problem declares; the only test is then whether batches can be split.
        most_samples: the largest number of samples in a forward pass, but at least two; None: no limit.
        alone: whether no other process has batches, so that a single batch has nothing to weigh.
    """

    def __init__(
        self,
        loss: BatchLoss,
        declared: Reduction | None = None,
        most_samples: int | None = None,
        *,
        alone: bool = True,
    ):
        self._loss, self._declared, self._most_samples, self._alone = loss, declared, most_samples, alone
        self.rule: Rule | None = None if declared is None else declared.rule
        self._counted: Reduction | None = None
        self._comparison = LossComparison(loss)
        self._single: tuple[ComparedSamples, _Weight] | None = None
        self._not_finite: list[ComparedSamples] = []
        self._weights: dict[int, list[_Weight]] = {}
        self._references: dict[_Kind, ComparedSamples] = {}
        self._batch_of_shapes: dict[tuple[tuple[int, ...], ...], int] = {}

    def observe(self, batch: Batch, index: int, value: Tensor | None = None, outputs: object = None) -> None:
        """Takes batch number `index`, or the next part of it, into account.

        Args:
            value: its loss with the graph, if it has been computed.
            outputs: what the model returned for it, if it is a pair.

        Raises:
            ProblemError: the loss is not additive, batches disagree, or nothing can be determined from this
                batch; or a loss is not finite although the samples have weight.
        """
        samples, weight = _samples(batch, index, value, outputs), _Weight(sample_count(batch) or 0)
        is_first = not self._weights
        if is_first and self._declared is None:
            self._count_labels(samples)
        self._weights.setdefault(index, []).append(weight)
        if self._counted is not None and not self._counted.batch_weight(batch, index):
            return  # a mean over no labels
        if self._declared is not None:
            # Once without the known outputs, since the model itself may mix samples.
            self._check_split(replace(samples, outputs=None) if is_first else samples, self._declared)
        elif is_first and self._alone:
            if value is not None:
                self._comparison.slope(samples, samples.cheapest)  # frees the graph
            self._single = samples, weight
        else:
            if self._single is not None:
                first, self._single = self._single, None
                self._examine(*first)
            self._examine(samples, weight)

    def result(self, complete: bool = True) -> Reduction:
        """The reduction that the observed batches show.

        Args:
            complete: whether all batches were observed, so that their weights are known.

        Raises:
            ProblemError: the batches do not determine the reduction.
        """
        if self._counted is not None:
            return self._counted
        if self._single is not None:
            samples, _ = self._single
            for known in samples.slopes.values():
                check_finite(known.loss, samples.batch, samples.index)
            if sample_count_beside_objects(samples.batch) is not None:
                return Reduction("mean")
            return Reduction("mean", measured=MeasuredWeights({samples.index: [1.0]}))
        if not self._weights:
            raise no_batch()
        for samples in self._not_finite:
            self._refuse_not_finite(samples)
        assert self.rule is not None
        if self.rule == "sum":
            return Reduction("sum")
        weights = [weight for parts in self._weights.values() for weight in parts]
        by_samples = all(abs(one.value - one.count) <= 1e-9 * one.count for one in weights)
        if len(self._batch_of_shapes if by_samples else self._references) > 1:
            self._refuse_different_shapes()
        if by_samples:
            return Reduction("mean")
        if not complete:
            raise ProblemError(
                "the loss is a mean with weights, which are measured only if torch.check is on",
                hint=f"Leave torch.check on. Or: {WEIGHT_HINT}",
            )
        parts = {index: [one.value for one in found] for index, found in self._weights.items()}
        return Reduction("mean", measured=MeasuredWeights(parts, max(one.error for one in weights)))

    def _count_labels(self, samples: ComparedSamples) -> None:
        """Declares the number of labels as the weight, if the loss of the first batch shows that it is."""
        count = label_count(self._comparison, samples)
        if count is not None:
            self._counted = self._declared = Reduction("mean", count, weight_note=count.note)
            self.rule = "mean"

    def _examine(self, samples: ComparedSamples, weight: _Weight) -> None:
        if sample_count(samples.batch) is None:
            raise ProblemError(
                f"the tensors of batch {samples.index}, {describe(samples.batch)}, do not share a first "
                "dimension, so how the loss depends on the number of samples can't be determined",
                hint=single_sample_hint(samples.batch) or DECLARE_HINT,
            )
        self._batch_of_shapes.setdefault(
            _shapes_beyond_samples(self._loss.targets(samples.batch)), samples.index
        )
        kind = _kind(samples.batch)
        if not self._comparison.slope(samples, samples.cheapest).finite:
            self._not_finite.append(samples)
        elif kind in self._references:
            weight.value, weight.error = self._relative_weight(samples, self._references[kind])
        else:
            self._references[kind] = self._weigh_first(samples, weight)
        if kind in self._references:
            self._weigh_not_finite(kind)

    def _weigh_first(self, samples: ComparedSamples, weight: _Weight) -> ComparedSamples:
        """Weighs samples of which no others of the same kind are known; returns a part with a weight."""
        weight.value = float(samples.count)
        if samples.count == 1:
            return replace(samples, name=f"the sample of batch {samples.index}")
        if self.rule is None and samples.count > 2 * _FEW:
            few = samples.part(f"{2 * _FEW} samples of batch {samples.index}", slice(2 * _FEW))
            self._compare(few, *_cut(few, _FEW))
        for part, rest in (_cut(samples, max(1, samples.count // 8)), _alternate(samples)):
            verdict = self._compare(samples, part, rest)
            if verdict.outcome == "mean" and verdict.share:
                weight.value, weight.error = part.count / verdict.share, verdict.error / verdict.share
            if verdict.outcome == "sum" or (verdict.outcome == "mean" and verdict.share):
                return replace(part, name=f"some samples of batch {samples.index}")
        raise _undecided(samples)

    def _relative_weight(self, samples: ComparedSamples, reference: ComparedSamples) -> tuple[float, float]:
        """The weight of samples and its relative error, from their union with the reference.

        If the union has too many samples, they are joined in two parts.
        """
        limit = self._most_samples
        if limit is not None and limit < samples.count + reference.count > 2:
            both = [self._relative_weight(part, reference) for part in _cut(samples, reference.count)]
            return sum(value for value, _ in both), max(error for _, error in both)
        union = reference.joined(samples)
        if not self._comparison.slope(union, union.cheapest).finite:
            self._refuse_not_finite(union)
        verdict = self._compare(union, reference, samples)
        share = verdict.share
        if verdict.outcome == "undecided" or not (share or verdict.outcome == "sum"):
            raise _undecided(samples)
        if verdict.outcome == "sum" or share == 1:
            return 0.0, 0.0
        return reference.count * (1 - share) / share, verdict.error / (share * (1 - share))

    def _weigh_not_finite(self, kind: _Kind) -> None:
        """Refuses samples whose loss is not finite unless they have no weight, as a mean over no labels."""
        waiting, self._not_finite = self._not_finite, []
        for samples in waiting:
            if _kind(samples.batch) != kind:
                self._not_finite.append(samples)
            elif self.rule == "sum" or self._relative_weight(samples, self._references[kind])[0]:
                self._refuse_not_finite(samples)

    def _check_split(self, samples: ComparedSamples, declared: Reduction) -> None:
        if not self._comparison.slope(samples, samples.cheapest).finite:
            self._refuse_not_finite(samples)
        if samples.count < 2:
            return
        part, rest = _cut(samples, max(1, samples.count // 3))
        p, q = (declared.batch_weight(one.batch, samples.index) for one in (part, rest))
        share = p / (p + q) if p + q else 0.5
        verdict = self._comparison.compare(samples, part, rest, share, declared.rule)
        as_declared = verdict.outcome == declared.rule and (declared.rule == "sum" or verdict.share == share)
        if not (as_declared or verdict.outcome == "undecided"):
            raise ProblemError(
                f"{self._losses(samples, part, rest)}: the first is not the {declared.description} of the "
                "other two, so the batch can't be split",
                hint=_SPLIT_HINT,
            )

    def _compare(self, whole: ComparedSamples, a: ComparedSamples, b: ComparedSamples) -> Verdict:
        """The comparison of samples with two parts.

        Raises:
            ProblemError: the loss is neither a sum nor a mean, or not the one that it is on earlier batches,
                or can't be computed with another batch size.
        """
        verdict = self._comparison.compare(whole, a, b, a.count / whole.count, self.rule)
        if verdict.outcome == "neither":
            raise ProblemError(
                f"{self._losses(whole, a, b)}: the first and its gradient are neither the sum nor a mean, "
                f"with any weights, of the other two (relative difference {verdict.residual:.2g})",
                hint=_WHOLE_BATCH_HINT,
            )
        if verdict.outcome != "undecided":
            if self.rule not in (None, verdict.outcome):
                raise ProblemError(
                    f"{self._losses(whole, a, b)}: the first is the {verdict.outcome} of the other two, but "
                    f"on earlier batches the loss is a {self.rule} over samples",
                    hint=WEIGHT_HINT,
                )
            self.rule = verdict.outcome
        return verdict

    def _losses(self, *three: ComparedSamples) -> str:
        whole, a, b = (f"{self._loss_of(samples):.6g} on {samples.name}" for samples in three)
        return f"the loss is {whole}, {a} and {b}"

    def _loss_of(self, samples: ComparedSamples) -> float:
        return self._comparison.slope(samples, samples.cheapest).loss

    def _refuse_not_finite(self, samples: ComparedSamples) -> NoReturn:
        check_finite(self._loss_of(samples), samples.batch, samples.index)
        raise ProblemError(
            f"the gradient of the loss of batch {samples.index} is not finite",
            hint="Look for operations with an infinite slope, such as the square root of zero.",
        )

    def _refuse_different_shapes(self) -> NoReturn:
        first, second = list(self._batch_of_shapes.values())[:2]
        raise ProblemError(
            f"batches {first} and {second} differ in shape beyond their number of samples, so the loss may "
            "be a mean over samples or over their elements, such as tokens",
            hint=DECLARE_HINT,
        )


def _samples(batch: Batch, index: int, value: Tensor | None, outputs: object) -> ComparedSamples:
    name = f"batch {index}" if index >= 0 else "the first batch of process 0"
    plain = isinstance(outputs, Tensor) and outputs.is_floating_point() and not outputs.is_nested
    plain = plain and not is_dtensor(outputs)
    if isinstance(outputs, Tensor) and plain and outputs.shape[:1] == (sample_count(batch),):
        return ComparedSamples(name, batch, index, outputs=outputs.detach())
    return ComparedSamples(name, batch, index, value)


def _cut(samples: ComparedSamples, p: int) -> tuple[ComparedSamples, ComparedSamples]:
    name = f"its first {p} samples" if p > 1 else "its first sample"
    return samples.part(name, slice(p)), samples.part("the others", slice(p, None))


def _alternate(samples: ComparedSamples) -> tuple[ComparedSamples, ComparedSamples]:
    odd, even = slice(1, None, 2), slice(0, None, 2)
    return samples.part("every other one of its samples", odd), samples.part("the others", even)


def _undecided(samples: ComparedSamples) -> ProblemError:
    return ProblemError(
        f"how the loss weighs the samples of batch {samples.index} can't be determined: the losses of its "
        "parts and their gradients are zero or do not differ",
        hint=DECLARE_HINT,
    )


def _kind(batch: Batch) -> _Kind:
    return tuple((sample_shape(x), x.dtype) for x in tensors_of(batch))


def _shapes_beyond_samples(targets: Batch) -> tuple[tuple[int, ...], ...]:
    """The shapes that a mean over the targets may be taken over besides the samples."""
    return tuple(sample_shape(x) for x in tensors_of(targets))
