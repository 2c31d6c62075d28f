"""Random batches, weighted so that they estimate a sum over all batches without bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats


@dataclass(frozen=True)
class Minibatch:
    """Random batches, weighted so that their sum is an unbiased estimate of the sum over all batches.

    Attributes:
        factors: for the index of each drawn batch, the factor that multiplies the weight of that batch.
        share: the weight of the drawn batches as a fraction of the total weight, in (0, 1].
    """

    factors: Mapping[int, float]
    share: float

    def samples(self, sizes: Sequence[int]) -> tuple[npt.NDArray[np.intp], Floats]:
        """The indices of the samples in the drawn batches, and the factor of each.

        Args:
            sizes: the number of samples in each batch; they are counted one batch after the other.

        Example:
            from eigencore.problems.sharing import Minibatch

            print(Minibatch({0: 1.5, 2: 0.5}, share=0.6).samples([2, 3, 1]))
        """
        starts, drawn = np.cumsum([0, *sizes]), sorted(self.factors)
        rows = np.concatenate([np.arange(starts[b], starts[b + 1]) for b in drawn])
        return rows, np.repeat([self.factors[b] for b in drawn], [sizes[b] for b in drawn])


def draw_minibatch(weights: Sequence[float], step: int, seed: int, batches: int) -> Minibatch:
    """Draws batches with replacement, each with a probability proportional to its weight.

    The draw depends only on the arguments: the same step and seed give the same minibatch.

    Args:
        weights: the weight of each batch in the loss over all data, such as its number of samples.
        step, seed: together they select the random numbers; both at least 0.
        batches: the number of draws, at least 1.

    Returns:
        The drawn batches with their factors and their share of the total weight. A batch that is drawn
        several times appears once.

    Raises:
        UsageError: `batches` is below 1, or `step` or `seed` is negative.
        ProblemError: the weights sum to zero.

    Example:
        from eigencore.problems.sharing import draw_minibatch

        minibatch = draw_minibatch([256, 256, 157], step=0, seed=0, batches=2)
        for index, factor in minibatch.factors.items():
            print(index, factor)
    """
    if batches < 1 or step < 0 or seed < 0:
        raise UsageError(
            f"batches={batches}, step={step}, seed={seed}; expected batches >= 1, step >= 0 and seed >= 0"
        )
    total = sum(weights)
    if not total:
        raise ProblemError("data is empty, or every batch has weight zero")
    rng = arrays.generator(seed, "minibatch", step)
    drawn = rng.choice(len(weights), size=batches, p=np.array(weights) / total)
    return weight_minibatch(Counter(drawn.tolist()), weights)


def weight_minibatch(counts: Mapping[int, int], weights: Sequence[float]) -> Minibatch:
    """The minibatch that results if batch b is drawn counts[b] times.

    With A = sum_b w_b A_b over all batches, W = sum_b w_b, and m draws of probability w_b / W each, the
    estimate is sum_b counts_b (W / (m w_b)) w_b A_b. Its expectation over all draws is A (Hansen & Hurwitz
    1943). A batch that is drawn twice is computed once, and therefore counts once in the share.
    """
    total, m = sum(weights), sum(counts.values())
    factors = {b: times * total / (m * weights[b]) for b, times in counts.items()}
    return Minibatch(factors, sum(weights[b] for b in counts) / total)
