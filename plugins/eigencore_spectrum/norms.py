"""The analysis `norms`: Frobenius norm, stable rank, effective dimension and log-determinant.

Each follows from tr f(A): f(x) = x^2, |x| / (|x| + damping), or log(x + damping). With known eigenpairs, the
trace is the sum of f(theta) and that of f(B) on their complement, which is estimated by Lanczos quadrature
from random vectors on the sphere of the complement; the same vectors serve all. An interval has three parts:

1. the variance over the vectors, from the residuals of f(B) (see `intervals`), which the quadrature has;
2. the error of the quadrature. For x^2 it is zero. For the logarithm, which is smooth, it is less than the
   difference from the quadrature with three quarters of the steps. |x| / (|x| + damping) has a cusp at 0,
   where many eigenvalues are. The error of the rule with a node at 0 decreases as 1 / steps or faster, so
   that the limit is between its value and the one that a further change as large as that since half the
   steps would give. The interval spans both, and the value of the Gauss rule;
3. the residuals r of the known pairs. The values are Rayleigh quotients of orthonormal vectors, so r enters
   to second order: by perturbation theory, the sum of f changes by at most the sum over the pairs of r^2
   times the largest |f'(theta) - f'(b)| / |theta - b| over the values b of the complement.

If there may be as many products as dimensions, all eigenvalues are computed from the whole matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.figures import Figure, Reference, Table
from eigencore.findings import AnalysisResult
from eigencore.news import counter
from eigencore_spectrum.complement import Complement, complement
from eigencore_spectrum.intervals import ROUNDING, IntervalEstimate, mean_on_sphere
from eigencore_spectrum.probes import at_once, batches, numbered, probes
from eigencore_spectrum.quadrature import Quadrature, quadratures

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore.space import Floats
    from eigencore_spectrum.options import NormsOptions

PURPOSE = "norms"
NEGLIGIBLE = 100  # an eigenvalue of this many rounding units of the norm counts as zero
LARGEST = 2000  # the largest matrix that is formed as a whole
DAMPING = 0.01  # automatic damping, relative to the spectral norm
DAMPINGS = np.geomspace(1e-4, 1.0, 9)  # of the figure, relative to the spectral norm
ROWS = "Frobenius norm", "stable rank", "effective dimension", "log-determinant"


@dataclass(frozen=True)
class Function:
    """A function of an eigenvalue, its derivative, and whether it has a cusp at 0."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    cusp: bool = False


SQUARE = Function(np.square, lambda x: 2 * x)


def saturation(damping: float, zero: float) -> Function:
    """|x| / (|x| + damping), and 0 where |x| <= zero: without damping, the rank is counted."""

    def value(x: Floats) -> Floats:
        size = np.abs(x)
        return np.divide(size, size + damping, out=np.zeros_like(size), where=size > zero)

    def slope(x: Floats) -> Floats:
        size = np.abs(x)
        return np.divide(
            damping * np.sign(x), (size + damping) ** 2, out=np.zeros_like(size), where=size > zero
        )

    return Function(value, slope, cusp=True)


def logarithm(damping: float) -> Function:
    """log(x + damping), for x + damping above 0."""
    return Function(lambda x: np.asarray(np.log(x + damping)), lambda x: np.asarray(1 / (x + damping)))


@dataclass(frozen=True)
class Spectrum:
    """What is known of the eigenvalues: exact pairs, and quadratures in their complement.

    Attributes:
        n: the dimension of the space.
        eps: the rounding unit.
        values, residuals: the known eigenvalues (p,) and their residual norms.
        quadratures: one for each random vector; empty if all eigenvalues are known.
    """

    n: int
    eps: float
    values: Floats
    residuals: Floats
    quadratures: Sequence[Quadrature]

    @cached_property
    def rules(self) -> list[tuple[Floats, Floats]]:
        return [one.rule() for one in self.quadratures]

    @cached_property
    def nodes(self) -> Floats:
        """All Ritz values in the complement."""
        return np.concatenate([np.zeros(0), *(nodes for nodes, _ in self.rules)])

    @cached_property
    def norm(self) -> tuple[float, float]:
        """||A||_2 from below, and with the residual norm of the pair that it is from."""
        values = np.concatenate([self.values, self.nodes])
        residuals = np.concatenate([self.residuals, *(one.residuals() for one in self.quadratures)])
        largest = int(np.argmax(np.abs(values)))
        size = float(np.abs(values[largest]))
        return size, size + float(residuals[largest])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue or Ritz value, which is not below the smallest eigenvalue."""
        return float(np.min(np.concatenate([self.values, self.nodes])))

    def sum(self, f: Function, confidence: float) -> IntervalEstimate:
        """The sum of f over all eigenvalues."""
        exact, drift = float(np.sum(f.value(self.values))), np.sum(np.abs(f.slope(self.values)))
        rounding = ROUNDING * self.eps * self.norm[0]  # of one eigenvalue
        if not self.quadratures:
            return IntervalEstimate(exact, float(rounding * drift))
        d, rules = self.n - len(self.values), self.rules
        means, residuals = np.array([_integral(rule, f) for rule in rules]).T
        drift += d * np.mean([weights @ np.abs(f.slope(nodes)) for nodes, weights in rules])
        mean, error = _quadrature(self.quadratures, f)
        bias = d * error + self._coupling(f) + float(rounding * drift)
        found = mean_on_sphere(d * means, d * residuals, d, confidence, bias=bias)
        return IntervalEstimate(d * mean + exact, found.half_width)

    def _coupling(self, f: Function) -> float:
        """What the residuals of the known pairs may change of a sum over all eigenvalues."""
        gaps = self.values[:, None] - self.nodes[None, :]
        slopes = f.slope(self.values)[:, None] - f.slope(self.nodes)[None, :]
        ratios = np.abs(slopes) / np.where(gaps == 0, np.inf, np.abs(gaps))
        return float(np.sum(self.residuals**2 * np.max(ratios, axis=1, initial=0.0)))


def _integral(rule: tuple[Floats, Floats], f: Function) -> tuple[float, float]:
    """z'f(B)z and |f(B)z - rho z|^2, where rho = z'f(B)z, for z of norm 1."""
    nodes, weights = rule
    values = f.value(nodes)
    mean = float(weights @ values)
    return mean, float(weights @ (values - mean) ** 2)


def _quadrature(quadratures: Sequence[Quadrature], f: Function) -> tuple[float, float]:
    """The mean of z'f(B)z over the vectors, and a bound on the error of the quadrature."""

    def mean(share: float, *, zero: bool = False) -> float:
        """With this share of the steps of each vector, and maybe a node at zero."""
        used = [
            one if one.exhausted else one.shortened(max(int(share * len(one.diagonal)), 1))
            for one in quadratures
        ]
        rules = [(one.with_node_at(0.0) if zero else one).rule() for one in used]
        return float(np.mean([_integral(rule, f)[0] for rule in rules]))

    last = mean(1.0)
    if not f.cusp:
        return last, abs(last - mean(0.75))
    settled = mean(1.0, zero=True)
    candidates = last, settled, 2 * settled - mean(0.5, zero=True)
    return (max(candidates) + min(candidates)) / 2, (max(candidates) - min(candidates)) / 2


def norms(context: AnalysisContext, options: NormsOptions) -> Generator[AnalysisResult, None, None]:
    """Norms and other functions of the spectrum, after 2, 4, 8, ... steps and after every vector."""
    known = complement(context)
    n, eps = int(context.operator.shape[0]), arrays.eps(context.operator)
    if known.dimension == 0:
        yield _result(Spectrum(n, eps, known.values, known.residuals, []), known, options)
        return
    block = at_once(options.block, context.operator)
    if n <= min(options.probes * options.steps, LARGEST):
        values: Floats = np.linalg.eigvalsh(_whole(known, block)).astype(np.float64)
        yield _result(Spectrum(n, eps, values, np.zeros(n), []), known, options)
        return
    done: list[Quadrature] = []
    for batch in batches(options.probes, block):
        Z = known.project(probes(context.operator, batch, context.seed, PURPOSE, "gaussian"))
        advanced = counter(context.progress, numbered("norms", batch, options.probes), options.steps, "steps")
        for step, current in enumerate(quadratures(known, Z, options.steps), 1):
            advanced(step)
            if not done and 1 < step < options.steps and step & (step - 1) == 0:
                yield _result(Spectrum(n, eps, known.values, known.residuals, current), known, options)
        done = [*done, *current]
        yield _result(Spectrum(n, eps, known.values, known.residuals, done), known, options)


def _whole(known: Complement, block: int) -> Floats:
    """The whole matrix (n, n) on the host."""
    operator, n = known.operator, int(known.operator.shape[0])
    columns = []
    unit = arrays.from_host(arrays.shard(np.eye(n), operator), operator)
    for batch in batches(n, block):
        AX = operator.matmat(unit[:, batch.start : batch.stop])
        columns.append(arrays.to_host(arrays.total(unit.T @ AX, operator)))
    A = np.concatenate(columns, axis=1)
    return np.asarray((A + A.T) / 2)


def _result(spectrum: Spectrum, known: Complement, options: NormsOptions) -> AnalysisResult:
    confidence = options.confidence
    norm, at_most = spectrum.norm
    zero = NEGLIGIBLE * spectrum.eps * norm
    damping = DAMPING * norm if options.damping == "auto" else float(options.damping)
    square = spectrum.sum(SQUARE, confidence)
    least = float(np.sum(spectrum.values**2))  # of the known eigenvalues alone
    low, high = max(square.low, least, norm**2), max(square.high, least, norm**2)
    dimension = _effective_dimension(spectrum, damping, zero, confidence)
    rows: list[tuple[str, float, float, float]] = [
        (ROWS[0], math.sqrt(max(square.value, 0.0)), math.sqrt(low), math.sqrt(high)),
        (ROWS[1], *((square.value / norm**2, low / at_most**2, high / norm**2) if norm else 3 * (math.nan,))),
        (ROWS[2], *dimension),
    ]
    warnings = []
    if spectrum.smallest + damping > zero:
        determinant = spectrum.sum(logarithm(damping), confidence)
        rows.append((ROWS[3], determinant.value, determinant.low, determinant.high))
    else:
        rows.append((ROWS[3], math.nan, math.nan, math.nan))
        warnings.append(
            f"there is no log-determinant: A + {damping:.3g} is not positive definite, because A has an "
            f"eigenvalue of {spectrum.smallest:.3g} or less; raise norms.damping"
        )
    if not norm:
        warnings.append("there is no stable rank: the matrix is zero")
    verdict = (
        f"The Frobenius norm is {rows[0][1]:.4g}, and the stable rank {rows[1][1]:.3g}. "
        f"{rows[2][1]:.4g} of {spectrum.n:,} dimensions are effective at a damping of {damping:.3g}. "
        + (
            "All eigenvalues are known."
            if not spectrum.quadratures
            else f"Intervals are at {100 * confidence:g} %."
        )
    )
    # A cell without a number is empty, as it is in a saved run.
    cells = tuple((name, *(None if math.isnan(x) else x for x in numbers)) for name, *numbers in rows)
    title = f"{len(spectrum.quadratures)} random vectors" if spectrum.quadratures else "exact"
    if len(known.values) and spectrum.quadratures:
        title += f", {len(known.values)} known eigenpairs"
    return AnalysisResult(
        verdict=verdict,
        title=title,
        numbers={
            "damping": damping,
            "spectral norm": norm,
            "smallest eigenvalue seen": spectrum.smallest,
            "confidence": confidence,
        },
        tables={"norms": Table(("", "estimate", "low", "high"), cells)},
        figures=(_figure(spectrum, damping, zero, confidence),) if norm else (),
        warnings=tuple(warnings),
    )


def _figure(spectrum: Spectrum, damping: float, zero: float, confidence: float) -> Figure:
    """The effective dimension against the damping, the one in use among them if it is above 0."""
    dampings = np.unique(np.append(DAMPINGS * spectrum.norm[0], [damping] if damping > 0 else []))
    found = [_effective_dimension(spectrum, float(one), zero, confidence) for one in dampings]
    dimension, low, high = np.array(found).T
    text = (
        f"The number of the {spectrum.n:,} dimensions that are effective, the sum of |lambda| / (|lambda| + "
    )
    text += "damping), at each damping"
    text += f", with its {100 * confidence:g} % interval" if spectrum.quadratures else ""
    return Figure(
        "line",
        "Effective dimension against damping",
        "damping",
        "effective dimension",
        {"x": dampings, "effective dimension": dimension},
        bands={"effective dimension": (low, high)} if spectrum.quadratures else {},
        references=(Reference("x", damping, "in use"),) if damping > 0 else (),
        x_scale="log",
        y_scale="log",
        caption=f"{text}.",
    )


def _effective_dimension(
    spectrum: Spectrum, damping: float, zero: float, confidence: float
) -> tuple[float, float, float]:
    """The estimate, and the ends of its interval."""
    found = spectrum.sum(saturation(damping, zero), confidence)
    return found.value, max(found.low, 0.0), min(found.high, float(spectrum.n))
