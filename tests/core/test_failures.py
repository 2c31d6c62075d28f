"""Whatever fails, the pairs computed before are kept, and the error names what failed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import eigencore
from eigencore import solve
from eigencore.errors import Culprit, EigencoreError, NotFiniteError, OperatorError, PluginError, UsageError
from eigencore.interfaces import Problem, Snapshot
from eigencore.operators import as_operator
from eigencore.pipeline import RunInterrupted, analyze
from eigencore.results import EigenResult, Status, Step

Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]

N = 50
SPECTRUM = np.concatenate([[40.0, 25, -16, 10, 6], np.linspace(-1, 1, N - 5)])
TOP = SPECTRUM[:5]


def failing(at: int, fail: Callable[[], Any]) -> Any:
    """The diagonal operator of SPECTRUM, whose product number `at` and all further ones call `fail`."""
    made = 0

    def product(v: NDArray[np.float64]) -> Any:
        nonlocal made
        made += 1
        return SPECTRUM * v if made < at else fail()

    return as_operator(product, n=N)


def raises(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def subspace(operator, request, options, *, state=None):  # type: ignore[no-untyped-def]
    """Plain subspace iteration: k pairs after every product with a block."""
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((N, request.k)))[0]
    while True:
        AX = operator.matmat(X)
        values, S = np.linalg.eigh(X.T @ AX)
        residuals = np.linalg.norm(AX @ S - X @ S * values, axis=0)
        yield Snapshot(values, residuals, lambda V=X @ S: V, float(np.abs(values).max()))
        X = np.linalg.qr(AX)[0]


def assert_kept(found: Any, pairs: int, residual: float = 20.0) -> None:
    """The result has so many pairs of the operator, and is not certified."""
    assert isinstance(found, EigenResult)
    V = np.asarray(found.vectors)
    assert V.shape == (N, pairs)
    assert np.allclose(V.T @ V, np.eye(pairs))
    assert np.allclose(np.einsum("ij,ij->j", V, SPECTRUM[:, None] * V), found.values)
    true = np.linalg.norm(SPECTRUM[:, None] * V - V * found.values, axis=0)
    assert np.all(true <= 1.01 * found.residuals + 1e-9)
    assert np.all(true <= residual)
    assert found.certificate.level == "none"


# -- the operator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("wrong shape"), MemoryError(), RecursionError("too deep")], ids=repr
)
@pytest.mark.parametrize("solver", ["lanczos", "deflated_power", "accel_power"])
def test_an_exception_in_a_product_is_the_operators(solver, error):
    with pytest.raises(OperatorError) as caught:
        solve(failing(12, raises(error)), 3, solver=solver, tol=1e-14)
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    assert caught.value.message == f"a product failed: {text}"
    assert (caught.value.culprit, caught.value.exit_code) == ("operator", 1)
    assert caught.value.__cause__ is error
    assert_kept(caught.value.partial, 3)


def test_a_solver_that_replaces_exceptions_is_not_blamed_for_a_product():
    def wraps(operator, request, options, *, state=None):
        snapshots = subspace(operator, request, options)
        while True:
            try:
                yield next(snapshots)
            except Exception as error:
                raise RuntimeError("the inner solver failed") from error

    with pytest.raises(OperatorError, match="a product failed: ValueError: my own text") as caught:
        solve(failing(20, raises(ValueError("my own text"))), 3, solver=wraps, tol=1e-14)
    assert caught.value.culprit is Culprit.OPERATOR
    assert_kept(caught.value.partial, 3)


@pytest.mark.parametrize(
    "product",
    [lambda: np.full(N, None), lambda: np.full(N, "x")],
    ids=["an array of objects", "an array of text"],
)
def test_a_product_that_is_no_array_of_numbers_is_the_operators(product):
    class Given:
        whole = as_operator(np.diag(SPECTRUM))
        shape, xp, dtype, device = whole.shape, whole.xp, whole.dtype, whole.device
        matmat = staticmethod(lambda V: product())
        matvec = matmat

    with pytest.raises(OperatorError, match="a product can't be used: ") as caught:
        solve(Given(), 2)
    assert caught.value.culprit is Culprit.OPERATOR


def test_a_minibatch_that_cannot_be_drawn_is_the_operators():
    class Given:
        whole = as_operator(np.diag(SPECTRUM))
        shape, xp, dtype, device = whole.shape, whole.xp, whole.dtype, whole.device
        matvec, matmat = whole.matvec, whole.matmat

        def minibatch(self, step: int, seed: int, batches: int = 1) -> Any:
            raise OSError("the file of batch 3 is gone")

    def sampling(operator, request, options, *, state=None):
        yield next(subspace(operator, request, options))
        operator.minibatch(0, 0)

    with pytest.raises(OperatorError, match="drawing a minibatch failed: OSError: the file") as caught:
        solve(Given(), 3, solver=sampling, tol=1e-14)
    assert caught.value.culprit is Culprit.OPERATOR
    assert_kept(caught.value.partial, 3, residual=50)


def test_the_result_of_a_failed_solve_says_why_it_ended():
    with pytest.raises(NotFiniteError) as caught:
        solve(failing(12, lambda: np.full(N, np.nan)), 3, tol=1e-14)
    assert caught.value.culprit is Culprit.OPERATOR
    assert caught.value.partial.status is Status.BREAKDOWN
    assert caught.value.partial.advice.startswith("failed after 12 products: product 12 is not finite; ")
    assert "(the solve failed)" in caught.value.partial.certificate.not_proved


# -- the solver --------------------------------------------------------------------------------------------


def fails_at_its_close(operator, request, options, *, state=None):
    try:
        yield from subspace(operator, request, options)
    finally:
        raise RuntimeError("out of order")


def fails_in_a_step(operator, request, options, *, state=None):
    for number, snapshot in enumerate(subspace(operator, request, options)):
        if number == 9:
            raise RuntimeError("out of order")
        yield snapshot


@pytest.mark.parametrize("solver", [fails_at_its_close, fails_in_a_step])
def test_an_exception_of_the_solver_is_the_solvers(solver):
    message = f"the solver {solver.__name__} failed: RuntimeError: out of order"
    with pytest.raises(PluginError, match=message) as caught:
        solve(np.diag(SPECTRUM), 3, solver=solver, tol=1e-14, max_matvecs=60, certify="none")
    assert (caught.value.culprit, caught.value.exit_code) == ("solver", 4)
    assert_kept(caught.value.partial, 3)


def test_a_solver_that_multiplies_before_it_returns_a_generator_stops_like_any_other():
    def eager(operator, request, options, *, state=None):
        operator.matvec(np.ones(N))
        return subspace(operator, request, options)

    with pytest.raises(OperatorError, match="a product failed: ValueError: no"):
        solve(failing(1, raises(ValueError("no"))), 3, solver=eager)
    assert solve(np.diag(SPECTRUM), 3, solver=eager, max_matvecs=1).status is Status.BUDGET


def test_a_vector_that_is_not_finite_is_the_solvers():
    def overflows(operator, request, options, *, state=None):
        yield next(subspace(operator, request, options))
        operator.matvec(np.full(N, np.inf))

    def product(v):
        with np.errstate(invalid="ignore"):
            return SPECTRUM * v

    with pytest.raises(PluginError, match="requested product 4 of a vector that is not finite") as caught:
        solve(as_operator(product, n=N), 3, solver=overflows, tol=1e-14)
    assert caught.value.culprit is Culprit.SOLVER


def test_an_invalid_request_has_no_culprit():
    with pytest.raises(UsageError) as caught:
        solve(np.diag(SPECTRUM), 3, basis=3)
    assert caught.value.culprit is None


def test_a_failure_after_estimates_were_contradicted_leaves_the_exact_residuals():
    """The solver's own estimates are not returned any more once fresh products have refuted them."""

    def optimist(operator, request, options, *, state=None):
        for number, snapshot in enumerate(subspace(operator, request, options)):
            if number == 1:
                raise RuntimeError("out of order")
            yield Snapshot(snapshot.values, snapshot.residuals * 1e-9, snapshot.vectors, snapshot.norm)

    with pytest.raises(PluginError) as caught:
        solve(np.diag(SPECTRUM), 3, solver=optimist, certify="full", complete=None)
    found = caught.value.partial
    true = np.linalg.norm(SPECTRUM[:, None] * found.vectors - found.vectors * found.values, axis=0)
    assert found.certificate.exact
    assert np.allclose(found.residuals, true)
    assert not found.converged.any()


# -- the certificate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("certify", ["sketch", "full"])
@pytest.mark.parametrize(
    ("fail", "kind", "text"),
    [
        (raises(ValueError("no more")), OperatorError, "a product failed: ValueError: no more"),
        (raises(MemoryError()), OperatorError, "a product failed: MemoryError"),
        (lambda: np.full(N, np.nan), NotFiniteError, "is not finite"),
    ],
    ids=["an exception", "out of memory", "NaN"],
)
def test_a_failure_in_the_certificate_keeps_all_pairs(tmp_path, certify, fail, kind, text):
    products = int(solve(np.diag(SPECTRUM), 4, certify="none").matvecs)
    problem = Problem(operator=failing(products + 2, fail))
    with pytest.raises(kind, match=text) as caught:
        analyze(problem, 4, certify=certify, out=tmp_path / "run")
    assert caught.value.culprit is Culprit.CERTIFICATE
    assert np.allclose(caught.value.partial.values, TOP[:4], rtol=1e-3)
    assert_kept(caught.value.partial, 4, residual=1)
    assert "the certificate failed" in caught.value.partial.certificate.not_proved
    assert np.array_equal(eigencore.load(tmp_path / "run").eigen.values, caught.value.partial.values)


def test_a_failure_of_the_certificates_own_arithmetic_is_named_too(monkeypatch):
    from eigencore.solving import certificate

    monkeypatch.setattr(
        certificate, "_gram_and_squares", lambda *given: raises(MemoryError("no room for R"))()
    )
    with pytest.raises(EigencoreError, match="the certificate failed: MemoryError: no room for R") as caught:
        solve(np.diag(SPECTRUM), 4)
    assert caught.value.culprit is Culprit.CERTIFICATE
    assert_kept(caught.value.partial, 4, residual=1)


# -- the caller's function ---------------------------------------------------------------------------------


class Own(BaseException):
    """An exception of the caller that is not an Exception."""


OF_CALLERS = [ValueError("mine"), StopIteration(), Own("mine"), KeyboardInterrupt(), SystemExit(3)]


def at_step(number: int, error: BaseException) -> Callable[[Any], None]:
    """A progress function that raises an error at the given number of a Step."""
    steps = []

    def progress(news: Any) -> None:
        if isinstance(news, Step):
            steps.append(news)
            if len(steps) == number:
                raise error

    return progress


@pytest.mark.parametrize("error", OF_CALLERS, ids=lambda error: type(error).__name__)
def test_an_exception_of_the_callers_function_reaches_the_caller_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught:
        solve(np.diag(SPECTRUM), 3, tol=1e-14, progress=at_step(9, error))
    assert caught.value is error
    assert error.culprit is Culprit.CALLBACK
    assert_kept(error.partial, 3)
    assert len(error.partial.history) == 9

    with pytest.raises(type(error)) as caught:
        analyze(np.diag(SPECTRUM), 3, tol=1e-14, progress=at_step(9, error), out=tmp_path / "run")
    assert caught.value is error
    saved = eigencore.load(tmp_path / "run").eigen
    assert_kept(saved, 3)
    assert "failed after 9 products: " in saved.advice


def test_a_solver_cannot_catch_an_exception_of_the_callers_function():
    def stubborn(operator, request, options, *, state=None):
        for snapshot in subspace(operator, request, options):
            try:
                yield snapshot
            except Exception:
                continue

    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        solve(np.diag(SPECTRUM), 3, solver=stubborn, tol=1e-14, progress=at_step(4, error))
    assert caught.value is error


# -- Ctrl-C a second time ----------------------------------------------------------------------------------


def test_a_second_interrupt_keeps_the_pairs(tmp_path):
    def twice() -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(failing(12, twice), 3, tol=1e-14)
    assert_kept(caught.value.partial, 3)
    with pytest.raises(RunInterrupted) as stopped:
        analyze(Problem(operator=failing(12, twice)), 3, tol=1e-14, out=tmp_path / "run")
    assert_kept(stopped.value.run.eigen, 3)
    assert_kept(eigencore.load(tmp_path / "run").eigen, 3)


# -- analyses ----------------------------------------------------------------------------------------------

LOOK = """
from eigencore.results import AnalysisResult
import numpy as np

@hookimpl
def eigen_analyses():
    return [AnalysisEntry(name=name, summary="made up", load=f"plugged_looks:{name}")
            for name in ("look", "other")]

class UsageError(Exception):
    pass

class Strange(BaseException):
    pass

class Silent(Exception):
    def __str__(self):
        raise TypeError("no text")

def deeper(n=0):
    return deeper(n + 1)

def product(v):
    raise RuntimeError("no product")

FAILURES = {
    "plain": lambda context: [][0],
    "of our name": lambda context: _raise(UsageError("not of eigencore")),
    "ours": lambda context: context.solve(np.eye(3), k=9),
    "operator": lambda context: context.solve(_operator(), k=1),
    "memory": lambda context: _raise(MemoryError()),
    "recursion": lambda context: deeper(),
    "exit": lambda context: _raise(SystemExit(0)),
    "silent": lambda context: _raise(Silent()),
    "strange": lambda context: _raise(Strange("stop")),
    "reports": lambda context: context.progress("looking"),
    "swallows": lambda context: _swallow(context),
}
MODE = []

def _raise(error):
    raise error

def _operator():
    from eigencore import as_operator
    return as_operator(product, n=3)

def _swallow(context):
    try:
        context.solve(np.diag([3.0, 2.0, 1.0]), k=1, progress=context.progress)
    except Exception:
        pass

def look(context, options):
    yield AnalysisResult(verdict="half of it")
    FAILURES[MODE[-1]](context)
    yield AnalysisResult(verdict="all of it")

def other(context, options):
    yield AnalysisResult(verdict="fine")
"""


@pytest.fixture
def look(plug):
    """look(mode) -> sets how the analysis fails."""
    plug("looks", LOOK)

    def set_mode(mode: str) -> None:
        import plugged_looks

        plugged_looks.MODE.append(mode)

    return set_mode


@pytest.mark.parametrize(
    ("mode", "message", "culprit", "exit_code"),
    [
        ("plain", "IndexError: list index out of range", "analysis", 4),
        ("of our name", "UsageError: not of eigencore", "analysis", 4),
        ("ours", "UsageError: k is 9", "analysis", 2),
        ("operator", "OperatorError: a product failed: RuntimeError: no product", "operator", 1),
        ("memory", "MemoryError", "analysis", 4),
        ("recursion", "RecursionError: maximum recursion depth exceeded", "analysis", 4),
        ("exit", "SystemExit: 0", "analysis", 4),
        ("silent", "Silent", "analysis", 4),
    ],
)
def test_a_failed_analysis_is_a_record(look, tmp_path, mode, message, culprit, exit_code):
    look(mode)
    run = analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run")
    failure = run.failed["look"]
    assert failure.message.startswith(message)
    assert (failure.culprit, failure.exit_code) == (culprit, exit_code)
    assert failure.traceback.startswith("Traceback")
    assert "plugged_looks.py" in failure.traceback
    assert run.manifest["failed"] == {"look": failure.message}
    assert run.analyses["look"].verdict == "half of it"
    assert run.analyses["other"].verdict == "fine"
    assert eigencore.load(tmp_path / "run").manifest["failed"] == run.manifest["failed"]


def test_an_exception_that_nothing_may_catch_is_raised_after_an_analysis_was_saved(look, tmp_path):
    look("strange")
    with pytest.raises(BaseException, match="stop") as caught:
        analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run")
    assert type(caught.value).__name__ == "Strange"
    assert np.allclose(caught.value.partial.values, TOP[:3])
    saved = eigencore.load(tmp_path / "run")
    assert np.allclose(saved.eigen.values, TOP[:3])
    assert saved.analyses["look"].warnings == ("stopped by Strange: stop; this is its last result",)


@pytest.mark.parametrize("mode", ["reports", "swallows"])
def test_an_exception_of_the_callers_function_in_an_analysis(look, tmp_path, mode):
    look(mode)
    steps = len(solve(np.diag(SPECTRUM), 3).history)
    error = ValueError("mine")
    of_the_analysis = at_step(steps + 1, error)

    def progress(news: Any) -> None:
        if news == "looking":
            raise error
        of_the_analysis(news)

    with pytest.raises(ValueError, match="mine") as caught:
        analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run", progress=progress)
    assert caught.value is error
    assert error.culprit is Culprit.CALLBACK
    assert error.partial.status is Status.CONVERGED
    saved = eigencore.load(tmp_path / "run")
    assert saved.eigen.status is Status.CONVERGED
    assert list(saved.analyses) == ["look"]
    assert not saved.manifest["failed"]


# -- saving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError("no room"), KeyboardInterrupt()], ids=repr)
def test_a_failure_while_the_run_is_saved_keeps_the_result(tmp_path, monkeypatch, error):
    monkeypatch.setattr("eigencore.pipeline.run.save", lambda run, folder: raises(error)())
    with pytest.raises(type(error)) as caught:
        analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run")
    assert caught.value is error
    assert np.allclose(caught.value.partial.values, TOP[:3])


def test_a_run_that_failed_before_the_first_pair_leaves_an_earlier_run_in_its_folder(tmp_path):
    before = analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run")
    with pytest.raises(OperatorError):
        analyze(Problem(operator=failing(1, raises(ValueError()))), 3, out=tmp_path / "run")
    assert np.array_equal(eigencore.load(tmp_path / "run").eigen.values, before.eigen.values)


def test_an_interrupt_between_two_analyses_keeps_the_pairs(tmp_path, monkeypatch):
    def pressed(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("eigencore.pipeline.run.run_analyses", pressed)
    with pytest.raises(RunInterrupted) as stopped:
        analyze(np.diag(SPECTRUM), 3, out=tmp_path / "run")
    assert stopped.value.run.eigen.status is Status.CONVERGED
    assert np.allclose(eigencore.load(tmp_path / "run").eigen.values, TOP[:3])
