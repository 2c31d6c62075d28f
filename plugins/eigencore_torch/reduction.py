"""How batch losses make up the loss over all data: as means, as sums, or by weights that are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.data import Batch, is_pair, join, part, shapes, size, tensors

if TYPE_CHECKING:
    from eigencore_torch.risk import BatchLoss

Rule = Literal["mean", "sum"]

_WEIGH = (
    "Give Problem(weight=...), a function from a batch to how much of its mean loss counts, such as the "
    "number of its tokens, or the sum of its labels' class weights."
)
_ASK = f"{_WEIGH} Or say reduction='mean' (over samples) or reduction='sum'."
_UNSPLIT = (
    "A batch can be split where its loss is a mean or a sum over samples, or the mean that "
    "Problem(weight=...) tells. Else set torch.microbatch=none and give batches that the device can hold."
)


@dataclass(frozen=True)
class Reduction:
    """The weight of each batch in the loss over all data.

    A mean over a batch weighs by the batch's size, or by what `weight` says it is a mean over, and a sum
    by one; a mean is then divided by the sum of these weights.
    """

    rule: Rule
    weight: Callable[[Batch], float] | None = None

    def weigh(self, batch: Batch, index: int) -> float:
        if self.weight is not None:
            return self._given(float(self.weight(batch)), index)
        if self.rule == "sum":
            return 1.0
        count = size(batch)
        if count is None:
            raise ProblemError(
                f"how many samples batch {index} has can't be told from {shapes(batch)}", hint=_ASK
            )
        return float(count)

    @property
    def words(self) -> str:
        return f"their {self.rule}" + (" by weight" if self.weight else "")

    def total(self, weights: float) -> float:
        return 1.0 if self.rule == "sum" else weights

    def _given(self, weight: float, index: int) -> float:
        if not (math.isfinite(weight) and weight >= 0):
            raise ProblemError(f"weight gave {weight} on batch {index}; expected a number of at least 0")
        return weight


@dataclass(frozen=True)
class _Sampled:
    """Some samples and their loss, and what they are called; `index` is the number of their batch."""

    name: str
    batch: Batch
    index: int
    loss: Tensor


class Inference:
    """Finds out whether a loss is a mean or a sum over samples, by looking at batches one after the other.

    Two samplings with the losses a and b, and their samples together with the loss c: where the loss is a
    mean over p and q samples, c = (p a + q b) / (p + q); where it is a sum, c = a + b. A batch is cut into
    two unequal parts, and its first samples are joined with the first of all: a mean weighted by class or by
    what counts may be even within each batch, and not from one batch to the next.

    Args:
        declared: what the loss is said to be. Then it is only looked at whether batches can be split.
    """

    def __init__(self, loss: BatchLoss, declared: Reduction | None = None):
        self._loss, self._declared = loss, declared
        self.rule: Rule | None = None if declared is None else declared.rule
        self._shapes: dict[tuple[tuple[int, ...], ...], int] = {}
        self._first: _Sampled | None = None

    def look(self, batch: Batch, index: int, value: Tensor) -> None:
        """Takes batch number `index`, or a part of it, and its loss into account.

        Raises:
            ProblemError: neither a mean nor a sum fits, or the batches don't agree.
        """
        n = size(batch)
        if n is None:
            raise ProblemError(
                f"batch {index}, {shapes(batch)}, has no first dimension that all its tensors share, so that "
                "it can't be told how its loss depends on its size",
                hint=_ASK,
            )
        self._shapes.setdefault(_beyond_samples(batch), index)
        whole = _Sampled(f"batch {index}", batch, index, value.detach())
        head = whole
        if n > 1:
            p = max(1, n // 3)
            head = self._of(
                f"its first {p} samples" if p > 1 else "its first sample", part(batch, slice(None, p)), index
            )
            rest = self._of(f"the other {n - p}", part(batch, slice(p, None)), index)
            self._compare(whole, head, rest)
        if self._declared is None:
            self._join(head)

    def _join(self, head: _Sampled) -> None:
        if self._first is None:
            self._first = replace(head, name=f"the first samples of batch {head.index}")
        elif (both := join(self._first.batch, head.batch)) is not None:
            head = replace(head, name=f"those of batch {head.index}")
            together = self._of(f"{self._first.name} with {head.name}", both, head.index)
            self._compare(together, self._first, head)

    def _compare(self, whole: _Sampled, a: _Sampled, b: _Sampled) -> None:
        fits = _fitting(whole.loss, a.loss, b.loss, self._share(a, b))
        if fits and (self.rule in fits or (self.rule is None and len(fits) == 2)):
            return
        if self.rule is None and len(fits) == 1:
            self.rule = fits[0]
            return
        told = (
            f"the loss of {whole.name} is {float(whole.loss):.6g}, of {a.name} {float(a.loss):.6g} and of "
            f"{b.name} {float(b.loss):.6g}"
        )
        if self._declared is not None:
            raise ProblemError(f"{told}: not {self._declared.words}, so it can't be split", hint=_UNSPLIT)
        others = f", and others are a {self.rule}" if fits else ""
        raise ProblemError(f"{told}: neither their mean over samples nor their sum{others}", hint=_WEIGH)

    def _share(self, a: _Sampled, b: _Sampled) -> float:
        """How much of the mean is a's."""
        if self._declared is None:
            p, q = float(size(a.batch) or 0), float(size(b.batch) or 0)
        else:
            p, q = (self._declared.weigh(x.batch, x.index) for x in (a, b))
        return p / (p + q) if p + q else 0.5

    def result(self) -> Reduction:
        """Raises ProblemError where the batches seen don't decide."""
        if self.rule is None:
            raise ProblemError(
                "the batches don't tell whether their loss is a mean or a sum over samples",
                hint="Say Problem(reduction='mean') or Problem(reduction='sum').",
            )
        if self.rule == "mean" and len(self._shapes) > 1:
            first, second = list(self._shapes.values())[:2]
            raise ProblemError(
                f"batches {first} and {second} differ in shape beyond their number of samples: is the loss a "
                "mean over samples, or over what the samples are made of?",
                hint=_ASK,
            )
        return Reduction(self.rule)

    def _of(self, name: str, batch: Batch, index: int) -> _Sampled:
        try:
            return _Sampled(name, batch, index, self._loss(batch, index).detach())
        except ProblemError as error:
            raise ProblemError(
                f"the loss of {name} can't be had, so how it depends on the number of samples can't be told: "
                f"{error.message}",
                hint=_ASK,
            ) from error


def _fitting(whole: Tensor, first: Tensor, second: Tensor, share: float) -> list[Rule]:
    c, a, b = float(whole), float(first), float(second)
    # What counts for nothing may have any loss, 0/0 among them.
    mean = (share * a if share > 0 else 0.0) + ((1 - share) * b if share < 1 else 0.0)
    eps = torch.finfo(whole.dtype).eps
    # A loss near zero is a difference of logits of order ten, so a part of its rounding is absolute.
    slack = math.sqrt(eps) * max(abs(c), abs(a), abs(b)) + 64 * eps
    combined: dict[Rule, float] = {"mean": mean, "sum": a + b}
    return [rule for rule, value in combined.items() if abs(c - value) <= slack]


def _beyond_samples(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """The shapes that a mean may run over besides the samples: the targets' of a pair, else all."""
    return tuple(tuple(x.shape[1:]) for x in tensors(batch[1] if is_pair(batch) else batch))
