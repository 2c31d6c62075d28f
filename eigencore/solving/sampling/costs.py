"""What an accuracy costs by a sample, beside a solve on all data; in products with all data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eigencore.operators.counting import CURVATURE
from eigencore.results import EigenResult, SamplingCost, Step
from eigencore.solving.sampling.estimate import GroupStatistics, draws_needed, draws_to_polish

AIM = 0.9  # of the accuracy, since a sample that just misses it is wasted
SHOWN = (0.1, 0.05, 0.01)


def interval_products(vectors: int, wanted: int) -> float:
    """The cost of the statistics of a sample in products with it: of its groups, and of single samples."""
    return vectors + CURVATURE * wanted


@dataclass(frozen=True)
class Pilot:
    """A sample that has been solved, from which costs are predicted.

    Attributes:
        matvecs: the products with the sample that its pairs took.
        full: the predicted products of a solve on all data for the wanted pairs alone.
    """

    statistics: GroupStatistics
    total: int
    weighted: bool
    vectors: int
    matvecs: float
    full: float

    def cost(self, accuracy: float) -> SamplingCost:
        """The cheaper one of a sample, and of products of all data with the vectors of a sample."""
        wanted, before = self.statistics.curvatures.shape[1], self.statistics.draws
        each = (self.matvecs + interval_products(self.vectors, wanted)) / self.total
        ways = []
        draws = draws_needed(self.statistics, AIM * accuracy, self.total, weighted=self.weighted)
        if draws is not None:
            ways.append(SamplingCost(accuracy, "sample", draws, draws * each))
        draws = max(draws_to_polish(self.statistics, accuracy), before)
        if draws <= self.total:
            further = draws * each if draws > before else 0.0
            ways.append(SamplingCost(accuracy, "polish", draws, further + self.vectors))
        return min(
            ways, key=lambda way: way.matvecs or 0.0, default=SamplingCost(accuracy, "sample", None, None)
        )

    def costs(self, rtol: float) -> tuple[SamplingCost, ...]:
        """The costs of the usual accuracies, and of the one requested."""
        return tuple(self.cost(accuracy) for accuracy in sorted({*SHOWN, rtol}, reverse=True))


def predicted_full(result: EigenResult, history: Sequence[Step], wanted: int) -> float:
    """The products of a solve for the wanted pairs, as read from one for more pairs of a sample.

    The number of products of a Krylov method depends on the spectrum, which is similar for all data.
    """
    solved = next((row.matvecs for row in history if row.converged >= wanted), result.matvecs)
    return solved + result.certificate.matvecs + result.certificate.complete_matvecs
