"""The analysis `trace`: the trace of an operator, with an interval, from random vectors.

With known eigenpairs V, theta, the trace is the sum of theta and the trace of A - V theta V', which alone is
estimated (Gambhir, Stathopoulos and Orginos 2017). The vectors are uniform on a sphere, so that intervals can
be calculated from the products (see `intervals`) and hold in every basis.

- hutchinson: the mean of z'Az (Hutchinson 1990).
- hutch++: a third of the products make a sketch Q of the range, another third gives tr(Q'AQ), and the rest
  tests the complement of Q (Meyer, Musco, Musco and Woodruff 2021).
- xtrace: every vector tests the sketch of all others (see `leave_one_out`).
- xnystrace: the same with Nystrom approximations, for semidefinite operators (see `nystrom`).

If there may be as many products as dimensions, the vectors of hutchinson are orthogonal to one another: with
n of them, the trace is exact, whatever the method.

With `samples`, or with `rtol` where that costs less, the trace of all data is estimated from a sample instead
(see `sampled_trace`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import CapabilityError, UsageError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult
from eigencore.interfaces import MeanOperator
from eigencore.news import counter
from eigencore_spectrum.complement import Complement, complement
from eigencore_spectrum.course import Course
from eigencore_spectrum.intervals import IntervalEstimate, mean_on_sphere, quantile, rounding
from eigencore_spectrum.leave_one_out import leave_one_out
from eigencore_spectrum.nystrom import nystrom_tests
from eigencore_spectrum.probes import batches, probes, tested
from eigencore_spectrum.sampled_trace import COSTS, PREDICTED, trace_of_sample, trace_to_accuracy
from eigencore_spectrum.sketch import Sketch

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore.space import Array, Floats
    from eigencore_spectrum.options import TraceOptions

PURPOSE = "trace"
AUTO_RTOL = 0.01
SMALLEST = 5  # the variance of a smaller sketch is too uncertain to be compared


@dataclass(frozen=True)
class TraceStage:
    """An estimate of the trace of A - V theta V', after a number of products with random vectors."""

    estimate: IntervalEstimate
    products: int
    square: float  # an estimate of the squared Frobenius norm


def trace(context: AnalysisContext, options: TraceOptions) -> Generator[AnalysisResult, None, None]:
    """The trace with its interval, after every block of products or draws.

    Example:
        import eigencore

        found = eigencore.trace("demo:digits-numpy", samples=640)
        print(found.low, found.estimate, found.high)

    Raises:
        UsageError: samples and rtol are both given.
        CapabilityError: samples is given, but the operator is not a mean over samples.
    """
    known, asked = complement(context), options.rtol if isinstance(options.rtol, float) else None
    if options.samples is not None:
        if asked is not None:
            raise UsageError(
                "samples and rtol were both given: rtol finds the number of samples",
                hint="Leave one of them out.",
            )
        yield from trace_of_sample(context, known, options, options.samples)
        return
    costs, warnings = Table(COSTS, ()), tuple[str, ...]()
    if asked and isinstance(context.operator, MeanOperator):
        try:
            left = yield from trace_to_accuracy(context, known, options, asked, _estimates)
        except CapabilityError as error:
            warnings = (f"no sample of the data can be taken, so that all data are used: {error.message}",)
        else:
            if left is None:
                return
            costs = left
    course, rtol = Course("products"), AUTO_RTOL if options.rtol == "auto" else asked
    done = counter(
        context.progress, "trace", min(options.products, int(context.operator.shape[0])), "products"
    )
    for products, found in _estimates(known, options, context.seed):
        done(products)
        course.add(products, found)
        reached = rtol is not None and found.half_width <= rtol * abs(found.value)
        result = _result(products, found, known, options, course, rtol=None if reached else rtol)
        tables = {PREDICTED: costs} if costs.rows else {}
        yield replace(result, tables=tables, warnings=warnings)
        if reached:
            break


def _estimates(known: Complement, options: TraceOptions, seed: int) -> Iterator[tuple[int, IntervalEstimate]]:
    """The products so far and the trace of an operator with known pairs, after every block of products."""
    exact, eps, n = float(known.values.sum()), arrays.eps(known.operator), int(known.operator.shape[0])
    for stage in _stages(known, options, seed):
        square = stage.square + float(np.sum(known.values**2))
        half_width = stage.estimate.half_width + rounding(eps, n, square)
        yield stage.products, IntervalEstimate(float(stage.estimate.value + exact), float(half_width))


def _stages(known: Complement, options: TraceOptions, seed: int) -> Iterator[TraceStage]:
    n = int(known.operator.shape[0])
    if options.products >= n:
        return _hutchinson(known, options, seed, orthogonal=True)
    if options.method == "hutchinson" or options.products < 2:
        return _hutchinson(known, options, seed)
    if options.method == "hutch++":
        return _hutchpp(known, options, seed)
    if options.method == "xnystrace":
        return _xnystrace(known, options, seed)
    return _xtrace(known, options, seed, adaptive=options.method == "adaptive")


def _hutchinson(
    known: Complement, options: TraceOptions, seed: int, *, orthogonal: bool = False
) -> Iterator[TraceStage]:
    """The mean over vectors on the sphere; orthogonal ones are the columns of a random orthogonal matrix."""
    operator, n = known.operator, int(known.operator.shape[0])
    measured, basis = _nothing(), Sketch.empty()
    for batch in batches(min(options.products, n) if orthogonal else options.products, options.block):
        Z = probes(operator, batch, seed, PURPOSE, "sphere")
        if orthogonal:
            basis = basis.extended(Z, operator)
            assert basis.Q is not None
            Z = math.sqrt(n) * basis.Q[:, batch.start : batch.stop]
        measured = np.concatenate([measured, tested(Z, known.remainder(Z), operator)], axis=1)
        yield _stage(measured, n, options.confidence, measured.shape[1], orthogonal=orthogonal)


def _hutchpp(known: Complement, options: TraceOptions, seed: int) -> Iterator[TraceStage]:
    operator, n, width = known.operator, int(known.operator.shape[0]), options.products // 3
    measured, sketch, spent = _nothing(), Sketch.empty(), 0
    for batch in batches(width, options.block):  # a plain estimate from the vectors that make the sketch
        Z = probes(operator, batch, seed, PURPOSE, "sphere")
        Y = known.remainder(Z)
        spent += len(batch)
        measured = np.concatenate([measured, tested(Z, Y, operator)], axis=1)
        sketch = sketch.extended(Y, operator)
        yield _stage(measured, n, options.confidence, spent)
    Q, inside = sketch.Q, 0.0
    for begin in range(0, sketch.R.shape[0], options.block):
        assert Q is not None
        part = Q[:, begin : begin + options.block]
        spent += part.shape[1]
        inside += float(tested(part, known.remainder(part), operator)[0].sum())
    square = float(measured[2].mean()) if width else 0.0
    count = options.products - spent
    for outside in _complement_of(sketch, known, options, range(width, width + count), seed):
        found = _stage(outside, n - sketch.R.shape[0], options.confidence, spent + outside.shape[1])
        yield TraceStage(found.estimate.shifted(inside), found.products, max(square, found.square))


def _complement_of(
    sketch: Sketch, known: Complement, options: TraceOptions, numbers: range, seed: int
) -> Iterator[Floats]:
    """The measurements so far (3, m) with vectors on the sphere of the complement of Q, one product each."""
    operator, measured = known.operator, _nothing()
    dimension = int(operator.shape[0]) - sketch.R.shape[0]
    for batch in batches(len(numbers), options.block):
        Z = sketch.outside(
            probes(operator, numbers[batch.start : batch.stop], seed, PURPOSE, "sphere"), operator
        )
        lengths = arrays.to_host(arrays.total(operator.xp.sum(Z * Z, axis=0), operator))
        Z = Z * arrays.from_host(np.sqrt(dimension / lengths), operator)
        BZ = sketch.outside(known.remainder(Z), operator)
        measured = np.concatenate([measured, tested(Z, BZ, operator)], axis=1)
        yield measured


def _xtrace(
    known: Complement, options: TraceOptions, seed: int, *, adaptive: bool = False
) -> Iterator[TraceStage]:
    operator, xp, n = known.operator, known.operator.xp, int(known.operator.shape[0])
    omega: Array | None = None
    Z: Array | None = None
    sketch, measured, spent = Sketch.empty(), _nothing(), 0
    variances: dict[int, float] = {}
    for batch in batches(options.products // 2, options.block):
        new = probes(operator, batch, seed, PURPOSE, "sphere")
        Y = known.remainder(new)
        spent += len(batch)
        measured = np.concatenate([measured, tested(new, Y, operator)], axis=1)
        if omega is None:  # for the smallest budgets
            yield _stage(measured, n, options.confidence, spent)
        omega = new if omega is None else xp.concat([omega, new], axis=1)
        before, sketch = sketch, sketch.extended(Y, operator)
        if sketch.Q is not None and sketch.R.shape[0] > before.R.shape[0]:
            added = sketch.Q[:, before.R.shape[0] :]
            AQ = known.remainder(added)
            spent += added.shape[1]
            Z = AQ if Z is None else xp.concat([Z, AQ], axis=1)
        found = leave_one_out(sketch, omega, Z, operator)
        square = float(measured[2].mean())
        yield TraceStage(found.estimate(options.confidence), spent, square)
        variances[found.count] = found.variance
        if adaptive and not _pays(variances, options.products):
            break
    else:
        return
    count, inside = found.count, float(np.trace(found.H))
    numbers = range(count, count + options.products - spent)
    for outside in _complement_of(sketch, known, options, numbers, seed):
        more = outside.shape[1]
        variance = float(2 * outside[1].mean()) / more
        value = (count * found.value + float(outside[0].sum()) + more * inside) / (count + more)
        error = math.hypot(count * math.sqrt(found.variance_of_mean), more * math.sqrt(variance)) / (
            count + more
        )
        estimate = IntervalEstimate(value, quantile(options.confidence, count + more) * error)
        yield TraceStage(estimate, spent + more, square)


def _xnystrace(known: Complement, options: TraceOptions, seed: int) -> Iterator[TraceStage]:
    """In the complement of the known eigenvectors, where a semidefinite operator is semidefinite again."""
    operator, xp, d = known.operator, known.operator.xp, known.dimension
    W: Array | None = None
    Y: Array | None = None
    for batch in batches(min(options.products, d), options.block):
        new = known.project(probes(operator, batch, seed, PURPOSE, "gaussian"))
        products = known.multiply(new)
        W = new if W is None else xp.concat([W, new], axis=1)
        Y = products if Y is None else xp.concat([Y, products], axis=1)
        found = nystrom_tests(W, Y, d, operator)
        yield TraceStage(found.estimate(options.confidence), found.count, found.square)


def _pays(variances: Mapping[int, float], products: int) -> bool:
    """Whether a larger sketch reduces the variance more than further tests of the present one would.

    With q of N products spent on A Q, the variance of the mean is v(q) / (N - q). Its minimum is where
    -log v falls by 1 / (N - q) for each direction. The slope is that of the last doubling of the sketch.

    Args:
        variances: v(q) by q, of the sketches so far.
        products: N.
    """
    now = max(variances)
    before = max((count for count in variances if SMALLEST <= count <= now / 2), default=None)
    if before is None:
        return True
    if min(variances[before], variances[now]) <= 0:
        return False
    return math.log(variances[before] / variances[now]) > (now - before) / (products - now)


def _nothing() -> Floats:
    return np.zeros((3, 0))


def _stage(
    measured: Floats, dimension: int, confidence: float, products: int, *, orthogonal: bool = False
) -> TraceStage:
    values, residuals, squares = measured
    estimate = mean_on_sphere(values, residuals, dimension, confidence, orthogonal=orthogonal)
    return TraceStage(estimate, products, float(squares.mean()))


def _result(
    products: int,
    found: IntervalEstimate,
    known: Complement,
    options: TraceOptions,
    course: Course,
    *,
    rtol: float | None,
) -> AnalysisResult:
    """The result after so many products; `rtol` is the accuracy that has not been reached, if any."""
    n, known_pairs = int(known.operator.shape[0]), len(known.values)
    exact = options.products >= n and products >= n
    within = f"within {found.half_width:.2g} at {100 * options.confidence:g} % confidence"
    if exact:
        verdict = (
            f"The trace is {found.value:.6g}, up to rounding: there were as many products as dimensions."
        )
    elif not found.half_width:
        verdict = "The trace is 0: every product was zero."
    elif found.half_width < abs(found.value):
        relative = 100 * found.half_width / abs(found.value)
        verdict = f"The trace is {found.value:.4g}, {within}, which is {relative:.2g} % of it."
    else:
        verdict = f"The trace is {found.value:.4g}, {within}, so its sign is not known."
    if rtol is not None and not exact:
        verdict += f" The half width is above {100 * rtol:g} % of it (rtol): raise products, or k."
    title: str = "exact" if exact else options.method
    if known_pairs:
        title += f", {known_pairs} known eigenpairs"
    return course.result(
        verdict=verdict,
        title=title,
        numbers={
            "trace": found.value,
            "low": found.low,
            "high": found.high,
            "confidence": options.confidence,
            "of known eigenpairs": float(known.values.sum()),
            "mean eigenvalue": found.value / n,
        },
        tables={},
    )
