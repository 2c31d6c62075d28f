"""Claim: the intervals of trace, diagonal and norms cover, and are hardly wider than the estimates scatter.
The band of the density holds the whole distribution function.

    python benchmarks/coverage.py [--seeds 500] [--analyses trace diagonal norms density] [--matrices 1/i ...]

Four spectra in a random basis, n = 600, and the Hessians of two networks (float64, formed as a whole), whose
true values are known. Each analysis is run with many seeds: the share of intervals that hold the true
value, at nominal 95 %, and their mean width relative to that of an exact interval, +-1.96 standard deviations
of the same estimator over the seeds. The effective dimension also has a systematic error, of the quadrature,
which no standard deviation contains: its widths are relative to 1.96 root mean square errors. The norms are
those with five known eigenpairs; the damping of the log-determinant makes the matrix positive definite. For
the diagonal, both are means over the entries, and a tenth of the seeds are taken. For the density, of which
two fifths of the seeds are taken, with four vectors of 30 steps and ten known eigenpairs, the coverage is
that of the whole distribution function, the width is the largest width of the band relative to 1.96 standard
deviations of a mean over as many vectors without any other error, and the relative error is the median
Kolmogorov-Smirnov distance of the estimate.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from eigencore import AnalysisResult, Problem, as_operator, bind, solve
from eigencore.interfaces import AnalysisContext
from eigencore.problems import find_problem
from eigencore_spectrum.complement import complement
from eigencore_spectrum.diagonal import diagonal
from eigencore_spectrum.distribution import Distribution
from eigencore_spectrum.norms import norms
from eigencore_spectrum.options import DiagonalOptions, NormsOptions, TraceOptions
from eigencore_spectrum.probes import probes
from eigencore_spectrum.quadrature import quadratures
from eigencore_spectrum.trace import trace

N, KNOWN = 600, 5
TRACE = ("adaptive", "xtrace", "hutch++", "hutchinson")
SEMIDEFINITE = ("1/i", "1/i^2")  # those of the matrices that XNysTrace is for
DIAGONAL = ("xdiag", "hutchinson")
PRODUCTS = (30, 100)
ANALYSES = ("trace", "diagonal", "norms", "density")
ROWS = ("Frobenius norm", "stable rank", "effective dimension", "log-determinant")


def spectra() -> dict[str, np.ndarray]:
    rng, i = np.random.default_rng(0), np.arange(1.0, N + 1)
    bulk = rng.standard_t(3, 3 * N)
    return {
        "outliers": np.concatenate([np.geomspace(100, 5, 10), bulk[(bulk > -1) & (bulk < 2.5)][: N - 10]]),
        "1/i": 1 / i,
        "1/i^2": 1 / i**2,
        "indefinite": np.concatenate(
            [np.geomspace(50, 4, 8), [-6, -3], rng.normal(0, 0.5, N // 3), np.zeros(N - 10 - N // 3)]
        ),
    }


def in_random_basis(values: np.ndarray) -> np.ndarray:
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((len(values), len(values))))[0]
    return symmetric((Q * values) @ Q.T)


def hessian(model: nn.Module) -> np.ndarray:
    """The Hessian of a network that was trained on the digits for a while."""
    problem = find_problem("demo:digits")
    xs, ys = zip(*problem.data, strict=True)
    x, y = torch.cat(xs).reshape(-1, 1, 8, 8), torch.cat(ys)
    optimizer, loss = torch.optim.Adam(model.parameters(), 1e-2), nn.CrossEntropyLoss()
    for _ in range(100):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    operator = bind(Problem(model, [(x, y)], loss), dtype="float64").operator()
    return symmetric(operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64)).numpy())


def mlp() -> np.ndarray:
    torch.manual_seed(0)
    return hessian(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 10)))


def cnn() -> np.ndarray:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    return hessian(nn.Sequential(*layers))


MATRICES: dict[str, Callable[[], np.ndarray]] = {
    **{name: (lambda values=values: in_random_basis(values)) for name, values in spectra().items()},
    "MLP": mlp,
    "CNN": cnn,
}


def symmetric(A: np.ndarray) -> np.ndarray:
    return (A + A.T) / 2


def last(
    analysis: Callable[..., Any], options: Any, operator: Any, seed: int, eigen: Any = None
) -> AnalysisResult:
    """The result of an analysis, called directly: checks and budgets of a run would take longer than it."""
    no: Any = None
    context = AnalysisContext(operator, eigen, no, no, "", no, no, no, no, no, seed, lambda line: None)
    *_, result = analysis(context, options)
    return result


def measure(A: np.ndarray, name: str, analysis: str, seeds: int) -> Iterator[dict[str, Any]]:
    operator = as_operator(A)
    if analysis == "trace":
        for method in (*TRACE, "xnystrace") if name in SEMIDEFINITE else TRACE:
            for products in PRODUCTS:
                options = TraceOptions(method=method, products=products, rtol=None)
                found = [last(trace, options, operator, seed).numbers for seed in range(seeds)]
                yield row(f"trace, {method}, {products} products", stack(found, "trace"), np.trace(A))
        options = TraceOptions(products=300, rtol=0.05)
        found = [last(trace, options, operator, seed).numbers for seed in range(seeds)]
        yield row("trace, adaptive, stopped at 5 %", stack(found, "trace"), np.trace(A))
    elif analysis == "diagonal":
        for method in DIAGONAL:
            for products in PRODUCTS:
                own = DiagonalOptions(method=method, products=products)
                columns = [
                    last(diagonal, own, operator, seed).columns for seed in range(max(seeds // 10, 20))
                ]
                yield row(f"diagonal, {method}, {products} products", stack(columns, "diagonal"), np.diag(A))
    elif analysis == "density":
        yield density_row(A, max(2 * seeds // 5, 20))
    else:
        values = np.linalg.eigvalsh(A)
        eigen, norm = solve(operator, KNOWN), float(np.abs(values).max())
        small, large = 0.01 * norm, max(0.01 * norm, -1.1 * float(values.min()))
        wanted = {small: ROWS} if small == large else {small: ROWS[:3], large: ROWS[3:]}
        for damping, rows_wanted in wanted.items():
            truths, chosen = true_norms(values, damping), NormsOptions(damping=damping)
            tables = [
                last(norms, chosen, operator, seed, eigen).tables["norms"].rows for seed in range(seeds)
            ]
            for quantity in rows_wanted:
                three = np.array([next(one[1:] for one in rows if one[0] == quantity) for rows in tables])
                yield row(quantity, three, truths[quantity], systematic=quantity == "effective dimension")


def density_row(A: np.ndarray, seeds: int) -> dict[str, Any]:
    operator, values = as_operator(A), np.linalg.eigvalsh(A)
    n, size = len(values), float(np.abs(values).max())
    known = complement_of(solve(operator, 10, tol=1e-6), operator)
    # The truth is constant between eigenvalues and the band increases, so that it is closest beside them.
    x = np.sort(np.concatenate([values - 1e-9 * size, values + 1e-9 * size]))
    truth = np.searchsorted(values, x, side="right") / n
    held, widths, distances = 0, [], []
    for seed in range(seeds):
        distribution = Distribution(known, x, 4 * np.finfo(float).eps * size, 0.95)
        for number in range(4):
            Z = known.project(probes(operator, [number], seed, "density", "gaussian"))
            *_, (rule,) = quadratures(known, Z, 30)
            distribution.add(rule)
        band = distribution.band()
        held += bool(np.all(band.low <= truth + 1e-12) and np.all(truth <= band.high + 1e-12))
        widths.append(float(np.max(band.high - band.low)))
        distances.append(float(np.max(np.abs(band.estimate - truth))))
    exact = 2 * 1.96 * math.sqrt(1 / (2 * 4 * (n + 2)))
    return {
        "quantity": "density, 4 vectors of 30 steps",
        "coverage": held / seeds,
        "width": float(np.mean(widths)) / exact,
        "relative_error": float(np.median(distances)),
    }


def complement_of(eigen: Any, operator: Any) -> Any:
    no: Any = None
    return complement(AnalysisContext(operator, eigen, no, no, "", no, no, no, no, no, 0, lambda line: None))


def true_norms(values: np.ndarray, damping: float) -> dict[str, float]:
    size = np.abs(values)
    with np.errstate(invalid="ignore"):
        determinant = float(np.sum(np.log(values + damping)))
    return {
        "Frobenius norm": float(np.linalg.norm(values)),
        "stable rank": float(np.sum(values**2) / size.max() ** 2),
        "effective dimension": float(np.sum(size / (size + damping))),
        "log-determinant": determinant,
    }


def stack(found: Any, name: str) -> np.ndarray:
    """Estimates and both ends of their intervals (seeds, 3, ...)."""
    return np.array([(one[name], one["low"], one["high"]) for one in found])


def row(name: str, found: np.ndarray, truth: Any, *, systematic: bool = False) -> dict[str, Any]:
    estimates, low, high = found[:, 0], found[:, 1], found[:, 2]
    errors = estimates - truth
    scatter = np.sqrt(np.mean(errors**2, axis=0)) if systematic else np.std(estimates, axis=0)
    return {
        "quantity": name,
        "coverage": round(float(np.mean((low <= truth) & (truth <= high))), 4),
        "width": round(float(np.mean(high - low) / (2 * 1.96 * np.mean(scatter))), 3),
        "relative_error": float(f"{math.sqrt(np.mean(errors**2) / np.mean(np.square(truth))):.3g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--analyses", nargs="+", choices=ANALYSES, default=list(ANALYSES))
    parser.add_argument("--matrices", nargs="+", choices=MATRICES, default=list(MATRICES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.matrices:
        A = MATRICES[name]()
        print(f"{name}, n = {len(A)}, trace {np.trace(A):.4g}")
        for analysis in arguments.analyses:
            for one in measure(A, name, analysis, arguments.seeds):
                print(
                    f"  {one['quantity']:38} coverage {one['coverage']:.3f}  width {one['width']:.2f}"
                    f"  relative error {one['relative_error']:.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
