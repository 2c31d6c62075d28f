"""The empirical risk: the loss over all data at once, as a weighted sum of batch losses."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.batch_tensors import Batch
from eigencore_torch.batches import Batches, split_batch
from eigencore_torch.fingerprints import WeightFingerprint
from eigencore_torch.preserved_state import Setting, preserve_state
from eigencore_torch.reduction import Reduction


@dataclass(frozen=True)
class Term:
    """Batch number `index`, or a part of it, with its weight in the risk.

    Attributes:
        last: whether this is the last part of its batch.
    """

    index: int
    batch: Batch
    weight: float
    last: bool


class Risk:
    """A model's loss over all data, at the weights that it has when the risk is constructed.

    The risk is sum_b w_b loss_b / divisor over the batches b, with w_b and the divisor from the reduction.

    Args:
        weights: the fingerprint of the weights.
        setting: how the loss is evaluated.
        microbatch: the largest number of samples in a term; larger batches are split into several terms.
    """

    def __init__(
        self,
        loss: BatchLoss,
        batches: Batches,
        reduction: Reduction,
        weights: WeightFingerprint,
        setting: Setting,
        microbatch: int | None = None,
    ):
        self.loss, self._batches, self._reduction = loss, batches, reduction
        self._weights, self._setting, self._microbatch = weights, setting, microbatch

    def session(self) -> AbstractContextManager[None]:
        """The context for every computation; raises ProblemError if the weights changed."""
        data, unchanged = self._batches.data, self._weights.check_unchanged
        return preserve_state(self.loss.modules, self._setting, data, check=unchanged)

    def terms(self) -> Iterator[Term]:
        """All terms, batch after batch, without those of weight zero."""
        return (term for index, batch in enumerate(self._batches) for term in self._split(batch, index))

    def terms_of(self, wanted: Collection[int]) -> dict[int, tuple[Term, ...]]:
        """The terms of some batches, by batch number."""
        fetched = self._batches.fetch(wanted)
        return {index: tuple(self._split(batch, index)) for index, batch in fetched.items()}

    @cached_property
    def batch_weights(self) -> tuple[float, ...]:
        """w_b of each batch, from one pass over the data without the model."""
        return tuple(self._reduction.batch_weight(batch, index) for index, batch in enumerate(self._batches))

    def _split(self, batch: Batch, index: int) -> Iterator[Term]:
        parts = split_batch(batch, index, self._microbatch)
        weights = [self._reduction.batch_weight(part, index) for part in parts]
        self._refuse_inconsistent_weights(batch, index, weights)
        counted = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
        for place, (part, weight) in enumerate(counted, start=1):
            yield Term(index, part, weight, last=place == len(counted))

    def _refuse_inconsistent_weights(self, batch: Batch, index: int, weights: list[float]) -> None:
        if len(weights) == 1 or self._reduction.rule == "sum":
            return
        whole = self._reduction.batch_weight(batch, index)
        if abs(whole - sum(weights)) > 1e-6 * whole:
            raise ProblemError(
                f"weight returns {whole:g} for batch {index} but {sum(weights):g} in total for its parts",
                hint="Make weight count the items that the loss averages over, or set torch.microbatch=none.",
            )

    def divisor(self, total_weight: float) -> float:
        """The divisor of a weighted sum over batches, given the sum of the weights.

        Raises:
            ProblemError: the sum of the weights is zero.
        """
        if total_weight == 0:
            raise ProblemError("data is empty, or every batch has weight zero")
        return self._reduction.divisor(total_weight)

    def value(self) -> float:
        """The loss over all data at the current weights; must be called inside a session."""
        value = total_weight = 0.0
        for term in self.terms():
            value += term.weight * float(self.loss(term.batch, term.index).detach())
            total_weight += term.weight
        return value / self.divisor(total_weight)
