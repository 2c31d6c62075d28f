"""How batch losses make up the loss over all data: as means, as sums, or by weights that are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore_torch.data import Batch, is_pair, part, shapes, size, tensors

if TYPE_CHECKING:
    from eigencore_torch.risk import BatchLoss

Rule = Literal["mean", "sum"]

_ASK = (
    "Give Problem(weight=...), a function from a batch to how much of its mean loss counts, such as the "
    "number of its tokens; or say reduction='mean' (over samples) or reduction='sum'."
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

    def total(self, weights: float) -> float:
        return 1.0 if self.rule == "sum" else weights

    def _given(self, weight: float, index: int) -> float:
        if not (math.isfinite(weight) and weight >= 0):
            raise ProblemError(f"weight gave {weight} on batch {index}; expected a number of at least 0")
        return weight


class Inference:
    """Finds out whether a loss is a mean or a sum over a batch, by looking at batches one after the other.

    A batch of n samples is cut into unequal parts of p and q samples. Its loss is (p a + q b) / n of the
    parts' losses a and b where it is a mean over samples, and a + b where it is a sum.
    """

    def __init__(self, loss: BatchLoss):
        self._loss = loss
        self.rule: Rule | None = None
        self._shapes: dict[tuple[tuple[int, ...], ...], int] = {}

    def look(self, batch: Batch, index: int, value: Tensor) -> None:
        """Takes batch number `index` and its loss into account.

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
        if n < 2:
            return
        p = max(1, n // 3)
        whole = float(value.detach())
        a = self._of(part(batch, slice(None, p)), index)
        b = self._of(part(batch, slice(p, None)), index)
        fits = _fitting(whole, a, b, p / n, torch.finfo(value.dtype).eps)
        if fits and (self.rule in fits or (self.rule is None and len(fits) == 2)):
            return
        if self.rule is None and len(fits) == 1:
            self.rule = fits[0]
            return
        others = f", and other batches are a {self.rule}" if fits else ""
        raise ProblemError(
            f"the loss of batch {index} is {whole:.6g}, on its first {p} samples {a:.6g} and on the other "
            f"{n - p} {b:.6g}: neither their mean over samples nor their sum{others}",
            hint=_ASK,
        )

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

    def _of(self, batch: Batch, index: int) -> float:
        try:
            return float(self._loss(batch, index).detach())
        except ProblemError as error:
            raise ProblemError(
                f"batch {index} can't be cut into parts, so how its loss depends on its size can't be told: "
                f"{error.message}",
                hint=_ASK,
            ) from error


def _fitting(whole: float, a: float, b: float, share: float, eps: float) -> list[Rule]:
    # A loss near zero is a difference of logits of order ten, so a part of its rounding is absolute.
    slack = math.sqrt(eps) * max(abs(whole), abs(a), abs(b)) + 64 * eps
    combined: dict[Rule, float] = {"mean": share * a + (1 - share) * b, "sum": a + b}
    return [rule for rule, value in combined.items() if abs(whole - value) <= slack]


def _beyond_samples(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """The shapes that a mean may run over besides the samples: the targets' of a pair, else all."""
    return tuple(tuple(x.shape[1:]) for x in tensors(batch[1] if is_pair(batch) else batch))
