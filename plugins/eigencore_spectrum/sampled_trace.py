"""The analysis `trace` with `samples` or `rtol`: the trace of all data from a sample, and what it costs.

With `rtol`, a pilot of 320 draws predicts how many draws an accuracy takes. The estimate has no bias and
every group is tested once, so that the half width falls with the root of the draws, and the pilot is a part
of them. What all data would take is predicted by the same method on 64 draws: the interval narrows with the
products as that of all data does, because most of the products go into the largest eigenvalues. Where it has
not reached the accuracy, the half width is taken to fall in proportion to the products (Meyer et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from eigencore.errors import CapabilityError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult
from eigencore.interfaces import LinearOperator, MeanOperator
from eigencore.news import counter
from eigencore.operators.draws import PILOT, draw
from eigencore_spectrum.course import Course
from eigencore_spectrum.group_tests import GroupTests, SampleTrace, groups_of

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore.operators import Draw
    from eigencore.space import Floats
    from eigencore_spectrum.complement import Complement
    from eigencore_spectrum.intervals import IntervalEstimate
    from eigencore_spectrum.options import TraceOptions

SHOWN = (0.1, 0.05, 0.01)
AIM, LEAST_GROWTH = 0.9, 0.1  # of the accuracy and of the draws, since the prediction is not exact
PREVIEW_DRAWS, PREVIEW_PRODUCTS = 64, 34
PREDICTED = "costs predicted from the pilot sample"
COSTS = ("accuracy", "draws", "products with a sample", "products with all data")

# The products so far, and the trace of an operator with its interval, after every block of products.
Estimates = Callable[["Complement", "TraceOptions", int], Iterator[tuple[int, "IntervalEstimate"]]]


class Cost(NamedTuple):
    """What an accuracy takes: the draws, pilot included, and the products with these and with all data."""

    accuracy: float
    draws: int | None
    sample: float | None
    full: float | None


def mean_operator(operator: LinearOperator) -> MeanOperator:
    """The operator, which must be a mean over samples. Raises CapabilityError if it is not."""
    if isinstance(operator, MeanOperator):
        return operator
    raise CapabilityError(
        "this operator is not a mean over samples that can be drawn, so samples does not apply",
        hint="Give a Problem, or its operator of the kind hessian or ggn; or leave samples out.",
    )


def trace_of_sample(
    context: AnalysisContext, known: Complement, options: TraceOptions, samples: int
) -> Iterator[AnalysisResult]:
    """The trace of all data from so many draws."""
    operator, course = mean_operator(context.operator), Course("draws")
    drawn = draw(operator.sample_scores(), samples, context.seed, groups=groups_of(samples))
    tests = GroupTests(operator, known, context.seed, options.confidence)
    done = counter(context.progress, "trace", samples, "draws")
    for found in tests.add(drawn):
        done(found.draws)
        yield _result(found, drawn, known, options, course)


def trace_to_accuracy(
    context: AnalysisContext, known: Complement, options: TraceOptions, rtol: float, estimates: Estimates
) -> Generator[AnalysisResult, None, Table | None]:
    """The trace to the accuracy rtol from a sample, if that is cheaper than from all data.

    Args:
        estimates: estimates the trace of an operator.

    Returns:
        The costs, if all data are to be used; None if the trace has been found.

    Raises:
        CapabilityError: the data can't be sampled.
    """
    operator, seed = mean_operator(context.operator), context.seed
    scores = operator.sample_scores()
    total = len(scores)
    if total <= 2 * PILOT:
        return Table(COSTS, ())
    tests, course = GroupTests(operator, known, seed, options.confidence), Course("draws")
    number, more, costs, preview = 0, PILOT, Table(COSTS, ()), list[tuple[int, "IntervalEstimate"]]()
    while True:
        more = min(more, total - 1)  # as many draws as samples would be all of them once, without weights
        drawn = draw(scores, more, seed, groups=groups_of(more), number=number)
        before, done = tests.draws, counter(context.progress, "trace", more, "draws")
        for found in tests.add(drawn):
            done(found.draws - before)
            yield _result(found, drawn, known, options, course, costs)
        found = tests.trace()
        if not number:
            context.progress("trace: predicting what all data would take")
            preview = list(estimates(*_preview(operator, known, options, scores, seed)))
            shown = sorted({*SHOWN, rtol}, reverse=True)
            costs = Table(COSTS, tuple(tuple(_cost(found, total, preview, one, known)) for one in shown))
            yield _result(found, drawn, known, options, course, costs)
        if found.is_within(rtol):
            return None
        cost = _cost(found, total, preview, rtol, known)
        if cost.draws is None or cost.sample is None or not _is_cheaper(cost, found.draws / total, options):
            return costs
        number, more = number + 1, max(cost.draws - found.draws, math.ceil(LEAST_GROWTH * found.draws), 2)


def _is_cheaper(cost: Cost, spent: float, options: TraceOptions) -> bool:
    """Whether what is left of a sample costs less than all data, and no more than may be spent."""
    assert cost.sample is not None
    if cost.sample > options.products:
        return False
    return cost.full is None or cost.sample - spent < cost.full


def _preview(
    operator: MeanOperator, known: Complement, options: TraceOptions, scores: Floats, seed: int
) -> tuple[Complement, TraceOptions, int]:
    """What to estimate in order to predict the products with all data: the trace of a small sample."""
    drawn = draw(scores, PREVIEW_DRAWS, seed, groups=1)
    mean = operator.sampled(drawn.groups, drawn.weights)
    return replace(known, operator=mean), replace(options, products=PREVIEW_PRODUCTS), seed


def _cost(
    found: SampleTrace,
    total: int,
    preview: Iterable[tuple[int, IntervalEstimate]],
    accuracy: float,
    known: Complement,
) -> Cost:
    """What an accuracy takes, as the pilot and the preview predict."""
    draws = found.draws_for(AIM * accuracy)
    if draws is not None and found.is_within(accuracy):
        draws = found.draws
    full, last = None, None
    for products, one in preview:
        last = products, one.half_width / abs(one.value) if one.value else math.inf
        if last[1] <= accuracy:
            full = float(products)
            break
    if full is None and last is not None and math.isfinite(last[1]):
        full = float(min(math.ceil(last[0] * last[1] / accuracy), int(known.operator.shape[0])))
    return Cost(accuracy, draws, None if draws is None else draws / total, full)


def _result(
    found: SampleTrace,
    drawn: Draw,
    known: Complement,
    options: TraceOptions,
    course: Course,
    costs: Table | None = None,
) -> AnalysisResult:
    one, n, total = found.estimate, int(known.operator.shape[0]), drawn.total
    course.add(found.draws, one, refused=found.refused)
    how = "by weight" if drawn.weighted else "uniformly"
    title = f"from {found.draws:,} draws {how} of {total:,} samples, in {found.groups} groups"
    if len(known.values):
        title += f", {len(known.values)} known eigenpairs"
    return course.result(
        verdict=_verdict(found, total, options),
        title=title,
        numbers={
            "trace": one.value,
            "low": None if found.refused else one.low,
            "high": None if found.refused else one.high,
            "confidence": options.confidence,
            "draws": found.draws,
            "samples": total,
            "groups": found.groups,
            "effective draws": found.effective,
            "of known eigenpairs": float(known.values.sum()),
            "mean eigenvalue": one.value / n,
        },
        tables={} if costs is None or not costs.rows else {PREDICTED: costs},
    )


def _verdict(found: SampleTrace, total: int, options: TraceOptions) -> str:
    value, half = found.estimate.value, found.estimate.half_width
    if found.refused:
        needed = found.needed
        enough = needed is not None and needed < total
        todo = f"About {needed:,} draws are needed." if enough else "Use all data: leave samples out."
        return (
            f"The trace of all data is about {value:.4g}, without an interval: it is carried by "
            f"{found.effective:.0f} draws, and expected are at least 50. {todo}"
        )
    verdict = (
        f"The trace of all data is {value:.4g}, within {half:.2g} at {100 * options.confidence:g} % "
        f"confidence, which is {100 * half / abs(value):.2g} % of it."
    )
    if isinstance(options.rtol, float) and not found.is_within(options.rtol):
        verdict += f" The half width is above {100 * options.rtol:g} % of it (rtol)."
    return verdict
