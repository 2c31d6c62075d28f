"""The analysis `diagonal`: the diagonal with an interval for each entry, by Hutchinson or XDiag.

With known eigenpairs V, theta, the diagonal of V theta V' is exact, and that of A - V theta V' is estimated.
The random vectors w have entries of -1 and 1, and * is by entry.

- hutchinson: the mean of w * Aw (Bekas, Kokiopoulou and Saad 2007).
- xdiag: each of k vectors tests the sketch Q_i of the others, diag(Q_i Q_i'A) + w_i * (I - Q_i Q_i')A w_i,
  and the estimate is the mean over i (Epperly, Tropp and Webber 2024).

The intervals are from the spread of the estimates, with t quantiles. Those of xdiag share their sketches and
are correlated. Their covariance is the mean of D_ij * D_ji, where D_ij is what estimate i changes when w_j
joins its sketch (see `leave_one_out`). It widens all intervals by one factor, its ratio to the variance over
the entries, because that of a single entry is too uncertain. The intervals hold the stated share of the
entries on average.

If there may be as many products as dimensions, the columns of the identity take the place of random vectors,
and the diagonal is exact.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.figures import Figure, Reference
from eigencore.findings import AnalysisResult
from eigencore.news import counter
from eigencore_spectrum.complement import Complement, complement
from eigencore_spectrum.intervals import ROUNDING, quantile
from eigencore_spectrum.probes import batches, probes
from eigencore_spectrum.sketch import Sketch

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext, LinearOperator
    from eigencore.space import Array, Floats
    from eigencore_spectrum.options import DiagonalOptions

PURPOSE = "diagonal"
COLUMNS = 16  # how many estimates of every entry are formed at once, which limits memory
POINTS = 200  # of the figure
ROWS = 4096  # on how many entries the covariance is measured


@dataclass(frozen=True)
class DiagonalSpread:
    """The mean and the sum of squared deviations (n,) of `count` estimates of every entry, on the device."""

    count: int
    mean: Array
    squares: Array

    def half_widths(self, confidence: float, xp: Any, excess: float = 0.0) -> Array:
        """The half widths (n,) of the intervals.

        Args:
            excess: the covariance of two estimates relative to their variance, at least 0.
        """
        if self.count == 1:  # the second moment in place of the variance, which it exceeds
            return quantile(confidence, 1) * xp.abs(self.mean)
        scale = (1 / self.count + excess * (1 - 1 / self.count)) / (self.count - 1)
        return quantile(confidence, self.count - 1) * xp.sqrt(scale * self.squares)


@dataclass(frozen=True)
class DiagonalStage:
    """Estimates (n,) of the diagonal of A - V theta V', after a number of products with random vectors."""

    mean: Array
    half_widths: Array
    products: int
    square: float  # an estimate of the squared Frobenius norm


def diagonal(context: AnalysisContext, options: DiagonalOptions) -> Generator[AnalysisResult, None, None]:
    """The diagonal with the intervals of its entries, after every block of products."""
    known, operator = complement(context), context.operator
    n, xp = int(operator.shape[0]), operator.xp
    exact = arrays.zeros((arrays.local_rows(operator),), operator)
    if known.vectors is not None:
        theta = arrays.from_host(known.values[None, :], operator)
        exact = xp.sum(known.vectors * known.vectors * theta, axis=1)
    if options.products >= n:
        stages = _columns(known, options)
    elif options.method == "hutchinson" or options.products < 2:
        stages = _hutchinson(known, options, context.seed)
    else:
        stages = _xdiag(known, options, context.seed)
    done = counter(context.progress, "diagonal", min(options.products, n), "products")
    for stage in stages:
        done(stage.products)
        square = stage.square + float(np.sum(known.values**2))
        widening = ROUNDING * arrays.eps(operator) * math.sqrt(square)
        yield _result(
            arrays.whole(stage.mean + exact, operator),
            arrays.whole(stage.half_widths, operator) + widening,
            known,
            options,
            exact=options.products >= n,
        )


def _columns(known: Complement, options: DiagonalOptions) -> Iterator[DiagonalStage]:
    """The entries one after the other; those that are not known yet are NaN."""
    operator, xp, n = known.operator, known.operator.xp, int(known.operator.shape[0])
    found, square = np.full(n, np.nan), 0.0
    for batch in batches(n, options.block):
        unit = arrays.from_host(arrays.shard(np.eye(n)[:, batch.start : batch.stop], operator), operator)
        AX = known.remainder(unit)
        sums = arrays.total(xp.stack([xp.sum(unit * AX, axis=0), xp.sum(AX * AX, axis=0)]), operator)
        entries, squares = arrays.to_host(sums)
        found[batch.start : batch.stop] = entries
        square += float(squares.sum())
        mean = arrays.from_host(arrays.shard(found, operator), operator)
        yield DiagonalStage(mean, 0 * mean, batch.stop, square)


def _hutchinson(known: Complement, options: DiagonalOptions, seed: int) -> Iterator[DiagonalStage]:
    operator, xp = known.operator, known.operator.xp
    spread: DiagonalSpread | None = None
    total = 0.0
    for batch in batches(options.products, options.block):
        W = probes(operator, batch, seed, PURPOSE, "rademacher")
        AW = known.remainder(W)
        total += arrays.norm(AW, operator) ** 2
        spread = _extended(spread, W * AW, xp)
        yield DiagonalStage(
            spread.mean, spread.half_widths(options.confidence, xp), batch.stop, total / batch.stop
        )


def _xdiag(known: Complement, options: DiagonalOptions, seed: int) -> Iterator[DiagonalStage]:
    operator, xp = known.operator, known.operator.xp
    W: Array | None = None
    Z: Array | None = None
    sketch, spent, total = Sketch.empty(), 0, 0.0
    for batch in batches(options.products // 2, options.block):
        new = probes(operator, batch, seed, PURPOSE, "rademacher")
        AW = known.remainder(new)
        total += arrays.norm(AW, operator) ** 2
        spent += len(batch)
        if W is None:  # for the smallest budgets
            first = _extended(None, new * AW, xp)
            yield DiagonalStage(
                first.mean, first.half_widths(options.confidence, xp), spent, total / batch.stop
            )
        W = new if W is None else xp.concat([W, new], axis=1)
        before, sketch = sketch, sketch.extended(AW, operator)
        if sketch.Q is not None and sketch.R.shape[0] > before.R.shape[0]:
            added = sketch.Q[:, before.R.shape[0] :]
            AQ = known.remainder(added)
            spent += added.shape[1]
            Z = AQ if Z is None else xp.concat([Z, AQ], axis=1)
        if sketch.Q is None or Z is None:  # A W is zero
            zero = 0 * W[:, 0]
            yield DiagonalStage(zero, zero, spent, 0.0)
            continue
        S = sketch.left_out()
        tested = np.sum(S * sketch.R, axis=0)  # s_i'Q'A w_i; s_j'Q'A w_i is zero for all other j
        spread = _leave_one_out(sketch.Q, Z, W, S, tested, operator)
        excess = _excess(sketch.Q, Z, W, S, tested, spread, operator)
        yield DiagonalStage(
            spread.mean, spread.half_widths(options.confidence, xp, excess), spent, total / batch.stop
        )


def _leave_one_out(
    Q: Array, Z: Array, W: Array, S: Floats, tested: Floats, operator: LinearOperator
) -> DiagonalSpread:
    """The spread of diag(Q Q'A) - Qs_i * A Q s_i + w_i * Q s_i (s_i'Q'A w_i), the estimates of xdiag."""
    xp, spread = operator.xp, None
    whole = xp.sum(Q * Z, axis=1)[:, None]
    for begin in range(0, S.shape[1], COLUMNS):
        part = slice(begin, min(begin + COLUMNS, S.shape[1]))
        s, c = (arrays.from_host(one, operator) for one in (S[:, part], tested[None, part]))
        out = Q @ s
        spread = _extended(spread, whole + out * (c * W[:, part] - Z @ s), xp)
    assert spread is not None
    return spread


def _excess(
    Q: Array, Z: Array, W: Array, S: Floats, tested: Floats, spread: DiagonalSpread, operator: LinearOperator
) -> float:
    """The mean covariance of two estimates over their mean variance, at least 0; from some of the entries."""
    xp, k = operator.xp, S.shape[1]
    if k < 2:
        return 0.0
    step = -(-Q.shape[0] // ROWS)
    every = slice(None, None, step)
    s = arrays.from_host(S, operator)
    out, AQS, W = Q[every, :] @ s, Z[every, :] @ s, W[every, :]
    overlaps = S.T @ S
    left = 1 - overlaps**2
    used = np.any(S != 0, axis=0)
    # s_ij is what w_j alone adds to the sketch without w_i: s_j less its part along s_i, divided by its norm.
    present = used[None, :] & used[:, None] & (left > 1e-12) & ~np.eye(k, dtype=bool)
    scale = np.where(present, 1 / np.sqrt(np.where(present, left, 1.0)), 0.0)
    covariance = arrays.zeros((), operator)
    for i in range(k):
        g, c, ci, cj = (
            arrays.from_host(one[None, :], operator)
            for one in (
                overlaps[i],
                scale[i],
                -overlaps[i] * scale[i] * tested[i],
                -overlaps[i] * scale[i] * tested,
            )
        )
        own, image, w = out[:, i : i + 1], AQS[:, i : i + 1], W[:, i : i + 1]
        added, back = c * (out - g * own), c * (own - g * out)
        D = added * (c * (AQS - g * image) - ci * w)
        E = back * (c * (image - g * AQS) - cj * W)
        covariance = covariance + xp.sum(D * E)
    variance = xp.sum(spread.squares[every]) / (spread.count - 1)
    both = arrays.total(xp.stack([covariance / (k * (k - 1)), variance]), operator)
    shared, single = arrays.to_host(both)
    return max(float(shared / single), 0.0) if single > 0 else 0.0


def _extended(spread: DiagonalSpread | None, estimates: Array, xp: Any) -> DiagonalSpread:
    """A spread with more estimates, the columns of (n, b) (Chan, Golub and LeVeque 1983)."""
    b = estimates.shape[1]
    mean = xp.mean(estimates, axis=1)
    squares = xp.sum((estimates - mean[:, None]) ** 2, axis=1)
    if spread is None:
        return DiagonalSpread(b, mean, squares)
    count, gap = spread.count + b, mean - spread.mean
    return DiagonalSpread(
        count, spread.mean + gap * (b / count), spread.squares + squares + gap**2 * (spread.count * b / count)
    )


def _result(
    entries: Floats, half_widths: Floats, known: Complement, options: DiagonalOptions, *, exact: bool
) -> AnalysisResult:
    n, there = len(entries), np.isfinite(entries)
    found, widths = entries[there], half_widths[there]
    title: str = "exact" if exact else options.method
    if len(known.values):
        title += f", {len(known.values)} known eigenpairs"
    span = f"from {found.min():.4g} to {found.max():.4g}"
    if not exact:
        verdict = (
            f"The {n:,} entries are estimated to be {span}, with a median half width of "
            f"{np.median(widths):.2g} at {100 * options.confidence:g} % confidence."
        )
    elif len(found) == n:
        verdict = f"The {n:,} entries are {span}, up to rounding: there were as many products as dimensions."
    else:
        verdict = f"Of {n:,} entries, {len(found):,} are known up to rounding, and the others not at all."
    return AnalysisResult(
        verdict=verdict,
        title=title,
        numbers={
            "entries": n,
            "known": len(found),
            "smallest": float(found.min()),
            "largest": float(found.max()),
            "root mean square": _rms(found),
            "median half width": float(np.median(widths)),
            "confidence": options.confidence,
        },
        columns={"diagonal": entries, "low": entries - half_widths, "high": entries + half_widths},
        figures=(_figure(found, widths, n, options.confidence, exact=exact),),
    )


def _figure(found: Floats, half_widths: Floats, n: int, confidence: float, *, exact: bool) -> Figure:
    """The entries (m,) that are known, by rank, with their intervals; at most POINTS of them."""
    order, m = np.argsort(-found, kind="stable"), len(found)
    ranks = np.unique(np.geomspace(1, m, POINTS).round().astype(np.intp))
    shown = order[ranks - 1]
    entries, half = found[shown], half_widths[shown]
    of = f"{m:,} entries" if m == n else f"the {m:,} of {n:,} entries that are known"
    text = f"{'The values' if exact else 'The estimates'} of {of}, in decreasing order"
    if len(ranks) < m:
        text += f" ({len(ranks)} of them, by ratio of rank)"
    if not exact:
        text += f"; the band is the {100 * confidence:g} % interval of each entry"
    return Figure(
        "line",
        "Diagonal in decreasing order",
        "rank",
        "diagonal",
        {"x": ranks, "diagonal": entries},
        bands={} if exact else {"diagonal": (entries - half, entries + half)},
        references=(Reference("y", 0.0),),
        x_scale="log" if m > POINTS else "linear",
        caption=f"{text}.",
    )


def _rms(x: Floats) -> float:
    return math.sqrt(float(np.mean(x**2)))
