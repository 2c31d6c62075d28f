"""The analyses `trace`, `diagonal` and `norms`: exact cases, array libraries, shards, budgets, commands."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import solve
from eigencore.cli import main
from eigencore.errors import EigencoreError, NotFiniteError
from eigencore.interfaces import AnalysisContext
from eigencore.operators import as_operator
from eigencore.testing import analysis_checks
from eigencore.testing.libraries import Library, installed
from eigencore_spectrum import diagonal as diagonals
from eigencore_spectrum import norms as all_norms
from eigencore_spectrum import options as declared
from eigencore_spectrum import trace as traces

ANALYSES = {
    "trace": (traces.trace, declared.TraceOptions),
    "diagonal": (diagonals.diagonal, declared.DiagonalOptions),
    "norms": (all_norms.norms, declared.NormsOptions),
}
FEW: dict[str, Any] = {
    "trace": {"products": 30},
    "diagonal": {"products": 12},
    "norms": {"probes": 3, "steps": 6},
}
METHODS = [
    ("trace", "adaptive"),
    ("trace", "xtrace"),
    ("trace", "hutch++"),
    ("trace", "hutchinson"),
    ("diagonal", "xdiag"),
    ("diagonal", "hutchinson"),
]
N = 120


def matrix(n: int = N) -> np.ndarray:
    """Outliers, a bulk of both signs, and zeros, in a random basis."""
    values = np.zeros(n)
    values[: n // 2] = np.random.default_rng(1).normal(size=n // 2)
    values[:5] = [60, 40, -30, 20, 10][: min(5, n)]
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


A = matrix()
VALUES = np.linalg.eigvalsh(A)


def context(operator: Any, seed: int = 0, eigen: Any = None) -> AnalysisContext:
    unused: Any = None
    return AnalysisContext(
        operator, eigen, unused, unused, "", unused, unused, unused, unused, unused, seed, lambda line: None
    )


def last(name: str, operator: Any, seed: int = 0, eigen: Any = None, **options: Any) -> Any:
    analysis, own = ANALYSES[name]
    *_, found = analysis(context(operator, seed, eigen), own(**options))  # type: ignore[operator]
    return found


def interval(found: Any, row: str = "") -> tuple[float, float, float]:
    if row:
        return next(tuple(one[1:]) for one in found.tables["norms"].rows if one[0] == row)  # type: ignore[return-value]
    return tuple(found.numbers[one] for one in ("trace", "low", "high"))  # type: ignore[return-value]


def law_of(check: Any) -> str:
    return f"{check.subject.analysis}-{check.__name__}"


@pytest.mark.parametrize(
    "check",
    [check for name in ANALYSES for check in analysis_checks(name, "demo:quadratic", **FEW[name])],
    ids=law_of,
)
def test_conforms(check: Any) -> None:
    check()


@pytest.mark.parametrize("n", [1, 2, 3, 40])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_with_as_many_products_as_dimensions_the_answer_is_exact(name: str, method: str, n: int) -> None:
    B = matrix(n)
    found = last(name, as_operator(B), method=method, products=n)
    truth = np.trace(B) if name == "trace" else np.diag(B)
    width = 1e-11 * max(np.abs(B).max(), 1e-300)
    if name == "trace":
        value, low, high = interval(found)
        spent = found.columns["products"][-1]
        assert spent == n or high - low < width  # rtol may be met before, and then only by an exact answer
    else:
        value, low, high = (found.columns[one] for one in ("diagonal", "low", "high"))
    np.testing.assert_allclose(value, truth, atol=width)
    assert np.all((low <= truth) & (truth <= high))
    if name == "diagonal":
        assert np.all(high - low < width)


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_norms_of_a_small_matrix_are_exact(n: int) -> None:
    B = matrix(n)
    values = np.linalg.eigvalsh(B)
    found = last("norms", as_operator(B), damping=100.0)
    truths = norms_of(values, 100.0)
    assert found.title == "exact"
    for row, truth in truths.items():
        value, low, high = interval(found, row)
        np.testing.assert_allclose([value, low, high], truth, rtol=1e-9)


def norms_of(values: np.ndarray, damping: float) -> dict[str, float]:
    size = np.abs(values)
    return {
        "Frobenius norm": float(np.linalg.norm(values)),
        "stable rank": float(np.sum(values**2) / size.max() ** 2),
        "effective dimension": float(np.sum(size / (size + damping))),
        "log-determinant": float(np.sum(np.log(values + damping))),
    }


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_low_rank_is_exact_with_a_sketch(name: str, method: str) -> None:
    u = np.arange(N) / N
    for B in (np.zeros((N, N)), np.outer(u, u)):
        found = last(name, as_operator(B), method=method, products=40)
        ends = found.numbers if name == "trace" else found.columns
        low, high = ends["low"], ends["high"]
        truth = np.trace(B) if name == "trace" else np.diag(B)
        if method != "hutchinson" or not B.any():
            assert np.all((low <= truth) & (truth <= high))
            assert np.max(high - low) <= 1e-9 * max(np.abs(B).max(), 1e-300)


@pytest.mark.parametrize("library", installed(), ids=str)
@pytest.mark.parametrize("k", [0, 4])
def test_all_array_libraries_give_the_answer_of_numpy(library: Library, k: int) -> None:
    operator, reference = as_operator(library.array(A)), as_operator(A)
    atol = 1e3 * library.eps * 60
    for name, method in METHODS:
        found, expected = (
            last(name, one, eigen=solve(one, k) if k else None, method=method, products=30)
            for one in (operator, reference)
        )
        if name == "trace":
            np.testing.assert_allclose(interval(found), interval(expected), atol=20 * atol, err_msg=method)
        else:
            for column in ("diagonal", "low", "high"):
                np.testing.assert_allclose(found.columns[column], expected.columns[column], atol=20 * atol)
    found, expected = (
        last("norms", one, eigen=solve(one, k) if k else None, probes=3, steps=10, damping=50.0)
        for one in (operator, reference)
    )
    for row in norms_of(VALUES, 50.0):
        np.testing.assert_allclose(
            interval(found, row), interval(expected, row), rtol=max(1e4 * library.eps, 1e-6)
        )


@pytest.mark.parametrize("k", [0, 3])
def test_shards_give_the_answer_of_the_whole(k: int) -> None:
    sizes, barrier, given = (50, N - 50), threading.Barrier(2, timeout=60), {}

    class Sharded:
        """Each of two threads has a part of the rows of a matrix, and of every vector."""

        shape, xp, dtype, device = (N, N), np, np.dtype(np.float64), "cpu"

        def __init__(self, rank: int):
            self.rank, self.mine = rank, slice(0, 50) if rank == 0 else slice(50, N)

        def of_all(self, x: Any) -> list[Any]:
            given[self.rank] = x
            barrier.wait()
            found = [given[one] for one in (0, 1)]
            barrier.wait()
            return found

        def matvec(self, v: Any) -> Any:
            assert len(v) == sizes[self.rank]
            return A[self.mine] @ np.concatenate(self.of_all(v))

        matmat = matvec

        def sum(self, x: Any) -> Any:
            first, second = self.of_all(np.array(x))
            return first + second

        def shard(self, x: Any) -> Any:
            return x[self.mine]

    def results(operator: Any) -> list[Any]:
        eigen = solve(operator, k, complete=None) if k else None
        found = [
            last(name, operator, eigen=eigen, method=method, products=products)
            for name, method in METHODS
            for products in (20, N)
        ]
        return [*found, *(last("norms", operator, eigen=eigen, probes=p, steps=8) for p in (3, 20))]

    with ThreadPoolExecutor(2) as threads:
        both = [
            job.result(timeout=120) for job in [threads.submit(results, Sharded(rank)) for rank in (0, 1)]
        ]
    for first, second, whole in zip(*both, results(as_operator(A)), strict=True):
        assert first.numbers == second.numbers
        for name, number in whole.numbers.items():
            assert first.numbers[name] == pytest.approx(number, rel=1e-5, abs=1e-5)
        for name, column in whole.columns.items():
            np.testing.assert_allclose(first.columns[name], column, rtol=1e-5, atol=1e-5)
        for one, other in zip(first.tables.values(), whole.tables.values(), strict=True):
            for row, expected in zip(one.rows, other.rows, strict=True):
                cells = (np.array(one_row[1:], dtype=np.float64) for one_row in (row, expected))
                np.testing.assert_allclose(*cells, rtol=1e-5, atol=1e-5)  # an empty cell is NaN


@pytest.mark.parametrize("most", [1, 2, 7, 30])
def test_a_small_budget_leaves_a_wider_interval_or_says_that_there_is_none(most: int) -> None:
    for name, method in METHODS:
        function = getattr(eigencore, name)
        found = function(A, method=method, max_matvecs=most, seed=3)
        assert 1 <= found.matvecs <= most
        assert f"stopped by max_matvecs={most}" in found.warnings[-1]
        full = function(A, method=method, seed=3, products=100)
        assert np.median(found.high - found.low) > np.median(full.high - full.low)
        truth = np.trace(A) if name == "trace" else np.diag(A)
        assert np.mean((found.low <= truth) & (truth <= found.high)) > 0.85
    if most == 1:
        with pytest.raises(EigencoreError, match="norms has no result: it was stopped by max_matvecs=1"):
            eigencore.norms(A, k=0, max_matvecs=most, steps=10)
    else:
        found = eigencore.norms(A, k=0, max_matvecs=most, steps=10, probes=10)
        low, high = found.frobenius[1:]
        assert low <= np.linalg.norm(A) <= high


def test_rtol_ends_the_trace_and_its_interval_is_as_narrow() -> None:
    B = np.diag(np.linspace(0.5, 1, 400))
    loose, tight = (eigencore.trace(B, rtol=rtol, method="hutchinson") for rtol in (0.1, 0.02))
    assert loose.matvecs < tight.matvecs < 100
    for found, rtol in ((loose, 0.1), (tight, 0.02)):
        assert found.high - found.low <= 2 * rtol * abs(found.estimate)
    assert eigencore.trace(B, rtol=None, products=40).matvecs == 40


@pytest.mark.parametrize("name", list(ANALYSES))
def test_known_eigenpairs_make_intervals_narrower(name: str) -> None:
    function: Any = getattr(eigencore, name)
    options: Any = {"probes": 4, "steps": 10} if name == "norms" else {"products": 20, "method": "hutchinson"}
    without, known = (function(A, k=k, **options) for k in (0, 5))
    if name == "norms":
        widths = [one.frobenius[2] - one.frobenius[1] for one in (without, known)]
    else:
        widths = [np.mean(one.high - one.low) for one in (without, known)]
    assert widths[1] < widths[0] / 3


@pytest.mark.parametrize("name", list(ANALYSES))
def test_pairs_that_leave_no_complement(name: str) -> None:
    B = np.diag([3.0, 2.0, -1.0])
    found = getattr(eigencore, name)(B, k=3)
    if name == "norms":
        assert found.frobenius == pytest.approx(3 * (np.sqrt(14),), rel=1e-6)
    else:
        np.testing.assert_allclose(found.estimate, 4 if name == "trace" else np.diag(B), atol=1e-9)


@pytest.mark.parametrize("name", list(ANALYSES))
def test_a_product_that_is_not_finite_is_refused(name: str) -> None:
    B = np.eye(200)
    B[7, 7] = np.nan
    with pytest.raises(NotFiniteError):
        getattr(eigencore, name)(as_operator(lambda v: B @ v, n=200, dtype=np.float64), k=0)


def test_there_is_no_log_determinant_if_the_matrix_is_not_positive_definite() -> None:
    found = eigencore.norms(A, damping=1.0)
    assert np.isnan(found.log_determinant).all()
    assert "is not positive definite, because A has an eigenvalue of -30 or less" in found.warnings[0]
    assert np.isfinite(found.effective_dimension).all()
    indefinite = eigencore.Problem(operator=A, name="indefinite")
    (saved,) = (one for one in analysis_checks("norms", indefinite, probes=3) if one.name == "can_be_saved")
    saved()


def test_without_damping_the_rank_is_counted() -> None:
    u = np.linspace(0, 1, N)
    found = eigencore.norms(np.outer(u, u) + np.outer(u**2, u**2), k=2, damping=0.0, probes=4, steps=5)
    assert found.effective_dimension == pytest.approx((2, 2, 2))


def test_the_methods_and_options_differ() -> None:
    operator = as_operator(A)
    found = {
        method: last("trace", operator, method=method, products=60, rtol=None) for name, method in METHODS[:4]
    }
    assert len({one.numbers["trace"] for one in found.values()}) > 2
    widths = [
        np.subtract(*interval(last("trace", operator, confidence=confidence, products=60, rtol=None))[:0:-1])
        for confidence in (0.8, 0.95, 0.99)
    ]
    assert widths == sorted(widths)
    assert len(set(widths)) == 3
    one, five = (last("trace", operator, block=block, products=60, rtol=None) for block in (1, 5))
    assert len(one.columns["products"]) > len(five.columns["products"])


@pytest.mark.parametrize("name", list(ANALYSES))
def test_the_command_prints_saves_and_shows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo:digits-numpy", "-k", "2", "--seed", "1"]
    arguments += ["--probes", "2", "--steps", "5"] if name == "norms" else ["--products", "12"]
    saved, table = tmp_path / "run", tmp_path / "table.csv"
    assert main([name, *arguments, "--out", str(saved), "--csv", str(table)]) == 0
    screen = capsys.readouterr().out
    assert main(["show", str(saved)]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == screen.splitlines()[-3:]
    assert main([name, *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["analyses"][name]
    for number, value in data["numbers"].items():
        assert f"{number}: " in screen
        assert value is not None
    assert data["verdict"] in screen
    assert len(table.read_text().splitlines()) > 2
