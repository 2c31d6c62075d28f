"""The empirical risk: the loss over all data at once, as a weighted sum of batch losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from eigencore.errors import ProblemError
from eigencore.problems.sharing import Minibatch
from eigencore.processes import ALONE, Processes
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches, sample_count, split_batch, take_samples
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from eigencore_torch.forward_size import ForwardSize
from eigencore_torch.models.params import Layout
from eigencore_torch.reductions.reduction import Reduction
from eigencore_torch.user_errors import is_out_of_memory, release_memory


@dataclass(frozen=True)
class Term:
    """Batch number `index`, or a part of it, with its weight in the risk.

    Attributes:
        last: whether this is the last part of its batch.
        start: the number of samples of the batch before this part.
    """

    index: int
    batch: Batch
    weight: float
    last: bool
    start: int = 0


class Risk:
    """A model's loss over all data, at the weights that it has when the risk is constructed.

    The risk is sum_b w_b loss_b / divisor over the batches b, with w_b and the divisor from the reduction.

    Args:
        weights: the fingerprint of the weights.
        setting: how the loss is evaluated.
        microbatch: the largest number of samples in a term; larger batches are split into several terms.
        forward: the memory of a forward pass over the first batch, if it is known.
        processes: those that compute the risk together; the batches are those of this process.
        numbers: the number of each batch among those of all processes, where two processes may have parts of
            the same batch; None: batches are numbered one process after another.
    """

    def __init__(
        self,
        loss: BatchLoss,
        batches: Batches,
        reduction: Reduction,
        weights: WeightFingerprint,
        setting: Setting,
        microbatch: int | None = None,
        forward: ForwardSize | None = None,
        processes: Processes = ALONE,
        numbers: Sequence[int] | None = None,
    ):
        self.processes, self._given_numbers = processes, numbers
        self.loss, self._batches, self.reduction, self.forward = loss, batches, reduction, forward
        self._weights, self._setting, self._microbatch = weights, setting, microbatch

    def under(self, setting: Setting) -> Risk:
        """The same risk, evaluated in another way."""
        changed = copy.copy(self)
        changed._setting = setting
        return changed

    def session(self) -> AbstractContextManager[None]:
        """The context for every computation; raises ProblemError if the weights changed."""
        data, unchanged = self._batches.data, self._weights.check_unchanged
        return preserve_state(self.loss.modules, self._setting, data, check=unchanged)

    def of_samples(
        self,
        loss: BatchLoss,
        batches: Sequence[Batch],
        join: int | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Risk:
        """The mean of another loss over the samples of other batches, under the same conditions.

        Args:
            batches: those of this process.
            join: as for `Batches`.
            numbers: as for the risk.
        """
        data = Batches(batches, self._setting.device, self._batches.dtype, join=join)
        reduction, setting = Reduction("mean"), self._setting
        return Risk(
            loss, data, reduction, self._weights, setting, self._microbatch, None, self.processes, numbers
        )

    def of_first_order(self) -> Risk:
        """The same risk, of which no second derivatives are taken, so that any kernel may be used."""
        return self.under(replace(self._setting, derivative="difference"))

    def at(self, weights: WeightFingerprint) -> Risk:
        """The same risk at the weights that the model has now, whose fingerprint this is."""
        changed = copy.copy(self)
        changed._weights = weights
        return changed

    def of_batch(self, batch: Batch) -> Risk:
        """The loss of one batch by itself, as a step of a training run sees it."""
        data = Batches([batch], self._setting.device, self._batches.dtype)
        return Risk(self.loss, data, Reduction("sum"), self._weights, self._setting)

    @property
    def mixes_samples(self) -> bool:
        """Whether the loss of a sample depends on the other samples of its batch."""
        return self._setting.batch_norm == "batch"

    def batches(self) -> Iterator[Batch]:
        """All batches, whole; must be called inside a session."""
        return iter(self._batches)

    def terms(self) -> Iterator[Term]:
        """All terms, batch after batch, without those of weight zero."""
        numbered = enumerate(self._batches)
        return (term for index, batch in numbered for term in self._split(batch, index, self._microbatch))

    def terms_of(self, wanted: Collection[int]) -> dict[int, tuple[Term, ...]]:
        """The terms of some batches, by batch number."""
        fetched = self._batches.fetch(wanted)
        return {index: tuple(self._split(batch, index, self._microbatch)) for index, batch in fetched.items()}

    def parts(self, term: Term, most: int) -> Iterator[Term]:
        """A term in parts of at most `most` samples, whose weighted sum it is if `can_split` says so."""
        parts = self._split(term.batch, term.index, most, term.start)
        return (replace(part, last=part.last and term.last) for part in parts)

    def can_split(self, index: int, most: int | None = None) -> bool:
        """Whether the loss of batch number `index` is the weighted sum of the losses of its parts.

        It is tested on at most so many of the first samples, and no more than fit into memory. Must be called
        inside a session. Measured weights are those of whole batches.
        """
        if self.reduction.measured is not None:
            return False
        batch = self._batches.fetch({index})[index]
        samples = sample_count(batch) or 0
        samples = samples if most is None else min(samples, most)
        while samples > 1:
            head = take_samples(batch, slice(samples))
            try:
                with torch.no_grad():
                    return self._is_sum_of_parts(head, index, 2 * samples // 3)
            except ProblemError as error:
                if not is_out_of_memory(error):
                    return False
                release_memory(error, self._setting.device)
            samples = max(2, samples // 2) if samples > 2 else 0
        return False

    def _is_sum_of_parts(self, batch: Batch, index: int, most: int) -> bool:
        weight, loss = self.reduction.batch_weight(batch, index), self.loss(batch, index)
        whole = weight * float(loss)
        terms = self._split(batch, index, most)
        parts = sum(term.weight * float(self.loss(term.batch, index)) for term in terms)
        eps = torch.finfo(loss.dtype).eps
        # The loss is a difference of logits of order ten, so a part of its rounding error is absolute.
        return abs(whole - parts) <= math.sqrt(eps) * max(abs(whole), abs(parts)) + 64 * eps * weight

    @property
    def batch_weights(self) -> tuple[float, ...]:
        """w_b of each batch of all processes, from one pass over the data without the model."""
        return self._numbered_weights[1]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each batch of this process among those of all processes."""
        return self._numbered_weights[0]

    def skipped(self, index: int) -> int:
        """The samples at the beginning of a batch that belong to the process before this one."""
        part = self._batches.part
        return part.start if part is not None and index == 0 else 0

    @cached_property
    def _numbered_weights(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        part, given = self._batches.part, self._given_numbers

        def own() -> tuple[Sequence[int] | None, list[float]]:
            weights = [self.reduction.batch_weight(batch, index) for index, batch in enumerate(self._batches)]
            return (range(part.first, part.last + 1) if part and not self._batches.joins else given), weights

        found = self.processes.collect(own, "the weights of the batches")
        numbered, after = [], 0
        for numbers, weights in found:
            numbered.append(tuple(range(after, after + len(weights)) if numbers is None else numbers))
            after += len(weights)
        total = [0.0] * (1 + max((number for numbers in numbered for number in numbers), default=-1))
        for numbers, (_, weights) in zip(numbered, found, strict=True):
            for number, weight in zip(numbers, weights, strict=True):
                total[number] += weight
        return numbered[self.processes.rank], tuple(total)

    def own_factors(self, sample: Minibatch) -> dict[int, float]:
        """The factors of the drawn batches of this process, by their numbers in this process."""
        factors = sample.factors
        return {index: factors[number] for index, number in enumerate(self.numbers) if number in factors}

    def _split(self, batch: Batch, index: int, most: int | None, start: int = 0) -> Iterator[Term]:
        parts = split_batch(batch, index, most)
        weights = self.reduction.part_weights(parts, index)
        self._refuse_inconsistent_weights(batch, index, weights)
        starts = accumulate((sample_count(part) or 0 for part in parts), initial=start)
        counted = [one for one in zip(parts, weights, starts, strict=False) if one[1]]
        for place, (part, weight, first) in enumerate(counted, start=1):
            yield Term(index, part, weight, last=place == len(counted), start=first)

    def _refuse_inconsistent_weights(self, batch: Batch, index: int, weights: list[float]) -> None:
        if len(weights) == 1 or self.reduction.rule == "sum":
            return
        whole = self.reduction.batch_weight(batch, index)
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
        return self.reduction.divisor(total_weight)

    def value(self, *given: Tensor) -> float:
        """The loss over all data at the current weights; must be called inside a session.

        Args:
            given: what the weights depend on, which must be the same in all processes.
        """

        def own() -> Tensor:
            value = total_weight = 0.0
            for term in self.terms():
                value += term.weight * float(self.loss(term.batch, term.index).detach())
                total_weight += term.weight
            return torch.tensor([value, total_weight], dtype=torch.float64)

        value, total_weight = self.processes.sum(own, "the loss over all data", *given).tolist()
        return float(value) / self.divisor(total_weight)

    def gradient(self, layout: Layout, sample: Minibatch | None = None) -> Tensor:
        """The gradient (n,) of the loss over all data, or over a minibatch; inside a session."""
        return self.value_and_gradient(layout, sample)[1]

    def value_and_gradient(self, layout: Layout, sample: Minibatch | None = None) -> tuple[Tensor, Tensor]:
        """The loss () over all data, or over a minibatch, in float64, and its gradient (n,); in a session."""
        totals = torch.zeros(
            2, dtype=torch.float64, device=layout.device
        )  # the weighted loss, and the weight

        def own() -> Tensor:
            gradient = torch.zeros(layout.rows, dtype=layout.dtype, device=layout.device)
            if sample is None:
                weighted = ((1.0, term) for term in self.terms())
            else:
                factors = self.own_factors(sample)
                fetched = self.terms_of(factors.keys())
                weighted = ((factors[index], term) for index in fetched for term in fetched[index])
            for factor, term in weighted:
                loss = self.loss(term.batch, term.index)
                totals[0] += factor * term.weight * loss.detach().to(totals.device)
                totals[1] += term.weight
                if loss.requires_grad:
                    pieces = torch.autograd.grad(loss, layout.parameters, allow_unused=True)
                    layout.add(gradient, pieces, factor * term.weight)
            return gradient

        gradient: Tensor = self.processes.sum(own, "the gradient")
        value, weight = self.processes.sum(lambda: totals, "the loss")
        divisor = self.divisor(float(weight) if sample is None else sum(self.batch_weights))
        return value / divisor, gradient / divisor

    def total(self, weight: float) -> float:
        """The sum over the processes of the total weight of the batches of each."""
        own = torch.tensor([weight], dtype=torch.float64)
        return float(self.processes.sum(lambda: own, "the total weight"))
