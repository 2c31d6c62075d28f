"""An operator that is a mean over samples with a known matrix, for tests of sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import array_api_compat.numpy as xp
import numpy as np

from eigencore.operators import MatrixLike

if TYPE_CHECKING:
    from eigencore.space import Floats


class RankOneMean(MatrixLike):
    """The mean of c_s x_s x_s' over N samples, plus c I, as a Gauss-Newton matrix is.

    Attributes:
        x, c: the vectors (N, n) and the factors (N,).
        products: the number of products with single samples so far.
        before: is called before every product.
    """

    xp, dtype, device = xp, np.dtype(np.float64), "cpu"

    def __init__(self, x: Floats, c: Floats, scores: Floats | None = None, shift: float = 0.0) -> None:
        self.x, self.c, self.shift = x, c, shift
        self.scores = np.ones(len(x)) if scores is None else scores
        self.shape = (x.shape[1], x.shape[1])
        self.products = 0
        self.before: Callable[[], None] = lambda: None

    @property
    def matrix(self) -> Floats:
        A: Floats = (self.x.T * self.c) @ self.x / len(self.x) + self.shift * np.eye(self.shape[0])
        return A

    def matvec(self, v: Floats, /) -> Floats:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Floats, /) -> Floats:
        self.before()
        self.products += V.shape[1] * len(self.x)
        AV: Floats = self.x.T @ (self.c[:, None] * (self.x @ V)) / len(self.x)
        return AV + self.shift * V

    def sample_scores(self) -> Floats:
        return self.scores

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> RankOneSample:
        return RankOneSample(self, groups, weights)


class RankOneSample(MatrixLike):
    """The weighted mean over some samples of a RankOneMean, group by group."""

    xp, dtype, device = xp, np.dtype(np.float64), "cpu"

    def __init__(self, whole: RankOneMean, groups: Sequence[Sequence[int]], weights: Floats) -> None:
        self.whole, self.shape, self.shift = whole, whole.shape, whole.shift
        parts = np.split(weights, np.cumsum([len(group) for group in groups])[:-1])
        self.parts = [
            (whole.x[list(group)], whole.c[list(group)] * part)
            for group, part in zip(groups, parts, strict=True)
        ]
        self.draws = len(weights)

    def matvec(self, v: Floats, /) -> Floats:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Floats, /) -> Floats:
        products = zip(self.parts, self.group_products(V), strict=True)
        AV: Floats = sum((len(x) / self.draws * product for (x, _), product in products), self.shift * V)
        return AV

    def group_products(self, V: Floats | Callable[[int], Floats], /) -> Iterator[Floats]:
        self.whole.before()
        for number, (x, c) in enumerate(self.parts):
            block = V(number) if callable(V) else V
            self.whole.products += block.shape[1] * len(x)
            yield x.T @ (c[:, None] * (x @ block)) / len(x)

    def curvatures(self, V: Floats, /) -> Floats:
        return np.concatenate([c[:, None] * (x @ V) ** 2 for x, c in self.parts])


def outliers(
    N: int = 2000, spikes: Sequence[float] = (10.0, 7.0, 5.0, 3.0), n: int = 40, *, spread: float = 0.0
) -> RankOneMean:
    """A mean with these largest eigenvalues, about, and a bulk.

    Args:
        spread: the logarithmic spread of the samples' factors, which are also their scores; 0: all are equal.
    """
    rng = np.random.default_rng(5)
    scale = np.concatenate([np.sqrt(spikes), np.full(n - len(spikes), 0.3)])
    c = np.exp(spread * rng.standard_normal(N) - spread**2 / 2)
    scores = None if spread == 0 else c * rng.uniform(0.5, 1.5, N)
    return RankOneMean(rng.standard_normal((N, n)) * scale, c, scores)
