"""Weighted random samples of the data, in groups whose spread shows the error of their mean.

They are what `MeanOperator.sampled` takes.

A sample s with the score e_s is drawn with the probability pi_s = .9 e_s / sum e + .1 / N, with
replacement, and has the weight 1 / (N pi_s), so that the weighted mean is unbiased (Hansen & Hurwitz 1943).
The second term bounds the weights by ten: the score of a sample may be too low, and a sample with a large
weight that is drawn by chance would dominate the mean. If all scores are equal, or all samples are wanted,
the samples are drawn without replacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError, UsageError

if TYPE_CHECKING:
    from eigencore.space import Floats

UNIFORM_PART = 0.1
# Intervals from fewer samples, weighted by what each contributes, were seen to cover less than they state.
MIN_EFFECTIVE = 50.0
PILOT = 320  # draws that find out how many an accuracy takes
EQUAL = 1e-6  # scores that differ by no more than this, relative to the largest, count as equal
FEW_GROUPS, MANY_GROUPS, MANY_DRAWS = 20, 40, 1280


@dataclass(frozen=True)
class Draw:
    """Samples that were drawn, in groups of equal size but for one draw.

    Attributes:
        total: the number N of samples in the data.
        groups: the indices of the samples in each group.
        weights: the weight of each draw (draws,), in the order of the groups.
        weighted: whether samples were drawn by their scores and with replacement.
    """

    total: int
    groups: tuple[tuple[int, ...], ...]
    weights: Floats
    weighted: bool

    @property
    def draws(self) -> int:
        """The number of samples that were drawn, with repetitions."""
        return len(self.weights)

    @property
    def indices(self) -> tuple[int, ...]:
        """The index of the sample of each draw, in the order of the groups."""
        return tuple(chain.from_iterable(self.groups))

    @property
    def unseen(self) -> float:
        """The factor f of the variance of a mean: 1 - draws / N without replacement, otherwise 1."""
        return 1.0 if self.weighted else 1.0 - self.draws / self.total

    def parts(self, most: int) -> Iterator[Draw]:
        """The same draws in parts of at most so many groups."""
        ends = np.cumsum([0, *map(len, self.groups)])
        for begin in range(0, len(self.groups), most):
            groups = self.groups[begin : begin + most]
            weights = self.weights[ends[begin] : ends[begin + len(groups)]]
            yield replace(self, groups=groups, weights=weights)


def draw(scores: Floats, draws: int, seed: int, *, groups: int | None = None, number: int = 0) -> Draw:
    """Draws samples in random order, and puts them into groups.

    Args:
        scores: the score of each sample (N,), at least 0.
        draws: how many samples to draw, from 2 to N.
        seed: the seed of the random numbers.
        groups: the number of groups; None: 20, or 40 from 1,280 draws.
        number: tells independent draws with the same seed apart.

    Raises:
        UsageError: `draws` is out of range.
        ProblemError: a score is negative or not finite.

    Example:
        import numpy as np
        from eigencore.operators import draw

        drawn = draw(np.linspace(0.0, 1.0, 1000), draws=200, seed=0)
        print(len(drawn.groups), drawn.weights.max() <= 10)
    """
    N = len(scores)
    if not 2 <= draws <= N:
        raise UsageError(
            f"samples is {draws}; expected 2 to {N}, the number of samples in the data",
            hint="Leave samples out to use all data.",
        )
    if not (np.all(np.isfinite(scores)) and np.all(scores >= 0)):
        raise ProblemError("the scores of the samples are not all finite numbers of at least 0")
    rng = arrays.generator(seed, "samples" if not number else f"samples, draw {number}", draws)
    weighted = draws < N and float(np.ptp(scores)) > EQUAL * float(scores.max())
    if weighted:
        p = (1 - UNIFORM_PART) * scores / scores.sum() + UNIFORM_PART / N
        indices = rng.choice(N, size=draws, p=p / p.sum())
        weights = 1 / (N * p[indices])
    else:
        indices, weights = rng.permutation(N)[:draws], np.ones(draws)
    parts = np.array_split(indices, group_count(draws) if groups is None else min(groups, draws))
    return Draw(N, tuple(tuple(part.tolist()) for part in parts), weights, weighted)


def group_count(draws: int) -> int:
    """The number of groups: enough to estimate a variance from, and no more, since each is computed alone."""
    return min(draws, FEW_GROUPS if draws < MANY_DRAWS else MANY_GROUPS)
