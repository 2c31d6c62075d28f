"""Vectors that are cut into shards: two threads with a part of every vector get the answer of a whole run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import NotFiniteError, UsageError
from eigencore.operators import CountingOperator, as_operator
from eigencore.operators.algebra import add, congruence, multiply, project, restrict, shift
from eigencore.results import EigenResult
from eigencore.testing.libraries import Library, installed

N = 90
SIZES = (40, 50)
SPECTRUM = np.concatenate([[50.0, 41, 41, -33, 20, 11, -9], np.linspace(-3, 3, N - 7)])
LIBRARIES = [one for one in installed() if str(one) in ("numpy-float64", "numpy-float32", "torch-float64")]


def matrix(spectrum: np.ndarray = SPECTRUM) -> np.ndarray:
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    A = (Q * spectrum) @ Q.T
    return (A + A.T) / 2


class Exchange:
    """What two threads use to pass arrays to each other."""

    def __init__(self) -> None:
        self.calls = 0
        self._barrier = threading.Barrier(len(SIZES), timeout=30)
        self._given: dict[int, Any] = {}

    def of_all(self, rank: int, x: Any) -> list[Any]:
        """The arrays of all ranks, in the same order in each thread."""
        self._given[rank] = x
        self._barrier.wait()
        found = [self._given[one] for one in range(len(SIZES))]
        self._barrier.wait()
        self.calls += rank == 0
        return found


class ShardedMatrix:
    """A symmetric matrix; each of two threads has a part of its rows, and of those of every vector."""

    def __init__(self, A: Any, library: Library, rank: int, exchange: Exchange):
        self.shape = (N, N)
        self.xp, self.dtype = library.xp, library.dtype
        self._mine = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], N)
        self._rows = library.array(A[self._mine])
        self.device = arrays.device_of(self._rows)
        self._rank, self._exchange = rank, exchange

    def matvec(self, v: Any, /) -> Any:
        assert v.shape[0] == SIZES[self._rank]
        return self._rows @ self.xp.concat(self._exchange.of_all(self._rank, v))

    matmat = matvec

    def sum(self, x: Any, /) -> Any:
        first, second = self._exchange.of_all(self._rank, x)
        return first + second

    def shard(self, x: Any, /) -> Any:
        assert len(x) == N
        return x[self._mine]


def on_both(call: Callable[[ShardedMatrix, int], Any], A: Any, library: Library = LIBRARIES[0]) -> list[Any]:
    """What both threads return."""
    exchange = Exchange()
    with ThreadPoolExecutor(len(SIZES)) as threads:
        jobs = [
            threads.submit(call, ShardedMatrix(A, library, rank, exchange), rank)
            for rank in range(len(SIZES))
        ]
        return [job.result(timeout=60) for job in jobs]


def joined(results: list[EigenResult]) -> np.ndarray:
    return np.concatenate([arrays.to_host(result.vectors) for result in results])


def assert_same(results: list[EigenResult], whole: EigenResult, eps: float) -> None:
    first, second = results
    assert np.array_equal(first.values, second.values)
    assert first.matvecs == second.matvecs
    assert first.certificate == second.certificate
    unit = 100 * eps * 50
    np.testing.assert_allclose(first.values, whole.values, atol=unit)
    assert first.status == whole.status
    assert first.complete == whole.complete
    V, W = joined(results), arrays.to_host(whole.vectors)
    np.testing.assert_allclose(V.T @ V, np.eye(V.shape[1]), atol=100 * eps)
    residuals = np.linalg.norm(matrix() @ V - V * first.values, axis=0)
    assert np.all(residuals <= np.maximum(first.residuals, first.certificate.floor) * 1.1 + unit)
    assert W.shape == V.shape


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"k": 4, "certify": "full"},
        {"k": 4, "certify": "sketch", "basis": 10},
        {"k": 3, "which": "SA"},
        {"k": 4, "which": "BE", "complete": None},
        {"k": 1, "which": "LA"},
    ],
    ids=str,
)
def test_two_shards_give_the_answer_of_the_whole(library: Library, options: dict[str, Any]) -> None:
    options = {"tol": 1e-4} | options
    A = matrix()
    whole = solve(as_operator(library.array(A)), **options)
    results = on_both(lambda operator, rank: solve(operator, **options), A, library)
    assert_same(results, whole, library.eps)
    assert results[0].n == N
    if options.get("certify") == "full" and library.precision == "float64":
        assert results[0].certificate.bound == pytest.approx(whole.certificate.bound, rel=0.2)


def test_the_random_numbers_are_those_of_the_whole() -> None:
    """So that products and residuals agree as long as rounding has not grown."""
    options = {"k": 3, "tol": 1e-2, "certify": "full", "complete": None}
    whole = solve(matrix(), **options)
    results = on_both(lambda operator, rank: solve(operator, **options), matrix())
    assert results[0].matvecs == whole.matvecs
    np.testing.assert_allclose(results[0].residuals, whole.residuals, rtol=1e-6)
    np.testing.assert_allclose(np.abs(joined(results)), np.abs(whole.vectors), atol=1e-9)


def test_repeats_and_breakdowns() -> None:
    spectrum = np.array([7.0] * 3 + [2.0] * (N - 3))
    results = on_both(lambda operator, rank: solve(operator, 4), matrix(spectrum))
    for result in results:
        np.testing.assert_allclose(result.values, [7, 7, 7, 2])
        assert result.complete


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales(scale: float) -> None:
    library = Library("numpy", "float32")
    results = on_both(lambda operator, rank: solve(operator, 4, tol=1e-4), scale * matrix(), library)
    for result in results:
        np.testing.assert_allclose(result.values, scale * np.array([50, 41, 41, -33]), rtol=1e-3)


def test_starting_and_resuming_with_shards() -> None:
    def both(operator: ShardedMatrix, rank: int) -> tuple[EigenResult, ...]:
        x = operator.shard(np.random.default_rng(3).standard_normal((N, 2)))
        options = {"k": 4, "tol": 1e-6, "complete": None}
        part = solve(operator, **options, start=x[:, 0], max_matvecs=14)
        rest = solve(operator, **options, state=part.state)
        return part, rest, solve(operator, **options, start=x), solve(operator, **options, state=rest.state)

    for index in (1, 2, 3):
        results = [one[index] for one in on_both(both, matrix())]
        assert np.array_equal(results[0].values, results[1].values)
        expected = [50, 41, -33, 20] if index == 1 else results[0].values  # without completeness
        np.testing.assert_allclose(results[0].values, expected, rtol=1e-3)
        assert results[0].converged.all()


def test_a_product_that_is_not_finite_in_one_shard_is_reported_by_both() -> None:
    def one(operator: ShardedMatrix, rank: int) -> str:
        matvec, calls = operator.matvec, []

        def spoilt(v: Any) -> Any:
            calls.append(v)
            w = matvec(v)
            return w * np.nan if len(calls) == 6 and rank == 1 else w

        operator.matvec = spoilt  # type: ignore[method-assign]
        with pytest.raises(NotFiniteError) as caught:
            solve(operator, 3)
        return caught.value.message

    assert on_both(one, matrix()) == ["product 6 is not finite"] * 2


def test_a_start_of_the_whole_is_refused() -> None:
    def one(operator: ShardedMatrix, rank: int) -> str:
        with pytest.raises(UsageError) as caught:
            solve(operator, 3, start=np.ones(N))
        return caught.value.message

    messages = on_both(one, matrix())
    assert [
        f"expected an array of shape ({size},)" in text for size, text in zip(SIZES, messages, strict=True)
    ]


def test_norms_and_sums_are_those_of_the_whole() -> None:
    x = np.random.default_rng(0).standard_normal((N, 2))

    def measured(operator: ShardedMatrix, rank: int) -> list[Any]:
        mine = operator.shard(x)
        bad = np.where(np.arange(len(mine)) == 0, np.inf, 1.0) if rank else np.ones(len(mine))
        return [
            arrays.norm(mine, operator),
            [arrays.norm(scale * mine, operator) / scale for scale in (1e-200, 1e200)],
            arrays.total(mine.T @ mine, operator),
            arrays.is_finite(mine, operator),
            arrays.is_finite(bad, operator),
            arrays.local_rows(operator),
            arrays.local_rows(CountingOperator(operator)),
        ]

    for rank, found in enumerate(on_both(measured, matrix())):
        assert found[0] == pytest.approx(np.linalg.norm(x))
        assert found[1] == pytest.approx([np.linalg.norm(x)] * 2)
        np.testing.assert_allclose(found[2], x.T @ x)
        assert found[3:] == [True, False, SIZES[rank], SIZES[rank]]


def test_a_space_without_shards_adds_nothing_up() -> None:
    operator, x = as_operator(np.eye(3)), np.ones(3)
    assert arrays.total(x, operator) is x
    assert arrays.shard(x, operator) is x
    assert arrays.local_rows(operator) == 3
    assert not arrays.is_sharded(CountingOperator(operator))


def test_the_algebra_of_operators_keeps_the_shards() -> None:
    d = np.linspace(1.0, 2.0, N)

    def one(operator: ShardedMatrix, rank: int) -> tuple[EigenResult, ...]:
        derived = shift(multiply(add(operator, operator), 0.5), 100.0)
        first = solve(derived, 1, which="LA", tol=1e-8)
        with pytest.raises(UsageError, match="shards"):
            restrict(operator, [1, 2])
        with pytest.raises(UsageError, match="shards"):
            derived.to_scipy()
        np.testing.assert_array_equal(derived @ first.vectors, derived.matmat(first.vectors))
        return (
            first,
            solve(project(derived, first.vectors), 2, which="LA"),
            solve(congruence(operator, operator.shard(d)), 3),
        )

    exact = np.linalg.eigvalsh(d[:, None] * matrix() * d)
    exact = exact[np.argsort(-np.abs(exact))][:3]
    for first, rest, scaled in on_both(one, matrix()):
        np.testing.assert_allclose(first.values, [150])
        np.testing.assert_allclose(rest.values, [141, 141], rtol=1e-3)
        np.testing.assert_allclose(scaled.values, exact, rtol=1e-3)
