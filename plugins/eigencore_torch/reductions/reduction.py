"""The reduction of batch losses to the loss over all data: as means, as sums, or with weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from eigencore.errors import ProblemError
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import SAME_DATA_HINT, describe, sample_count_beside_objects
from eigencore_torch.user_errors import explain_errors

Rule = Literal["mean", "sum"]

WEIGHT_HINT = (
    "Give Problem(weight=...), a function that returns the weight of a batch's mean loss, such as the number "
    "of tokens or the sum of the labels' class weights."
)
DECLARE_HINT = f"{WEIGHT_HINT} Or set reduction='mean' (over samples) or reduction='sum'."


@dataclass(frozen=True)
class MeasuredWeights:
    """The weights of batches whose loss is a weighted mean.

    Attributes:
        parts: the weights of the parts that each batch is split into, by batch number, in any unit.
        error: a bound on their relative rounding errors.
    """

    parts: Mapping[int, Sequence[float]]
    error: float = 0.0


@dataclass(frozen=True)
class Reduction:
    """The weight of each batch in the loss over all data.

    A batch whose loss is a mean has its number of samples as weight, the value of `weight`, or a measured
    weight; a batch whose loss is a sum has weight one. For means, the weighted sum is then divided by the sum
    of the weights.

    Attributes:
        weight: a function from a batch to the weight of its mean loss.
        measured: the weights by batch number, if they were measured.
        weight_note: what `weight` is, if it was found and not given.
    """

    rule: Rule
    weight: Callable[[Batch], float] | None = None
    measured: MeasuredWeights | None = None
    weight_note: str = ""

    def batch_weight(self, batch: Batch, index: int) -> float:
        """The weight of batch number `index`, or of a part of it unless weights were measured.

        Raises:
            ProblemError: the number of samples is ambiguous, `weight` returned an invalid number, or the data
                changed since the weights were measured.
        """
        if self.measured is not None:
            return math.fsum(self._measured(index))
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
                hint=DECLARE_HINT,
            )
        return float(count)

    def part_weights(self, parts: Sequence[Batch], index: int) -> list[float]:
        """The weights of all parts of batch number `index`, which is its only part if it is not split.

        Raises:
            ProblemError: the same as in `batch_weight`.
        """
        if self.measured is None:
            return [self.batch_weight(part, index) for part in parts]
        weights = self._measured(index)
        return weights if len(weights) == len(parts) else self._refuse_changed_data(index)

    @property
    def description(self) -> str:
        """The relation of the loss of joined batches to the losses of the batches, for messages."""
        return f"weighted {self.rule}" if self.weight else self.rule

    @property
    def note(self) -> str:
        """What the user should know about the weights; empty if they are sample counts or given."""
        if self.measured is None or not self.measured.error:
            return self.weight_note
        return f"batches weighted as measured from gradients, not by samples (to {self.measured.error:.0e})"

    def divisor(self, total_weight: float) -> float:
        """What the weighted sum of batch losses is divided by: the total weight for means, 1 for sums."""
        return 1.0 if self.rule == "sum" else total_weight

    def _measured(self, index: int) -> list[float]:
        assert self.measured is not None
        weights = self.measured.parts.get(index)
        return list(weights) if weights else self._refuse_changed_data(index)

    def _refuse_changed_data(self, index: int) -> NoReturn:
        raise ProblemError(
            f"the data changed: batch {index} is not the one whose weight was measured", hint=SAME_DATA_HINT
        )

    def _checked(self, weight: float, index: int) -> float:
        if not (math.isfinite(weight) and weight >= 0):
            raise ProblemError(
                f"weight returned {weight} for batch {index}; expected a finite number of at least 0"
            )
        return weight
