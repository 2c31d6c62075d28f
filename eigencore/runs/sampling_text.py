"""What a sample shows of the eigenvalues of all data, as text: columns of the table, and lines below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.number_text import aligned, as_text

if TYPE_CHECKING:
    from eigencore.results import EigenvalueInterval, Sampling, SamplingCost

DIGITS = 4


def interval_columns(sampling: Sampling) -> dict[str, list[str]]:
    """The estimate of each eigenvalue of all data, and its interval; empty without any."""
    if not sampling.intervals:
        return {}
    title = "interval" if sampling.confidence is None else f"{100 * sampling.confidence:.3g} % interval"
    return {
        "all data": aligned([one.estimate for one in sampling.intervals], DIGITS),
        title: [_ends(one) for one in sampling.intervals],
    }


def sampling_lines(sampling: Sampling | None) -> list[str]:
    """Lines that say what was drawn, which intervals there are, and what an accuracy costs."""
    if sampling is None:
        return []
    lines = [_drawn(sampling)]
    for one in sampling.sums:
        if one.low is not None:
            what = f"the sum of eigenvalues {one.first} to {one.last}"
            lines.append(f"{what} of all data: {as_text(one.estimate)}, {_ends(one)}")
    refused: dict[str, list[str]] = {}
    for one in sampling.intervals:
        if one.refused:
            refused.setdefault(_reason(one, sampling.samples), []).append(str(one.first))
    for reason, ranks in refused.items():
        lines.append(f"no interval for eigenvalue {', '.join(ranks)}: {reason}")
    if sampling.full is not None:
        costs = ", ".join(_cost(cost) for cost in sampling.costs)
        lines.append(f"predicted from the pilot sample: {costs}; all data, {_products(sampling.full)}")
    return lines


def _drawn(sampling: Sampling) -> str:
    if sampling.method == "full":
        return f"all {sampling.samples:,} samples of the data were used"
    how = "by weight" if sampling.weighted else "uniformly"
    drawn = f"sample: {sampling.draws:,} draws {how} from {sampling.samples:,} samples"
    if sampling.method == "polish":
        return f"{drawn}, then products of all data: the lower ends are certain, the upper ends empirical"
    return f"{drawn}, in {sampling.groups} groups; the intervals are for the mean over all of these samples"


def _ends(one: EigenvalueInterval) -> str:
    if one.low is None or one.high is None:
        return "refused"
    return " to ".join(text.strip() for text in aligned([one.low, one.high], DIGITS))


def _reason(one: EigenvalueInterval, samples: int) -> str:
    if one.needed is None:
        return one.refused
    if one.needed >= samples:
        return f"{one.refused}; use all data"
    return f"{one.refused}; about {one.needed:,} draws are needed"


def _cost(cost: SamplingCost) -> str:
    accuracy = f"{100 * cost.accuracy:.3g} %"
    if cost.matvecs is None:
        return f"{accuracy} from no sample"
    also = ", then all data" if cost.method == "polish" else ""
    return f"{accuracy} {_products(cost.matvecs)} ({cost.draws:,} draws{also})"


def _products(matvecs: float) -> str:
    return f"{matvecs:.2g} products" if matvecs < 9.5 else f"{matvecs:.0f} products"
