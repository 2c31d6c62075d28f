"""The intervals of trace, diagonal and norms: their formulas against brute force, and their coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import CapabilityError
from eigencore.interfaces import AnalysisContext
from eigencore.operators import as_operator
from eigencore_spectrum import diagonal as diagonals
from eigencore_spectrum.diagonal import diagonal
from eigencore_spectrum.intervals import half_width, mean_on_sphere, quantile
from eigencore_spectrum.leave_one_out import leave_one_out
from eigencore_spectrum.norms import SQUARE, Spectrum, norms
from eigencore_spectrum.nystrom import nystrom_tests
from eigencore_spectrum.options import DiagonalOptions, NormsOptions, TraceOptions
from eigencore_spectrum.probes import batches
from eigencore_spectrum.quadrature import Quadrature
from eigencore_spectrum.sketch import Sketch
from eigencore_spectrum.trace import trace

N = 150
SPECTRA = {
    "outliers": np.concatenate([np.geomspace(100, 5, 10), np.linspace(-1, 2.5, N - 10)]),
    "decaying": 1 / np.arange(1.0, N + 1) ** 2,
    "zeros": np.concatenate([[50, 20, -10, 5], np.linspace(-1, 1, 46), np.zeros(N - 50)]),
}


def basis(n: int = N) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]


def of(values: np.ndarray) -> np.ndarray:
    Q = basis(len(values))
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def last(analysis: Any, options: Any, operator: Any, seed: int, eigen: Any = None) -> Any:
    no: Any = None
    context = AnalysisContext(operator, eigen, no, no, "", no, no, no, no, no, seed, lambda line: None)
    *_, result = analysis(context, options)
    return result


def on_sphere(d: int, m: int, seed: int, *, orthogonal: bool = False) -> np.ndarray:
    Z = np.random.default_rng(seed).standard_normal((d, m))
    return math.sqrt(d) * (np.linalg.qr(Z)[0] if orthogonal else Z / np.linalg.norm(Z, axis=0))


@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_residuals_are_an_unbiased_estimate_of_the_variance(orthogonal: bool) -> None:
    d, m, B = 8, 3, np.diag([5.0, 1, 1, 0, 0, -1, -1, 2])
    means, errors = [], []
    for seed in range(2500):
        Z = on_sphere(d, m, seed, orthogonal=orthogonal)
        values = np.sum(Z * (B @ Z), axis=0)
        residuals = np.sum((B @ Z - values / d * Z) ** 2, axis=0)
        found = mean_on_sphere(values, residuals, d, 0.95, orthogonal=orthogonal)
        means.append(found.value)
        errors.append(found.half_width / quantile(0.95, m))
    assert np.mean(means) == pytest.approx(np.trace(B), abs=0.15)
    assert np.mean(np.square(errors)) == pytest.approx(np.var(means), rel=0.1)


def test_as_many_orthogonal_vectors_as_dimensions_are_exact() -> None:
    Z, B = on_sphere(6, 6, 0, orthogonal=True), np.diag(np.arange(6.0))
    values = np.sum(Z * (B @ Z), axis=0)
    found = mean_on_sphere(values, np.ones(6), 6, 0.95, orthogonal=True)
    assert (found.value, found.half_width) == (pytest.approx(15), 0)


@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0, 5.0])
def test_the_half_width_with_a_bias_holds_as_often_as_it_says(bias: float) -> None:
    """At the largest bias exactly 95 %, and never more than the sum of both."""
    t = np.random.default_rng(0).standard_t(8, 400_000)
    width = half_width(2.0, 2.0 * bias, 0.95, 8)
    for share in (1.0, -1.0):
        assert np.mean(np.abs(2 * t + share * 2 * bias) <= width) == pytest.approx(0.95, abs=0.002)
    assert np.mean(np.abs(2 * t + bias) <= width) >= 0.948
    assert width <= 2 * bias + 2 * quantile(0.95, 8) + 1e-9
    assert half_width(0.0, bias, 0.95, 8) == bias
    assert half_width(1e-9, 1e3 + bias, 0.95, 8) == pytest.approx(1e3 + bias)


def sketched(
    k: int, rank: int | None = None, n: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Sketch]:
    """A matrix, random signs W, their products, and the sketch of these."""
    values = np.linspace(-1, 4, n) ** 3
    values[rank:] = 0 if rank is not None else values[rank:]
    A, W = of(values), np.random.default_rng(2).choice([-1.0, 1.0], (n, k))
    sketch = Sketch.empty()
    for batch in batches(k, 3):
        sketch = sketch.extended(A @ W[:, batch.start : batch.stop], as_operator(A))
    return A, W, A @ W, sketch


def outside(Y: np.ndarray, *left_out: int) -> np.ndarray:
    """The projection outside the range of the columns of Y but some."""
    U, s, _ = np.linalg.svd(np.delete(Y, left_out, axis=1), full_matrices=False)
    U = U[:, s > 1e-10 * s[0]]
    return np.eye(len(Y)) - U @ U.T


@pytest.mark.parametrize(("k", "rank"), [(1, None), (6, None), (6, 4), (6, 1)])
def test_a_sketch_is_a_factorisation_and_knows_what_each_vector_adds(k: int, rank: int | None) -> None:
    _, _, Y, sketch = sketched(k, rank)
    Q, S = sketch.Q, sketch.left_out()
    assert Q is not None
    assert Q.shape[1] == min(k, rank or k)
    np.testing.assert_allclose(Q @ sketch.R, Y, atol=1e-10)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-12)
    for i in range(k if k > 1 else 0):
        without = Q @ Q.T - np.outer(Q @ S[:, i], Q @ S[:, i])
        np.testing.assert_allclose(np.eye(len(Y)) - without, outside(Y, i), atol=1e-8)


@pytest.mark.parametrize("rank", [None, 4])
def test_xtrace_and_its_covariance_are_those_of_brute_force(rank: int | None) -> None:
    k, n = 6, 30
    A, W, Y, sketch = sketched(k, rank)
    found = leave_one_out(sketch, W, A @ sketch.Q, as_operator(A))

    def estimate(i: int, *left_out: int) -> float:
        P = outside(Y, i, *left_out)
        u = P @ W[:, i]
        return float(np.trace(A - P @ A @ P) + np.trace(P) / (u @ u) * (u @ A @ u))

    every = [estimate(i) for i in range(k)]
    np.testing.assert_allclose(found.estimates, every, atol=1e-8)
    D = np.array([[every[i] - estimate(i, j) if i != j else 0 for j in range(k)] for i in range(k)])
    if rank is None:
        assert found.covariance == pytest.approx(float(np.sum(D * D.T)) / (k * (k - 1)), rel=1e-6)
    variances = []
    for i in range(k):
        P = outside(Y, i)
        z = P @ W[:, i] * math.sqrt(np.trace(P)) / np.linalg.norm(P @ W[:, i])
        rho = z @ A @ z / np.trace(P)
        variances.append(2 * np.linalg.norm(P @ A @ z - rho * z) ** 2)
    assert found.variance == pytest.approx(np.mean(variances), abs=1e-8)
    assert n == found.n


def test_xdiag_and_its_covariance_are_those_of_brute_force() -> None:
    k = 6
    A, W, Y, sketch = sketched(k)
    operator, S = as_operator(A), sketch.left_out()
    tested = np.sum(S * sketch.R, axis=0)
    spread = diagonals._leave_one_out(sketch.Q, A @ sketch.Q, W, S, tested, operator)

    def estimate(i: int, *left_out: int) -> np.ndarray:
        P = outside(Y, i, *left_out)
        return np.asarray(np.diag(A - P @ A) + W[:, i] * (P @ A @ W[:, i]))

    every = np.array([estimate(i) for i in range(k)])
    np.testing.assert_allclose(spread.mean, every.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(spread.squares / (k - 1), every.var(axis=0, ddof=1), atol=1e-6)
    shared = np.mean(
        [
            (every[i] - estimate(i, j)) * (every[j] - estimate(j, i))
            for i in range(k)
            for j in range(k)
            if i != j
        ]
    )
    excess = diagonals._excess(sketch.Q, A @ sketch.Q, W, S, tested, spread, operator)
    assert excess == pytest.approx(max(shared / np.mean(every.var(axis=0, ddof=1)), 0), rel=1e-6)


def test_the_variance_of_xtrace_is_right_although_its_estimates_are_correlated() -> None:
    """Six vectors for ten outliers: without the covariance, the variance would be a third too small."""
    A, k = as_operator(of(SPECTRA["outliers"])), 6
    values, variances = [], []
    for seed in range(400):
        W = arrays.random_normal(np.random.default_rng(seed), (N, k), A)
        sketch = Sketch.empty().extended(A.matmat(W), A)
        found = leave_one_out(sketch, W, A.matmat(sketch.Q), A)
        values.append(found.value)
        variances.append(found.variance_of_mean)
    assert np.mean(values) == pytest.approx(
        SPECTRA["outliers"].sum(), abs=4 * np.std(values) / math.sqrt(400)
    )
    assert 0.85 < np.mean(variances) / np.var(values) < 1.2


def semidefinite(n: int = 30) -> np.ndarray:
    return of(np.linspace(0.1, 2, n) ** 3)


def test_xnystrace_and_its_covariance_are_those_of_brute_force() -> None:
    k, n = 6, 30
    A, W = semidefinite(n), np.random.default_rng(2).standard_normal((n, k))
    found = nystrom_tests(W, A @ W, n, as_operator(A))

    def tested(i: int, *left_out: int) -> tuple[float, float]:
        """The estimate of test i, and its variance given the other vectors."""
        V = np.delete(W, (i, *left_out), axis=1)
        rest = A - A @ V @ np.linalg.solve(V.T @ A @ V, V.T @ A)
        P = outside(W, i, *left_out)
        d, u = np.trace(P), P @ W[:, i]
        z = math.sqrt(d) * u / np.linalg.norm(u)
        value = float(z @ rest @ z)
        return float(np.trace(A - rest)) + value, 2 * float(np.linalg.norm(rest @ z - value / d * z) ** 2)

    every = [tested(i) for i in range(k)]
    np.testing.assert_allclose(found.estimates, [value for value, _ in every], rtol=1e-9)
    assert found.variance == pytest.approx(np.mean([variance for _, variance in every]), rel=1e-9)
    D = np.array([[every[i][0] - tested(i, j)[0] if i != j else 0 for j in range(k)] for i in range(k)])
    assert found.covariance == pytest.approx(float(np.sum(D * D.T)) / (k * (k - 1)), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [0, 3, 12])
def test_xnystrace_of_a_matrix_of_low_rank_is_exact(rank: int, dtype: Any) -> None:
    values = np.concatenate([np.geomspace(50, 1, rank), np.zeros(N - rank)])
    A = of(values).astype(dtype)
    options = TraceOptions(method="xnystrace", products=20, rtol=None)
    found = last(trace, options, as_operator(A), 0).numbers
    assert found["trace"] == pytest.approx(values.sum(), rel=200 * float(np.finfo(dtype).eps), abs=0)
    assert found["low"] <= values.sum() <= found["high"]
    assert found["high"] - found["low"] <= 1e-3 * values.sum() + 1e-12


def test_xnystrace_of_an_indefinite_matrix_is_refused() -> None:
    options = TraceOptions(method="xnystrace", products=20)
    with pytest.raises(CapabilityError, match=r"for positive semidefinite operators.*w'Aw is -"):
        last(trace, options, as_operator(of(np.linspace(-1, 1, N))), 0)


def test_xnystrace_deflates_known_pairs_that_have_not_converged() -> None:
    values = np.concatenate([np.geomspace(100, 5, 10), np.linspace(0, 2.5, N - 10)])
    operator = as_operator(of(values))
    eigen, options = solve(operator, 10, tol=1e-2), TraceOptions(method="xnystrace", products=30, rtol=None)
    found = [last(trace, options, operator, seed, eigen).numbers for seed in range(60)]
    alone = [last(trace, options, operator, seed).numbers for seed in range(60)]
    assert np.mean([one["low"] <= values.sum() <= one["high"] for one in found]) >= 0.88
    error = np.std([one["trace"] for one in found])
    assert np.mean([one["trace"] for one in found]) == pytest.approx(values.sum(), abs=4 * error / 60**0.5)
    assert error < 0.8 * np.std([one["trace"] for one in alone])


@pytest.mark.slow
def test_the_intervals_of_xnystrace_cover_and_are_narrower_than_those_of_xtrace() -> None:
    values, seeds, errors = SPECTRA["decaying"], 200, {}
    operator = as_operator(lambda v: (values if v.ndim == 1 else values[:, None]) * v, n=N, dtype=np.float64)
    for method in ("xnystrace", "xtrace"):
        options = TraceOptions(method=method, products=20, rtol=None)  # type: ignore[arg-type]
        found = [last(trace, options, operator, seed).numbers for seed in range(seeds)]
        errors[method] = np.std([one["trace"] for one in found])
        covered = np.mean([one["low"] <= values.sum() <= one["high"] for one in found])
        width = np.mean([one["high"] - one["low"] for one in found])
        assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / seeds)
        assert width < 1.5 * 2 * 1.96 * errors[method]
    assert errors["xnystrace"] < 0.8 * errors["xtrace"]


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("method", ["adaptive", "hutch++", "hutchinson"])
def test_the_intervals_of_the_trace_cover_and_are_not_wide(spectrum: str, method: Any) -> None:
    values, seeds = SPECTRA[spectrum], 120
    operator = as_operator(lambda v: (values if v.ndim == 1 else values[:, None]) * v, n=N, dtype=np.float64)
    options = TraceOptions(method=method, products=30, rtol=None)
    found = [last(trace, options, operator, seed).numbers for seed in range(seeds)]
    covered = np.mean([one["low"] <= values.sum() <= one["high"] for one in found])
    width = np.mean([one["high"] - one["low"] for one in found])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / seeds)
    assert width < 1.5 * 2 * 1.96 * np.std([one["trace"] for one in found])


@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("method", ["xdiag", "hutchinson"])
def test_the_intervals_of_the_diagonal_cover_on_average_and_are_not_wide(spectrum: str, method: Any) -> None:
    A = of(SPECTRA[spectrum])
    found = [
        last(diagonal, DiagonalOptions(method=method, products=60), as_operator(A), seed).columns
        for seed in range(20)
    ]
    estimates, low, high = (np.array([one[name] for one in found]) for name in ("diagonal", "low", "high"))
    assert 0.935 < np.mean((low <= np.diag(A)) & (np.diag(A) <= high)) < 0.98
    assert np.mean(high - low) < 1.3 * 2 * 1.96 * np.std(estimates, axis=0).mean()


def test_residuals_of_known_pairs_enter_as_the_frobenius_norm_says() -> None:
    """|A|_F^2 is the sum of the squares of both blocks, and twice the squared residuals."""
    residuals = np.array([0.1, 0.2])
    rule = Quadrature(np.array([1.0]), np.array([0.0]))  # without an error from the random vector
    spectrum = Spectrum(50, 1e-16, np.array([5.0, 4.0]), residuals, [rule])
    exact = Spectrum(50, 1e-16, np.array([5.0, 4.0]), 0 * residuals, [rule])
    widths = [one.sum(SQUARE, 0.95).half_width for one in (spectrum, exact)]
    assert widths[0] - widths[1] == pytest.approx(2 * np.sum(residuals**2))


def test_the_effective_dimension_covers_where_the_quadrature_is_less_accurate_than_the_vectors() -> None:
    values = SPECTRA["zeros"]
    damping, size = 0.5, np.abs(values)
    options = NormsOptions(probes=14, steps=6, damping=damping)
    rows = [last(norms, options, as_operator(of(values)), seed).tables["norms"].rows[2] for seed in range(12)]
    covered = [low <= np.sum(size / (size + damping)) <= high for _, _, low, high in rows]
    assert np.mean(covered) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", list(SPECTRA))
def test_the_intervals_of_norms_cover(spectrum: str) -> None:
    values, seeds = SPECTRA[spectrum], 25
    operator = as_operator(of(values))
    damping = max(0.05 * float(np.abs(values).max()), -1.1 * float(values.min()))
    eigen = solve(operator, 3, tol=0.02)  # residuals that matter
    options = NormsOptions(probes=5, steps=14, damping=damping)
    size = np.abs(values)
    truths = {
        "Frobenius norm": np.linalg.norm(values),
        "stable rank": np.sum(values**2) / size.max() ** 2,
        "effective dimension": np.sum(size / (size + damping)),
        "log-determinant": np.sum(np.log(values + damping)),
    }
    tables = [last(norms, options, operator, seed, eigen).tables["norms"].rows for seed in range(seeds)]
    for i, (name, truth) in enumerate(truths.items()):
        rows = np.array([rows[i][1:] for rows in tables])
        assert np.mean((rows[:, 1] <= truth) & (truth <= rows[:, 2])) >= 0.85, name
        assert np.mean(rows[:, 2] - rows[:, 1]) < 0.6 * abs(truth), name
