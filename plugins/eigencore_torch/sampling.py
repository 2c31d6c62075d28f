"""Which batches a minibatch is made of: drawn with replacement by weight, so that the mean is unbiased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eigencore.errors import ProblemError, UsageError


@dataclass(frozen=True)
class Sample:
    """Batches of the data, each with what its weight is multiplied by, and their share of all weight."""

    factors: Mapping[int, float]
    share: float


def draw(weights: Sequence[float], step: int, seed: int, batches: int) -> Sample:
    """`batches` of the batches of these weights; the same for the same step and seed.

    Raises:
        UsageError: fewer than one is asked for, or step or seed is negative.
    """
    if batches < 1 or step < 0 or seed < 0:
        raise UsageError(
            f"batches={batches}, step={step}, seed={seed}; expected batches of at least 1, the others of 0"
        )
    total = sum(weights)
    if not total:
        raise ProblemError("data is empty, or every batch has weight zero")
    rng = np.random.default_rng([seed, step])
    drawn = rng.choice(len(weights), size=batches, p=np.array(weights) / total)
    return weighed(Counter(drawn.tolist()), weights)


def weighed(drawn: Mapping[int, int], weights: Sequence[float]) -> Sample:
    """The sample where each batch was drawn so many times.

    With sum_b w_b A_b the whole, W = sum_b w_b and m draws of probability w_b / W each, it stands for
    sum_b times_b (W / (m w_b)) w_b A_b, whose mean over all draws is the whole (Hansen & Hurwitz 1943).
    A batch that was drawn twice is computed once, and so counts once in the share.
    """
    total, m = sum(weights), sum(drawn.values())
    factors = {b: times * total / (m * weights[b]) for b, times in drawn.items()}
    return Sample(factors, sum(weights[b] for b in drawn) / total)
