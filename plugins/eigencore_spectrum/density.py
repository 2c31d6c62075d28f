"""The analysis `density`: stochastic Lanczos quadrature of the eigenvalues that are not known exactly.

Sources: Ubaru, Chen and Saad 2017 (the method); Ghorbani, Krishnan and Xiao 2019 (for networks); Chen,
Trogdon and Ubaru 2021 (bounds on the distribution function).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.figures import Figure, Reference, Table
from eigencore.findings import AnalysisResult
from eigencore.news import counter
from eigencore.request import precision_floor
from eigencore_spectrum.axis import Axis
from eigencore_spectrum.complement import complement
from eigencore_spectrum.distribution import Band, Distribution
from eigencore_spectrum.intervals import quantile
from eigencore_spectrum.probes import at_once, numbered, probes
from eigencore_spectrum.quadrature import quadratures
from eigencore_spectrum.sampled_density import density_of_sample

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore.space import Floats
    from eigencore_spectrum.complement import Complement
    from eigencore_spectrum.options import DensityOptions
    from eigencore_spectrum.quadrature import Quadrature

MOMENTS = ("mean", "mean square", "mean cube", "mean fourth power")


def density(context: AnalysisContext, options: DensityOptions, /) -> Generator[AnalysisResult, None, None]:
    """Yields the density after every random vector, and after 2, 4, 8, ... steps of the first.

    With `samples`, it is that of the operator of a sample, with moments of all data (`sampled_density`).

    Example:
        import numpy as np
        import eigencore

        found = eigencore.density(np.diag(np.linspace(-1.0, 1.0, 200)), k=0, probes=4, steps=20)
        print(found.numbers["band"], found.tables["shares"].rows)
    """
    if options.samples is None:
        yield from _densities(context, options, complement(context))
        return
    yield from density_of_sample(
        context, options, options.samples, lambda known: _densities(context, options, known)
    )


def _densities(
    context: AnalysisContext, options: DensityOptions, known: Complement
) -> Iterator[AnalysisResult]:
    """The densities of an operator with known pairs."""
    space = known.operator
    found: list[Quadrature] = []
    count = options.probes if known.dimension else 0
    block = at_once(options.block, space)
    frame: _Frame | None = None
    if not count:
        yield _Frame(known, [], options).result([])
    for first in range(0, count, block):
        numbers = range(first, min(first + block, count))
        done = counter(context.progress, numbered("density", numbers, count), options.steps, "steps")
        Z = known.project(probes(space, numbers, context.seed, "density", "gaussian"))
        rules: list[Quadrature] = []
        for step, rules in enumerate(quadratures(known, Z, options.steps), start=1):
            done(step)
            if not found and 1 < step < options.steps and step & (step - 1) == 0:
                yield _Frame(known, rules, options).result(rules)
        found = found + rules
        if frame is None or not frame.holds(rules):
            frame = _Frame(known, found, options)
        else:
            frame.add(rules)
        yield frame.result(found)


class _Frame:
    """What a density is evaluated on: an axis, a grid and thresholds that fit the first quadratures.

    They are kept while further quadratures fit, so that each of these is evaluated once.
    """

    def __init__(self, known: Complement, rules: Sequence[Quadrature], options: DensityOptions):
        self.known, self.options = known, options
        nodes, weights = _pooled(rules)
        everything = np.concatenate([nodes, known.values])
        self.norm = float(np.max(np.abs(everything), initial=0.0))
        floor = precision_floor(arrays.eps(known.operator), self.norm)
        scale = self.norm or 1.0  # of an operator that is zero, every eigenvalue is near zero
        self.near, self.far = max(options.near_zero * scale, floor), options.outlying * scale
        self.axis = Axis.fitting(nodes, weights, known.values, self.near, options.axis)
        self.width = (
            options.width if options.width != "auto" else self.axis.spacing([rule.rule() for rule in rules])
        )
        self.grid = self.axis.grid(everything, self.width, options.points)
        thresholds = [-self.far, -self.near, self.near, self.far]
        points = np.concatenate([self.grid, thresholds])
        self.distribution = Distribution(known, points, floor, options.confidence)
        self.add(rules)

    def holds(self, rules: Sequence[Quadrature]) -> bool:
        """Whether all nodes are within the grid."""
        nodes, _ = _pooled(rules)
        return bool(self.grid[0] <= np.min(nodes) and np.max(nodes) <= self.grid[-1])

    def add(self, rules: Sequence[Quadrature]) -> None:
        for rule in rules:
            self.distribution.add(rule)

    def result(self, rules: Sequence[Quadrature]) -> AnalysisResult:
        """The result of the quadratures, all of which were added."""
        known, options, axis, grid, g = self.known, self.options, self.axis, self.grid, len(self.grid)
        n, d = int(known.operator.shape[0]), known.dimension
        nodes, weights = _pooled(rules)
        density = d / n * axis.smoothed(grid, nodes, weights, self.width)
        everywhere = self.distribution.band()
        shares = _shares(everywhere.estimate[g:], everywhere.low[g:], everywhere.high[g:], n)
        cdf, low, high = (side[:g] for side in everywhere)
        half, away = (high - low) / 2, np.abs(grid) > self.near
        band, outside = float(np.max(half)), float(np.max(half[away], initial=0.0))
        atoms = tuple((float(value), 1 / n) for value in known.values[::-1])
        return AnalysisResult(
            verdict=_verdict(shares, self.near, self.far, options.confidence),
            title=_title(rules, known),
            numbers={
                "n": n,
                "vectors": len(rules),
                "steps": max((len(rule.diagonal) for rule in rules), default=0),
                "band": band,
                "band_outside_near_zero": outside,
                "sampling_error": d / n * self.distribution.sampling_error,
                "width": float(self.width),
                "axis": axis.scale,
                "norm": self.norm,
                "near_zero": self.near,
                "outlying": self.far,
                "confidence": options.confidence,
            },
            tables={
                "shares": Table(("eigenvalues", "share", "low", "high", "number"), shares),
                "moments": Table(
                    ("moment", "value", "low", "high"), _moments(rules, known, n, options.confidence)
                ),
                "atoms": Table(("eigenvalue", "weight"), atoms),
            },
            remarks=(_remark(band, outside, options.confidence),),
            columns={"grid": grid, "density": density, "cdf": cdf, "low": low, "high": high},
            figures=_figures(
                axis, grid, density, Band(cdf, low, high), known, len(rules), options.confidence
            ),
        )


def _pooled(rules: Sequence[Quadrature]) -> tuple[Floats, Floats]:
    """The nodes of all quadratures, and their weights, which sum to 1."""
    if not rules:
        return np.zeros(0), np.zeros(0)
    nodes, weights = (np.concatenate(part) for part in zip(*(rule.rule() for rule in rules), strict=True))
    return nodes, weights / len(rules)


def _shares(
    cdf: Floats, low: Floats, high: Floats, n: int
) -> tuple[tuple[str, float, float, float, float], ...]:
    """The shares of outlying, negative and near-zero eigenvalues, from the band at -far, -near, near, far."""

    def row(name: str, share: float, least: float, most: float) -> tuple[str, float, float, float, float]:
        least, most = min(max(least, 0.0), 1.0), min(max(most, 0.0), 1.0)
        return name, float(share), least, most, float(share * n)

    def between(name: str, a: int, b: int) -> tuple[str, float, float, float, float]:
        return row(name, cdf[b] - cdf[a], float(low[b] - high[a]), float(high[b] - low[a]))

    negative = row("negative", cdf[1], float(low[1]), float(high[1]))
    beyond = row(
        "outlying",
        cdf[0] + 1 - cdf[3],
        float(low[0] + 1 - high[3]),
        float(high[0] + 1 - low[3]),
    )
    return negative, between("near zero", 1, 2), beyond


def _moments(
    rules: Sequence[Quadrature], known: Complement, n: int, confidence: float
) -> tuple[tuple[str, float, float | None, float | None], ...]:
    """Mean powers of the eigenvalues; without a second vector there is no interval."""
    rows = []
    for power, name in enumerate(MOMENTS, start=1):
        own = np.array([np.sum(w * x**power) for x, w in (rule.rule() for rule in rules)])
        exact, share = float(np.sum(known.values**power)) / n, known.dimension / n
        value = exact + share * float(own.mean()) if len(own) else exact
        half: float | None = 0.0 if not len(own) else None
        if len(own) > 1:
            error = float(own.std(ddof=1)) / math.sqrt(len(own))
            half = share * quantile(confidence, len(own) - 1) * error
        rows.append(
            (name, value, None if half is None else value - half, None if half is None else value + half)
        )
    return tuple(rows)


def _verdict(
    shares: tuple[tuple[str, float, float, float, float], ...],
    near: float,
    far: float,
    confidence: float,
) -> str:
    def share(row: tuple[str, float, float, float, float], at: str = "") -> str:
        _, value, low, high, _ = row
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}{at})"

    negative, zero, beyond = shares
    return (
        f"{share(zero, f' at {100 * confidence:g} %')} of the eigenvalues are within {near:.2g} of zero, "
        f"{share(negative)} below, and about {beyond[4]:.4g} beyond {far:.2g} in magnitude."
    )


def _remark(band: float, outside: float, confidence: float) -> str:
    near_zero = f", and within {100 * band:.2g} % there" if band > outside else ""
    return (
        f"At {100 * confidence:g} % confidence, the share of eigenvalues up to any point that is not near "
        f"zero is within {100 * outside:.2g} % of the estimate{near_zero}."
    )


def _title(rules: Sequence[Quadrature], known: Complement) -> str:
    exact = f"{len(known.values)} eigenvalues known"
    if not rules:
        return exact
    steps = max(len(rule.diagonal) for rule in rules)
    return f"{exact}, the rest from {len(rules)} random vectors, {steps} steps each"


def _figures(
    axis: Axis,
    grid: Floats,
    density: Floats,
    band: Band,
    known: Complement,
    vectors: int,
    confidence: float,
) -> tuple[Figure, ...]:
    n, count = int(known.operator.shape[0]), len(known.values)
    atoms = {"known eigenvalues": (known.values, np.full(count, 1 / n))} if count else {}
    source = f", from {vectors} random vector{'s' * (vectors != 1)}" if vectors else ""
    strokes = f" Known eigenvalues, of which there are {count}, are strokes of height 1 / {n:,}."
    zero = (Reference("x", 0.0),)
    return (
        Figure(
            "line",
            "Spectral density",
            "eigenvalue",
            "density",
            {"x": grid, "density": density},
            atoms=atoms,
            references=zero,
            x_scale=axis.scale,
            y_scale="log",
            linear=axis.linear,
            caption=f"The smoothed density of {n:,} eigenvalues{source}.{strokes if count else ''}",
        ),
        Figure(
            "line",
            "Distribution function of the eigenvalues",
            "eigenvalue",
            "share of eigenvalues up to it",
            {"x": grid, "share": band.estimate},
            bands={"share": (band.low, band.high)},
            references=zero,
            x_scale=axis.scale,
            linear=axis.linear,
            caption=f"The share of {n:,} eigenvalues up to each point{source}. The band holds the whole "
            f"distribution function at {100 * confidence:g} % confidence.",
        ),
    )
