"""The analysis `density` with `samples`: the density of the operator of a sample, and moments of all data.

The spectrum of a sample is not an unbiased estimate of that of all data: in the mean over samples, its
eigenvalues have the same mean but a larger mean square. So the density and its band are those of the operator
of the sample, and are called so. The first two moments of all data are known without a bias: the mean from
the trace (see `group_tests`), and the mean square from pairs of groups. For two groups g and h with the
independent means H_g and H_h, and z on the sphere, z'H_g H_h z has the mean tr A^2. Known vectors V are taken
out: tr H_g H_h = tr V'H_g H_h V + tr P H_g H_h P with P = I - V V', and only the second part needs z.

Without replacement, groups of the N samples are not independent. With g draws in a group, the mean of
z'H_g H_h z + (g / N) (|H_g z|^2 - z'H_g H_h z) is tr A^2 then, and |H_g z|^2 is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult
from eigencore.operators.draws import draw
from eigencore_spectrum.complement import Complement, complement
from eigencore_spectrum.group_tests import AT_ONCE, DRAWS_PER_GROUP, GroupTests, groups_of
from eigencore_spectrum.intervals import quantile
from eigencore_spectrum.probes import probes
from eigencore_spectrum.sampled_trace import mean_operator

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext, MeanOperator
    from eigencore.operators import Draw
    from eigencore.results import EigenResult
    from eigencore.space import Array, Floats
    from eigencore_spectrum.options import DensityOptions

PURPOSE = "mean square of a sample"
# Intervals for the mean square from fewer pairs of groups, or wider ones, were seen to cover less.
FEWEST_PAIRS, WIDEST = 40, 0.5
WARNING = (
    "this is the spectrum of the operator of the sample, whose mean square is larger than that of all data "
    "in the mean over samples: only the table of the moments of all data has intervals for all data"
)

Moment = tuple[str, float, float | None, float | None]


def density_of_sample(
    context: AnalysisContext,
    options: DensityOptions,
    samples: int,
    densities: Callable[[Complement], Iterator[AnalysisResult]],
) -> Iterator[AnalysisResult]:
    """The density of the operator of a sample, each result with the moments over all data.

    Args:
        densities: yields the densities of an operator with known pairs.

    Raises:
        UsageError: the eigenpairs are not those of this sample.
        CapabilityError: the operator is not a mean over samples.
    """
    operator = mean_operator(context.operator)
    _refuse_other_pairs(context.pairs, samples, context.seed)
    scores = operator.sample_scores()
    drawn = draw(scores, samples, context.seed)  # the draws of the eigenpairs
    known = complement(context, operator.sampled(drawn.groups, drawn.weights))
    groups = groups_of(samples) // 2 * 2
    moments = _moments(operator, known, draw(scores, samples, context.seed, groups=groups), context, options)
    how = "by weight" if drawn.weighted else "uniformly"
    beside = _verdict(moments, options.confidence)
    for found in densities(known):
        yield replace(
            found,
            title=f"of a sample of {samples:,} draws {how} from {drawn.total:,}, {found.title}",
            verdict=f"For the operator of the sample: {found.verdict} {beside}",
            numbers={**found.numbers, "operator": "of the sample", "draws": samples, "samples": drawn.total},
            tables={
                **found.tables,
                "moments of all data": Table(("moment", "value", "low", "high"), moments),
            },
            figures=tuple(
                replace(
                    one,
                    title=f"{one.title}, of the sample",
                    caption=f"{one.caption} The operator is that of a sample of {samples:,} draws.",
                )
                for one in found.figures
            ),
            warnings=(*found.warnings, WARNING),
        )


def _refuse_other_pairs(pairs: EigenResult | None, samples: int, seed: int) -> None:
    if pairs is None or not len(pairs.values):
        return
    of = pairs.sampling
    if of is None or of.method != "sample" or of.draws != samples or pairs.seed != seed:
        raise UsageError(
            f"the eigenpairs are not those of the sample of {samples:,} draws, whose density is computed",
            hint="Give samples to the run, which computes the eigenpairs of the same sample; or take k=0.",
        )


def _moments(
    operator: MeanOperator, known: Complement, drawn: Draw, context: AnalysisContext, options: DensityOptions
) -> tuple[Moment, ...]:
    """The mean and the mean square of the eigenvalues of all data; without intervals that do not hold."""
    n, tests = int(operator.shape[0]), GroupTests(operator, known, context.seed, options.confidence)
    for _ in tests.add(drawn):
        context.progress("density: the mean eigenvalue of all data")
    trace = tests.trace()
    context.progress("density: the mean square of the eigenvalues of all data")
    square = mean_square(operator, known, drawn, context.seed, options.confidence)
    mean, ends = trace.estimate, (square.low, square.high)
    return (
        ("mean", mean.value / n, *((None, None) if trace.refused else (mean.low / n, mean.high / n))),
        ("mean square", square.value, *((None, None) if square.refused else ends)),
    )


@dataclass(frozen=True)
class MeanSquare:
    """The mean square of the eigenvalues of all data, estimated from pairs of groups.

    Its distribution is skewed, so that the interval is value * exp(+- relative).

    Attributes:
        relative: the half width of the interval on the logarithmic scale.
        pairs: the number of pairs of groups.
    """

    value: float
    relative: float
    pairs: int

    @property
    def low(self) -> float:
        return self.value * math.exp(-self.relative)

    @property
    def high(self) -> float:
        return self.value * math.exp(self.relative)

    @property
    def refused(self) -> bool:
        """Whether intervals like this one were not shown to hold."""
        return not (self.pairs >= FEWEST_PAIRS and self.value > 0 and self.relative <= WIDEST)


def mean_square(
    operator: MeanOperator, known: Complement, drawn: Draw, seed: int, confidence: float
) -> MeanSquare:
    """The mean square of the eigenvalues of all data, from pairs of consecutive groups of a draw.

    Args:
        known: orthonormal vectors that are taken out; each takes a product with the sample.
    """
    found: list[float] = []
    for part in drawn.parts(AT_ONCE):
        mean, V, first = operator.sampled(part.groups, part.weights), known.vectors, len(found)
        sizes = [len(group) for group in part.groups]

        def block(number: int, V: Array = V, first: int = first) -> Array:
            Z = known.project(probes(operator, [first + number // 2], seed, PURPOSE, "sphere"))
            return Z if V is None else operator.xp.concat([V, Z], axis=1)

        before: Array = None
        for number, product in enumerate(mean.group_products(block)):
            if mean.shift:
                product = product + mean.shift * block(number)
            if number % 2 == 0:
                before = product
                continue
            products = [before * product, before * before, product * product]
            sums = [arrays.total(operator.xp.sum(one), operator) for one in products]
            both, *squares = (float(one) for one in arrays.to_host_at_once(*sums))
            if not drawn.weighted:
                pair = zip(sizes[number - 1 : number + 1], squares, strict=True)
                both += sum(size * (square - both) for size, square in pair) / (2 * drawn.total)
            found.append(both)
    values: Floats = np.array(found) / operator.shape[0]
    value, count = float(values.mean()), len(values)
    if count < 2 or value <= 0:
        return MeanSquare(value, math.inf, count)
    half = quantile(confidence, count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return MeanSquare(value, half / value, count)


def _verdict(moments: tuple[Moment, ...], confidence: float) -> str:
    def text(row: Moment) -> str:
        name, value, low, high = row
        if low is None or high is None:
            return f"the {name} is about {value:.3g}, without an interval"
        return f"the {name} is {value:.3g} ({low:.3g} to {high:.3g})"

    found = (
        f"Of the eigenvalues of all data, {' and '.join(text(row) for row in moments)}, at "
        f"{100 * confidence:g} % confidence."
    )
    if all(low is not None for _, _, low, _ in moments):
        return found
    return f"{found} Raise samples, to {2 * DRAWS_PER_GROUP * FEWEST_PAIRS} at least, or k."
