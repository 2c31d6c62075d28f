"""solve can stop at every product with a correct result, and its advice works."""

from __future__ import annotations

import gc
import re
import signal
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from eigencore import solve
from eigencore.errors import (
    Interrupted,
    NotFiniteError,
    NotSymmetricError,
    OperatorError,
    OptionError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from eigencore.interfaces import Snapshot
from eigencore.operators import as_operator
from eigencore.operators.counting import counting
from eigencore.results import EigenResult, Status
from eigencore.solving import clock as clock_module

N = 60
SPECTRUM = np.concatenate([[40.0, 31, -25, 18, 12], np.linspace(-2, 3, N - 5)])


def matrix(spectrum: np.ndarray = SPECTRUM, seed: int = 0) -> np.ndarray:
    n = len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    A = (Q * spectrum) @ Q.T
    return (A + A.T) / 2


A = matrix()
EXACT = SPECTRUM[np.argsort(-np.abs(SPECTRUM))]


def rayleigh(v: np.ndarray, w: np.ndarray) -> Snapshot:
    """The Rayleigh quotient of a unit vector v with the product w = A v."""
    theta = float(v @ w)
    return Snapshot(
        np.array([theta]), np.array([np.linalg.norm(w - theta * v)]), lambda: v[:, None], abs(theta)
    )


def assert_sound(result: EigenResult) -> None:
    """Every reported value and residual is true for its vector, however early the solve was stopped."""
    V = np.asarray(result.vectors)
    assert V.shape == (N, len(result.values))
    assert np.allclose(V.T @ V, np.eye(V.shape[1]), atol=1e-10)
    assert np.allclose(np.einsum("ij,ij->j", V, A @ V), result.values, atol=1e-8)
    true = np.linalg.norm(A @ V - V * result.values, axis=0)
    assert np.all(true <= 1.01 * result.residuals + 1e-9)
    fine = result.converged
    assert np.all(true[fine] <= 1.01 * result.tol * np.abs(result.values[fine]) + 1e-9)


@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power", "arpack"])
@pytest.mark.parametrize("certify", ["sketch", "none"])
def test_right_when_stopped_at_every_product(solver: str, certify: str) -> None:
    for budget in range(1, 60):
        counted = counting(as_operator(A))
        result = solve(counted, 5, solver=solver, certify=certify, max_matvecs=budget, tol=1e-4)
        assert counted.matvecs == result.matvecs <= budget
        assert_sound(result)
        if result.status is Status.CONVERGED:
            assert np.allclose(result.values, EXACT[:5], rtol=1e-3)
        else:
            assert result.status is Status.BUDGET
            assert "max_matvecs" in result.advice


@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power", "arpack"])
def test_right_when_interrupted_at_every_product(solver: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    for number in range(1, 40):
        count = 0

        def product(v: np.ndarray, number: int = number) -> np.ndarray:
            nonlocal count
            count += 1
            if count == number:
                signal.raise_signal(signal.SIGINT)
            return A @ v

        try:
            result = solve(as_operator(product, n=N), 5, solver=solver, tol=1e-5)
            assert count < number  # it had converged before that product
            assert result.status is Status.CONVERGED
        except Interrupted as interrupted:
            result = interrupted.result
            assert number <= count <= number + 6  # a block that was started is completed
            if result.status is not Status.CONVERGED:
                assert result.status is Status.INTERRUPTED
                assert result.advice.startswith("interrupted after ")
                assert result.certificate.level == "none"
            assert_sound(result)
        assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_acts_at_once() -> None:
    def product(v: np.ndarray) -> np.ndarray:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return A @ v

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(as_operator(product, n=N), 2)
    assert not isinstance(caught.value, Interrupted)


def test_works_outside_the_main_thread() -> None:
    results: list[EigenResult] = []
    thread = threading.Thread(target=lambda: results.append(solve(A, 2)))
    thread.start()
    thread.join()
    assert results[0].status is Status.CONVERGED


class Timed:
    """A with products that take given times, on a clock that only products move.

    The real clock runs at another speed on a loaded machine.

    Args:
        first: the time of the first product, in seconds.
        single: the time of any further product with a vector.
        column: the time per column of a product with a block.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: float, single: float, column: float):
        whole = as_operator(A)
        self.shape, self.xp, self.dtype, self.device = whole.shape, whole.xp, whole.dtype, whole.device
        self.now, self.first, self.single, self.column = 100.0, first, single, column
        monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def matvec(self, v: np.ndarray) -> np.ndarray:
        self.now += self.single if self.now > 100 else self.first
        return A @ v

    def matmat(self, V: np.ndarray) -> np.ndarray:
        self.now += self.column * V.shape[1] if self.now > 100 else self.first
        return A @ V


def test_a_time_limit_stops_and_its_advice_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = solve(Timed(monkeypatch, 1, 1, 1), 5, tol=1e-9, max_seconds=12.5)
    assert result.status is Status.BUDGET
    assert result.certificate.level == "sketch"
    assert (result.history[-1].seconds, result.certificate.matvecs) == (9.0, 3.0)
    assert " after 12.0 of 12.5 s, with 3 products of about 1 s each reserved for" in result.advice
    assert "max_seconds" in result.advice
    assert_sound(result)


@pytest.mark.parametrize(("certify", "reserved"), [("none", 0), ("sketch", 3), ("full", 5)])
def test_a_time_limit_reserves_what_certifying_takes_and_no_more(
    monkeypatch: pytest.MonkeyPatch, certify: str, reserved: int
) -> None:
    """The first product, which includes building graphs, says nothing about those of the certificate."""
    slow = Timed(monkeypatch, first=175, single=20, column=20)
    result = solve(slow, 5, tol=1e-11, max_seconds=420, certify=certify)
    assert result.status is Status.BUDGET
    assert result.certificate.matvecs == reserved
    assert 420 - 20 < result.seconds <= 420
    assert result.history[-1].seconds == result.seconds - 20 * reserved


def test_the_time_of_a_block_is_known_from_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that multiplies blocks shows what a column takes, which may be less than a vector does."""

    def blocks(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        X = np.linalg.qr(np.random.default_rng(0).standard_normal((N, request.k)))[0]
        while True:
            AX = operator.matmat(X)
            values, S = np.linalg.eigh(X.T @ AX)
            residuals = np.linalg.norm(AX @ S - X @ S * values, axis=0)
            yield Snapshot(values, residuals, lambda V=X @ S: V, np.abs(values).max())
            X = np.linalg.qr(AX)[0]

    result = solve(Timed(monkeypatch, 30, 10, 2), 5, solver=blocks, tol=1e-6, max_seconds=100)
    assert result.certificate.matvecs == 3
    assert 100 - 10 < result.seconds <= 100


def test_a_time_limit_for_minibatches_is_measured_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sampled(Timed):
        def minibatch(self, step: int, seed: int, batches: int = 1):  # type: ignore[no-untyped-def]
            def product(v: np.ndarray) -> np.ndarray:
                self.now += 5
                return A @ v

            return as_operator(product, n=N), 0.25

    def sampling(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        v = np.ones(N) / np.sqrt(N)
        for step in range(10**6):
            w = operator.minibatch(step, 0)[0].matvec(v)
            yield rayleigh(v, w)
            v = w / np.linalg.norm(w)

    result = solve(Sampled(monkeypatch, 5, 20, 20), 1, solver=sampling, tol=1e-9, max_seconds=101)
    assert result.history[-1].seconds == 65  # 13 minibatches; 20 s for a further product and 20 s reserved
    assert result.certificate.matvecs >= 1


# -- each status: its advice, and that following it works --------------------------------------------------


def test_advice_on_a_budget_names_a_sufficient_budget() -> None:
    for solver, budget in (("lanczos", 12), ("deflated_power", 40), ("accel_power", 40)):
        short = solve(A, 5, solver=solver, max_matvecs=budget, tol=1e-8)
        assert short.status is Status.BUDGET
        assert re.match(
            r"\d of 5 pairs ha\w+ not converged after \d+ products \(worst \w+ residual", short.advice
        )
        raised = short
        for _ in range(3):  # the rate is an estimate: at most a few times
            budget = int(raised.advice.split("raise max_matvecs to ")[1].split(",")[0].rstrip("."))
            raised = solve(A, 5, solver=solver, max_matvecs=budget, tol=1e-8)
            if raised.status is Status.CONVERGED:
                break
        assert raised.status is Status.CONVERGED


def test_advice_on_stagnation_works() -> None:
    rng = np.random.default_rng(0)

    def noisy(v: np.ndarray) -> np.ndarray:
        # The products have five correct digits only, like those of a network in low precision.
        return A @ v + 1e-5 * 40 * rng.standard_normal(N) / np.sqrt(N)

    stuck = solve(as_operator(noisy, n=N), 2, solver="deflated_power", tol=1e-8)
    assert stuck.status is Status.STAGNATED
    assert "raise tol" in stuck.advice.lower()
    assert solve(as_operator(noisy, n=N), 2, solver="deflated_power", tol=1e-3).status is Status.CONVERGED


def test_advice_on_a_solver_that_ends_early_works() -> None:
    def gives_up(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        v = np.ones(N) / np.sqrt(N)
        yield rayleigh(v, operator.matvec(v))

    result = solve(A, 3, solver=gives_up)
    assert result.status is Status.BREAKDOWN
    assert "and gives_up ended early" in result.advice
    assert "lanczos" in result.advice
    assert solve(A, 3, solver="lanczos").status is Status.CONVERGED


def test_advice_when_interrupted_resumes_from_the_state() -> None:
    def until(number: int):  # type: ignore[no-untyped-def]
        count = 0

        def product(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            if count == number:
                signal.raise_signal(signal.SIGINT)
            return A @ v

        return as_operator(product, n=N)

    whole = solve(A, 5, tol=1e-6, certify="none")
    with pytest.raises(Interrupted) as caught:
        solve(until(9), 5, tol=1e-6, certify="none")
    part = caught.value.result
    assert "state=result.state" in part.advice
    rest = solve(A, 5, tol=1e-6, certify="none", state=part.state)
    assert rest.status is Status.CONVERGED
    assert np.allclose(rest.values, EXACT[:5])
    assert part.matvecs + rest.matvecs <= whole.matvecs + 1
    again = solve(A, 5, tol=1e-6, start=part.vectors)
    assert np.allclose(again.values, EXACT[:5])


@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power", "lobpcg"])
@pytest.mark.parametrize("most", [25, 1000])
def test_a_state_of_another_operator_is_refused_before_any_product(solver: str, most: int) -> None:
    """Both the state of a solve that was stopped and that of one that has converged."""
    state = solve(A, 3, solver=solver, certify="none", complete=None, max_matvecs=most).state
    counted = counting(as_operator(A[:50, :50]))
    for other in (counted, as_operator(A.astype(np.float32))):
        with pytest.raises(
            UsageError, match="this state comes from an operator of another size or data type"
        ):
            solve(other, 3, solver=solver, state=state)
    assert counted.matvecs == 0


def test_convergence_is_reported() -> None:
    result = solve(A, 5)
    assert result.status is Status.CONVERGED
    assert result.advice == "all 5 pairs converged (relative tolerance 0.001)"
    assert result.converged.all()


def test_false_residuals_are_refuted_and_the_solve_continues() -> None:
    def optimist(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        """Plain subspace iteration that reports a thousandth of its residuals."""
        X = np.linalg.qr(np.random.default_rng(0).standard_normal((N, request.k + 3)))[0]
        while True:
            AX = operator.matmat(X)
            values, S = np.linalg.eigh(X.T @ AX)
            best = np.argsort(-np.abs(values))[: request.k]
            R = AX @ S[:, best] - X @ S[:, best] * values[best]
            reported = np.linalg.norm(R, axis=0) / 1000
            yield Snapshot(values[best], reported, lambda V=X @ S[:, best]: V, np.abs(values).max())
            X = np.linalg.qr(AX)[0]

    result = solve(A, 5, solver=optimist, tol=1e-3)
    assert result.certificate.contradicted
    assert result.status is Status.STAGNATED
    assert not result.converged.all()
    assert "fresh products contradict the estimated residuals of optimist." in result.advice
    true = np.linalg.norm(A @ result.vectors - result.vectors * result.values, axis=0)
    assert np.allclose(true, result.residuals, rtol=1e-6)


# -- unsuitable operators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power", "arpack"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_product_that_is_not_finite_raises_with_the_result_so_far(solver: str, bad: float) -> None:
    count = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return A @ v if count < 14 else np.full(N, bad)

    with pytest.raises(NotFiniteError, match=r"product \d+ is not finite") as caught:
        solve(as_operator(product, n=N), 5, solver=solver, tol=1e-9)
    assert caught.value.partial is not None
    assert_sound(caught.value.partial)
    assert solver == "arpack" or len(caught.value.partial.values) == 5


@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power", "arpack"])
def test_an_asymmetric_operator_raises(solver: str) -> None:
    skewed = A + 0.05 * np.triu(np.random.default_rng(1).standard_normal((N, N)))
    with pytest.raises(NotSymmetricError, match="not symmetric") as caught:
        solve(skewed, 3, solver=solver)
    assert caught.value.partial is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_symmetric_operators_in_any_precision_are_not_called_asymmetric(dtype: type) -> None:
    for seed in range(50):
        spectrum = np.random.default_rng(seed).standard_normal(300) * np.geomspace(1, 1e-6, 300)
        solve(matrix(spectrum, seed).astype(dtype), 2, max_matvecs=8, seed=seed)


def test_minibatches_that_differ_are_not_called_asymmetric() -> None:
    class Sampled:
        """The mean of A and -A/2 and two more: each product of a sample is far from one of the whole."""

        def __init__(self) -> None:
            whole = as_operator(A)
            self.shape, self.xp, self.dtype, self.device = whole.shape, whole.xp, whole.dtype, whole.device
            self.matvec, self.matmat = whole.matvec, whole.matmat

        def minibatch(self, step: int, seed: int, batches: int = 1):  # type: ignore[no-untyped-def]
            return as_operator(A * (3 if step % 2 else -1)), 0.25

    def mixed(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        v = np.ones(N) / np.sqrt(N)
        for step in range(8):
            sample, _ = operator.minibatch(step, 0)
            v = sample.matvec(v)
            v = v / np.linalg.norm(v)
            yield rayleigh(v, operator.matvec(v))

    result = solve(Sampled(), 1, solver=mixed, certify="none")
    assert result.matvecs == 8 * 1.25
    assert len(result.values) == 1


def test_a_product_of_another_shape_and_one_that_raises() -> None:
    with pytest.raises(OperatorError, match="shape"):
        solve(as_operator(lambda v: v[:-1], n=N), 2)

    def broken(v: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    with pytest.raises(OperatorError, match="RuntimeError: out of memory"):
        solve(as_operator(broken, n=N), 2)

    def exhausted(v: np.ndarray) -> np.ndarray:
        raise StopIteration  # from an exhausted loader: must not end the solver's generator silently

    with pytest.raises(OperatorError, match="StopIteration"):
        solve(as_operator(exhausted, n=N), 2)


# -- traps of generators -----------------------------------------------------------------------------------


def power(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
    v = np.ones(N) / np.sqrt(N)
    while True:
        w = operator.matvec(v)
        yield rayleigh(v, w)
        v = w / np.linalg.norm(w)


def test_a_solver_that_swallows_exceptions_does_not_swallow_the_budget() -> None:
    def stubborn(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        v = np.ones(N) / np.sqrt(N)
        for _ in range(1000):
            try:
                w = operator.matvec(v)
            except Exception:
                continue
            v = w / np.linalg.norm(w)
        yield Snapshot(np.array([0.0]), np.array([0.0]), lambda: v[:, None], 1.0)

    counted = counting(as_operator(A))
    result = solve(counted, 1, solver=stubborn, max_matvecs=20)
    assert counted.matvecs <= 20
    assert result.status is Status.BUDGET
    assert len(result.values) == 0


def test_the_generator_is_closed_and_its_arrays_are_freed() -> None:
    closed = []

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def solver(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        big = Big()
        alive.append(weakref.ref(big))
        try:
            yield from power(operator, request, options)
        finally:
            closed.append(big is not None)

    result = solve(A, 1, solver=solver, max_matvecs=7)
    assert result.status is Status.BUDGET
    assert closed == [True]
    gc.collect()
    assert alive[0]() is None


def test_a_solver_that_multiplies_while_it_is_closed_is_closed() -> None:
    def untidy(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        try:
            yield from power(operator, request, options)
        finally:
            operator.matvec(np.ones(N))

    assert solve(A, 1, solver=untidy, max_matvecs=5).status is Status.BUDGET


def test_a_solver_that_fails_is_named_and_its_result_is_kept() -> None:
    def fails(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        for i, snapshot in enumerate(power(operator, request, options)):
            if i == 3:
                raise ZeroDivisionError("oops")
            yield snapshot

    with pytest.raises(PluginError, match="the solver fails failed: ZeroDivisionError: oops") as caught:
        solve(A, 1, solver=fails, tol=1e-9)
    assert caught.value.partial is not None
    assert len(caught.value.partial.values) == 1


def test_a_state_that_is_no_function_or_fails_is_the_failure_of_the_solver() -> None:
    def stateful(state):  # type: ignore[no-untyped-def]
        def solver(operator, request, options, *, state=state):  # type: ignore[no-untyped-def]
            for snapshot in power(operator, request, options):
                yield replace(snapshot, state=form)

        form = state
        return solver

    with pytest.raises(PluginError, match="its snapshot's state is a list; expected a function"):
        solve(A, 1, solver=stateful([1, 2]))
    with pytest.raises(PluginError, match="the solver solver failed: ZeroDivisionError") as caught:
        solve(A, 1, solver=stateful(lambda vectors: 1 / 0), max_matvecs=5)
    assert caught.value.partial.state is None
    assert len(caught.value.partial.values) == 1


def test_a_state_is_formed_once_from_the_vectors_of_the_last_snapshot() -> None:
    formed = []

    def solver(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        for count, snapshot in enumerate(power(operator, request, options), start=1):
            yield replace(snapshot, state=lambda vectors, count=count: formed.append(vectors) or count)

    result = solve(A, 1, solver=solver, max_matvecs=9)
    assert len(formed) == 1
    assert formed[0] is result.vectors
    assert result.state is not None
    assert result.state.state == len(result.history)


def test_numbers_of_a_solver_that_are_not_finite_are_never_returned() -> None:
    def nan(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
        operator.matvec(np.ones(N))
        yield Snapshot(np.array([np.nan]), np.array([0.0]), lambda: np.ones((N, 1)), 1.0)

    result = solve(A, 1, solver=nan)
    assert len(result.values) == 0
    assert result.status is Status.BREAKDOWN


# -- invalid requests, refused before any product ----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, UsageError, "k is 0"),
        ({"k": -1}, UsageError, "k is -1"),
        ({"k": N + 1}, UsageError, f"has only {N} eigenvalues"),
        ({"k": 2.5}, UsageError, "k is 2.5"),
        ({"tol": 0}, UsageError, "tol is 0"),
        ({"tol": float("nan")}, UsageError, "tol is nan"),
        ({"which": "SM"}, UsageError, "LM"),
        ({"seed": -1}, UsageError, "seed is -1"),
        ({"max_matvecs": 0}, UsageError, "max_matvecs is 0"),
        ({"max_seconds": -1}, UsageError, "max_seconds is -1"),
        ({"certify": "yes"}, UsageError, "certify is 'yes'"),
        ({"solver": "lancos"}, UnknownNameError, "lanczos"),
        ({"solver": 3}, UsageError, "solver is a int"),
        ({"bassis": 30}, UnknownNameError, "basis"),
        ({"basis": 4}, OptionError, "at least 7"),
        ({"basis": "many"}, OptionError, "whole number"),
        ({"start": np.ones(N - 1)}, UsageError, "start has shape"),
        ({"start": np.zeros(N)}, UsageError, "all zeros"),
        ({"start": np.full(N, np.nan)}, UsageError, "NaN"),
        (
            {"solver": "accel_power", "which": "BE"},
            UsageError,
            "which is BE; accel_power finds LM only",
        ),
    ],
)
def test_bad_requests_are_refused_before_any_product(arguments: dict, error: type, message: str) -> None:
    def product(v: np.ndarray) -> np.ndarray:
        raise AssertionError("a product was made")

    with pytest.raises(error, match=message):
        solve(as_operator(product, n=N), **arguments)


def test_progress_and_history_are_one_record() -> None:
    rows = []
    result = solve(A, 5, progress=rows.append)
    assert tuple(rows) == result.history
    spent = [row.matvecs for row in rows]
    assert spent == sorted(spent)
    assert spent[-1] + result.certificate.matvecs == result.matvecs
    assert rows[-1].converged == 5
    assert rows[-1].residual is None


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    one, two, other = solve(A, 5), solve(A, 5), solve(A, 5, seed=1)
    assert np.array_equal(one.vectors, two.vectors)
    assert not np.array_equal(one.vectors, other.vectors)


def yields(values, residuals, vectors):
    def solver(operator, request, options, *, state=None):
        yield Snapshot(np.array(values), np.array(residuals), vectors, 1.0)

    return solver


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (
            yields([1.0], [0.0, 0.0], lambda: np.ones((N, 1))),
            r"values of shape \(1,\) and residuals of shape \(2,\)",
        ),
        (yields([1.0, 2.0], [0.0, 0.0], lambda: np.ones((N, 2))), "at most 1 of each"),
        (yields([1.0], [0.0], np.ones((N, 1))), "vectors are a ndarray; expected a function"),
        (yields([1.0], [0.0], lambda: np.ones(N)), rf"formed vectors \({N},\); expected \({N}, 1\)"),
    ],
    ids=["lengths", "too many", "no function", "no block"],
)
def test_a_malformed_snapshot_is_the_solvers_failure(solver, message) -> None:
    with pytest.raises(PluginError, match=message):
        solve(np.eye(N), k=1, solver=solver)


def test_a_solver_that_never_finds_a_further_pair_is_stopped() -> None:
    def one_pair(operator, request, options, *, state=None):
        v = np.eye(N)[:, 0]
        while True:
            operator.matvec(v)
            yield Snapshot(np.array([1.0]), np.array([0.0]), lambda: v[:, None], 1.0)

    found = solve(np.eye(N), k=2, solver=one_pair, certify="none")
    assert found.status == "stagnated"
    assert found.matvecs < 1000
    assert found.advice.startswith("1 of 2 pairs has not converged, and the solver makes no more progress")
