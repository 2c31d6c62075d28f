"""The reduction of batch losses to the loss over all data: as means, as sums, or with given weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.batch_tensors import Batch, tensors_of
from eigencore_torch.batches import (
    describe,
    join_batches,
    sample_count,
    sample_count_beside_objects,
    sample_shape,
    take_samples,
)
from eigencore_torch.failure_hints import single_sample_hint
from eigencore_torch.user_errors import explain_errors

Rule = Literal["mean", "sum"]

_WEIGHT_HINT = (
    "Give Problem(weight=...), a function that returns the weight of a batch's mean loss, such as the number "
    "of tokens or the sum of the labels' class weights."
)
_DECLARE_HINT = f"{_WEIGHT_HINT} Or set reduction='mean' (over samples) or reduction='sum'."
_SPLIT_HINT = (
    "Set torch.microbatch=none and give batches that fit into the device's memory. A batch can be split only "
    "if its loss is a sum or a mean over samples, or the weighted mean that Problem(weight=...) describes."
)


@dataclass(frozen=True)
class Reduction:
    """The weight of each batch in the loss over all data.

    A batch whose loss is a mean has its number of samples as weight, or the value of `weight`; a batch whose
    loss is a sum has weight one. For means, the weighted sum is then divided by the sum of the weights.

    Attributes:
        weight: a function from a batch to the weight of its mean loss.
    """

    rule: Rule
    weight: Callable[[Batch], float] | None = None

    def batch_weight(self, batch: Batch, index: int) -> float:
        """The weight of batch number `index`.

        Raises:
            ProblemError: the number of samples is ambiguous, or `weight` returned an invalid number.
        """
        if self.weight is not None:
            with explain_errors(f"weight failed on batch {index}, {describe(batch)}"):
                given = float(self.weight(batch))
            return self._checked(given, index)
        if self.rule == "sum":
            return 1.0
        count = sample_count_beside_objects(batch)
        if count is None:
            raise ProblemError(
                f"the number of samples in batch {index} is ambiguous: the tensors of {describe(batch)} do "
                "not share a first dimension",
                hint=_DECLARE_HINT,
            )
        return float(count)

    @property
    def description(self) -> str:
        """The relation of the loss of joined batches to the losses of the batches, for messages."""
        return f"weighted {self.rule}" if self.weight else self.rule

    def divisor(self, total_weight: float) -> float:
        """What the weighted sum of batch losses is divided by: the total weight for means, 1 for sums."""
        return 1.0 if self.rule == "sum" else total_weight

    def _checked(self, weight: float, index: int) -> float:
        if not (math.isfinite(weight) and weight >= 0):
            raise ProblemError(
                f"weight returned {weight} for batch {index}; expected a finite number of at least 0"
            )
        return weight


@dataclass(frozen=True)
class _Observation:
    """Some samples of batch number `index` with their loss; `name` is their name in messages."""

    name: str
    batch: Batch
    index: int
    loss: Tensor


class ReductionInference:
    """Finds out whether a loss is a mean or a sum over samples from the losses of batches and their parts.

    Take two sets of samples with the losses a and b, whose union has the loss c. If the loss is a mean over
    p and q samples, c = (p a + q b) / (p + q); if it is a sum, c = a + b. Each batch is split into two
    unequal parts, and its first samples are joined with the first samples of the first batch. The second
    test is needed because class weights or ignored labels may be uniform within each batch and differ
    between batches.

    Args:
        declared: the reduction that the problem declares; the only test is then whether batches can be split.
    """

    def __init__(self, loss: BatchLoss, declared: Reduction | None = None):
        self._loss, self._declared = loss, declared
        self.rule: Rule | None = None if declared is None else declared.rule
        self._batch_of_shapes: dict[tuple[tuple[int, ...], ...], int] = {}
        self._first: _Observation | None = None

    def observe(self, batch: Batch, index: int, value: Tensor) -> None:
        """Takes batch number `index`, or a part of it, and its loss into account.

        Raises:
            ProblemError: neither a mean nor a sum is consistent with the losses, or batches disagree.
        """
        n = sample_count(batch)
        if n is None:
            raise ProblemError(
                f"the tensors of batch {index}, {describe(batch)}, do not share a first dimension, so how "
                "the loss depends on the number of samples can't be determined",
                hint=single_sample_hint(batch) or _DECLARE_HINT,
            )
        self._batch_of_shapes.setdefault(_shapes_beyond_samples(self._loss.targets(batch)), index)
        whole = _Observation(f"batch {index}", batch, index, value.detach())
        head = whole
        if n > 1:
            p = max(1, n // 3)
            name = f"its first {p} samples" if p > 1 else "its first sample"
            head = self._observation(name, take_samples(batch, slice(None, p)), index)
            rest = self._observation(f"the other {n - p}", take_samples(batch, slice(p, None)), index)
            self._compare(whole, head, rest)
        if self._declared is None:
            self._compare_with_first(head)

    def _compare_with_first(self, head: _Observation) -> None:
        if self._first is None:
            self._first = replace(head, name=f"the first samples of batch {head.index}")
        elif (joined := join_batches(self._first.batch, head.batch)) is not None:
            head = replace(head, name=f"those of batch {head.index}")
            union = self._observation(f"{self._first.name} joined with {head.name}", joined, head.index)
            self._compare(union, self._first, head)

    def _compare(self, whole: _Observation, a: _Observation, b: _Observation) -> None:
        consistent = _consistent_rules(whole.loss, a.loss, b.loss, self._share(a, b))
        if consistent and (self.rule in consistent or (self.rule is None and len(consistent) == 2)):
            return
        if self.rule is None and len(consistent) == 1:
            self.rule = consistent[0]
            return
        losses = (
            f"the loss is {float(whole.loss):.6g} on {whole.name}, {float(a.loss):.6g} on {a.name} and "
            f"{float(b.loss):.6g} on {b.name}"
        )
        if self._declared is not None:
            raise ProblemError(
                f"{losses}: the first is not the {self._declared.description} of the other two, so the batch "
                "can't be split",
                hint=_SPLIT_HINT,
            )
        if consistent:
            raise ProblemError(
                f"{losses}: the first is the {consistent[0]} of the other two, but on earlier batches the "
                f"loss is a {self.rule} over samples",
                hint=_WEIGHT_HINT,
            )
        raise ProblemError(
            f"{losses}: the first is neither the mean over samples nor the sum of the other two",
            hint=_WEIGHT_HINT,
        )

    def _share(self, a: _Observation, b: _Observation) -> float:
        """The share of a in the mean of both."""
        if self._declared is None:
            p, q = float(sample_count(a.batch) or 0), float(sample_count(b.batch) or 0)
        else:
            p, q = (self._declared.batch_weight(x.batch, x.index) for x in (a, b))
        return p / (p + q) if p + q else 0.5

    def result(self) -> Reduction:
        """The reduction that the observed batches show.

        Raises:
            ProblemError: the batches do not determine the reduction.
        """
        if self.rule is None:
            raise ProblemError(
                "the batches do not determine whether the loss is a mean or a sum over samples",
                hint="Set Problem(reduction='mean') or Problem(reduction='sum').",
            )
        if self.rule == "mean" and len(self._batch_of_shapes) > 1:
            first, second = list(self._batch_of_shapes.values())[:2]
            raise ProblemError(
                f"batches {first} and {second} differ in shape beyond their number of samples, so the loss "
                "may be a mean over samples or over their elements, such as tokens",
                hint=_DECLARE_HINT,
            )
        return Reduction(self.rule)

    def _observation(self, name: str, batch: Batch, index: int) -> _Observation:
        try:
            return _Observation(name, batch, index, self._loss(batch, index).detach())
        except ProblemError as error:
            raise ProblemError(
                "the loss can't be computed with another batch size, so how it depends on the number of "
                f"samples can't be determined: {error.message}",
                hint=single_sample_hint(batch) or _DECLARE_HINT,
            ) from error


def _consistent_rules(whole: Tensor, first: Tensor, second: Tensor, share: float) -> list[Rule]:
    """The rules by which the loss of the whole follows from the losses of its two parts."""
    c, a, b = float(whole), float(first), float(second)
    # A part of weight zero may have any loss, also 0/0.
    mean = (share * a if share > 0 else 0.0) + ((1 - share) * b if share < 1 else 0.0)
    eps = torch.finfo(whole.dtype).eps
    # A loss near zero is a difference of logits of order ten, so a part of its rounding error is absolute.
    slack = math.sqrt(eps) * max(abs(c), abs(a), abs(b)) + 64 * eps
    combined: dict[Rule, float] = {"mean": mean, "sum": a + b}
    return [rule for rule, value in combined.items() if abs(c - value) <= slack]


def _shapes_beyond_samples(targets: Batch) -> tuple[tuple[int, ...], ...]:
    """The shapes that a mean over the targets may be taken over besides the samples."""
    return tuple(sample_shape(x) for x in tensors_of(targets))
