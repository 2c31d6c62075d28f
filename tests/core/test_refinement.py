"""Solves by products with an approximation, whose pairs are refined by products of the operator itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import eigencore
from eigencore import arrays, solve
from eigencore.errors import NotFiniteError, NotSymmetricError, OperatorError, UsageError
from eigencore.interfaces import Approximation, Snapshot
from eigencore.operators import CountingOperator, FunctionOperator, as_operator, release
from eigencore.results import EigenResult, Status
from kit.approximations import NAME, Approximated, rounded

Floats = npt.NDArray[np.float64]
SOLVERS = ["lanczos", "arpack", "lobpcg", "deflated_power", "accel_power"]
N, K, TOL = 200, 4, 2e-2
OUTLIERS = [50.0, 40.0, -31.0, 24.0, 14.0, 11.0]


def matrix(outliers: list[float] = OUTLIERS, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((N, N)))[0]
    A = (Q * np.concatenate([outliers, rng.uniform(-3, 3, N - len(outliers))])) @ Q.T
    return np.asarray((A + A.T) / 2)


def residuals(A: Floats, found: EigenResult) -> Floats:
    return np.linalg.norm(A @ found.vectors - found.vectors * found.values, axis=0)


@pytest.mark.parametrize(
    ("solver", "which", "k"),
    [
        *((solver, which, k) for solver in SOLVERS for which, k in (("LM", 4), ("LM", 1))),
        *((solver, "LA", 3) for solver in SOLVERS[:3]),
    ],
)
def test_every_solver_returns_pairs_of_the_operator_itself(solver: str, which: str, k: int) -> None:
    A = matrix()
    operator = Approximated(A, bits=6)
    found = solve(operator, k, solver=solver, which=which, tol=TOL)
    true = np.linalg.eigvalsh(A)
    wanted = true[eigencore.Request(k, which).order(true)]
    assert found.status is Status.CONVERGED
    assert found.complete
    # Eigenvalues are accurate to the square of the residuals, which those of the approximation are not.
    assert np.max(np.abs(found.values - wanted)) < 3 * TOL**2 * 50
    assert np.min(np.abs(np.linalg.eigvalsh(rounded(A, 6))[:, None] - found.values)) > 1e-6
    assert np.allclose(found.residuals, residuals(A, found), rtol=1e-6, atol=1e-12)
    assert np.all(found.residuals <= TOL * np.abs(found.values))
    assert np.allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-8)
    assert np.allclose(found.vectors.T @ A @ found.vectors, np.diag(found.values), atol=1e-6)
    certificate = found.certificate
    assert (certificate.level, certificate.exact, certificate.confidence) == ("full", True, 1.0)
    assert found.matvecs == operator.own + operator.cheap
    assert certificate.matvecs + certificate.complete_matvecs == operator.own
    assert operator.own < operator.cheap or solver == "lanczos" or k == 1


def test_the_error_is_that_of_the_first_ritz_vector() -> None:
    A = matrix()
    operator = Approximated(A, bits=6)
    found = solve(operator, K, tol=TOL)
    v = found.vectors[:, 0]
    error = np.linalg.norm(operator.approximation.operator.matvec(v) - A @ v) / 50
    (note,) = [one for one in found.notes if NAME in one]
    assert float(note.partition("measured error of ")[2].split()[0]) == pytest.approx(error, rel=0.1)


def test_an_error_above_the_tolerance_is_refused_after_a_few_products() -> None:
    operator = Approximated(matrix(), bits=6)
    with pytest.raises(OperatorError) as caught:
        solve(operator, K, tol=1e-4)
    error = caught.value
    assert str(error.culprit) == "operator"
    assert error.message.startswith(f"{NAME} have an error of ")
    assert "more than the tolerance 0.0001" in error.message
    assert "set rounding=none" in (error.hint or "")
    assert error.partial.matvecs <= 8
    assert not error.partial.converged.any()
    assert 3e-4 < float(error.message.split("error of ")[1].split()[0]) < 3e-2


def test_the_error_of_random_vectors_would_have_hidden_it() -> None:
    # The approximation is wrong along the first eigenvector alone: the rounding of weights is of this form.
    A = matrix()
    u = np.linalg.eigh(A)[1][:, -1]
    w = np.linalg.qr(np.column_stack([u, np.random.default_rng(5).standard_normal(N)]))[0][:, 1]
    B = A + 0.08 * 50 * (np.outer(u, w) + np.outer(w, u))
    x = np.random.default_rng(3).standard_normal(N)
    assert np.linalg.norm((B - A) @ x) / np.linalg.norm(x) / 50 < TOL
    with pytest.raises(OperatorError, match=r"error of [789]\.\de-02") as caught:
        solve(Approximated(A, 50, B), K, tol=TOL)
    assert "error of" in caught.value.message


def wrong_along(index: int, size: float) -> Approximated:
    """An approximation that is wrong along one of the eigenvectors, from the first on, into the rest."""
    A = matrix()
    values, V = np.linalg.eigh(A)
    order = np.argsort(-np.abs(values))
    u, w = V[:, order[index]], V[:, order[-1]]
    return Approximated(A, 50, A + size * (np.outer(u, w) + np.outer(w, u)))


def test_pairs_with_a_large_error_have_not_converged() -> None:
    operator = wrong_along(3, 3.0)
    found = solve(operator, K, tol=TOL)
    assert found.status is Status.STAGNATED
    assert found.converged.tolist() == [True, True, True, False]
    assert found.certificate.exact
    assert not found.complete
    A = matrix()
    assert np.allclose(found.residuals, residuals(A, found), rtol=1e-6)
    assert found.residuals[3] > TOL * 24
    assert f"{NAME} have an error of up to 1.2e-01 of an eigenvalue" in found.advice
    assert "Set rounding=none, or raise tol" in found.advice
    assert "contradict" not in found.advice
    assert solve(operator, K, tol=0.2).status is Status.CONVERGED


def test_a_solver_with_false_residuals_is_blamed_and_not_the_error() -> None:
    def optimist(operator: Any, request: Any, options: Any, *, state: Any = None) -> Any:
        rng = np.random.default_rng(0)
        V = np.linalg.qr(rng.standard_normal((N, request.k)))[0]
        values = np.sum(V * operator.matmat(V), axis=0)
        yield Snapshot(values, np.zeros(request.k), lambda: V, 50.0)

    found = solve(Approximated(matrix(), 20), K, solver=optimist, tol=TOL, complete=None)
    assert not found.converged.any()
    assert "contradict the estimated residuals of optimist" in found.advice


def test_estimates_are_not_believed_where_no_products_are_left() -> None:
    def certain(operator: Any, request: Any, options: Any, *, state: Any = None) -> Any:
        V = np.linalg.eigh(matrix())[1][:, -request.k :]
        yield Snapshot(np.sum(V * operator.matmat(V), axis=0), np.zeros(request.k), lambda: V, 50.0)

    found = solve(Approximated(matrix(), 20), 2, solver=certain, which="LA", tol=TOL, max_matvecs=2)
    assert found.matvecs == 2
    assert not found.converged.any()
    assert found.status is Status.BUDGET
    assert "the budget left no products" in found.certificate.not_proved
    more = solve(Approximated(matrix(), 20), 2, solver=certain, which="LA", tol=TOL, max_matvecs=5)
    assert more.converged.all()


def test_a_first_eigenvector_that_the_approximation_lost_is_not_excluded_by_its_recurrence() -> None:
    A = matrix()
    lost = np.linalg.eigh(A)[1][:, -1]
    found = solve(Approximated(A, 50, A - 50.0 * np.outer(lost, lost)), 1, tol=TOL)
    assert found.values == pytest.approx([40], abs=0.1)
    assert not found.complete


@pytest.mark.parametrize("repeated", [False, True])
def test_completeness_rests_on_products_of_the_operator(repeated: bool) -> None:
    # The approximation has lost an eigenvector of A, and the solver can't find what is not there.
    outliers = [50.0, 40.0, 40.0 if repeated else 33.0, 24.0, 14.0, 11.0]
    A = matrix(outliers)
    values, V = np.linalg.eigh(A)
    lost = V[:, -2]
    B = A - 40.0 * np.outer(lost, lost)
    found = solve(Approximated(A, 50, B), 3, tol=TOL)
    assert not found.complete
    assert found.certificate.complete_matvecs > 0
    true = np.sort(values)[::-1][:3]
    assert np.max(np.abs(found.values - true)) > 1
    assert "missed" in found.advice or found.status is not Status.CONVERGED
    sound = solve(Approximated(A, 30), 3, tol=TOL)
    assert sound.complete
    assert np.allclose(sound.values, true, rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("certify", ["sketch", "none"])
def test_budgets_hold_and_nothing_counts_as_converged_without_refinement(solver: str, certify: str) -> None:
    A = matrix()
    for most in range(1, 60, 3):
        operator = Approximated(A, bits=8)
        found = solve(operator, K, solver=solver, tol=TOL, max_matvecs=most, certify=certify)
        assert operator.own + operator.cheap == found.matvecs <= most
        assert found.certificate.level == "full" or most <= 2 * K or solver != "lanczos"
        if found.certificate.level == "none":
            assert not found.converged.any()
            assert found.certificate.not_proved
        else:
            assert np.allclose(found.residuals, residuals(A, found), rtol=1e-6, atol=1e-12)
            assert np.array_equal(found.converged, found.residuals <= TOL * np.abs(found.values))
    assert found.certificate.level == "full"


def test_a_time_limit_reserves_the_time_of_full_products(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    A = matrix([])  # whose eigenvalues have no gaps

    def taking(seconds: float) -> Callable[[Floats], Floats]:
        def multiply(V: Floats) -> Floats:
            now[0] += seconds * V.shape[1]
            return np.asarray(A @ V)

        return multiply

    operator, cheap = (space_of(taking(seconds)) for seconds in (10.0, 1.0))
    operator.approximation = Approximation(cheap, NAME, "none")
    found = solve(operator, K, tol=1e-13, max_seconds=80)
    assert found.status is Status.BUDGET
    assert found.certificate.level == "full"
    assert found.seconds <= 80
    assert found.matvecs > K + 20


def space_of(product: Callable[[Floats], Floats]) -> Any:
    A = as_operator(np.eye(N))
    return FunctionOperator(
        lambda v: product(v[:, None])[:, 0],
        N,
        xp=A.xp,
        dtype=A.dtype,
        device=A.device,
        matmat=product,
    )


def test_it_goes_on_from_a_state_and_from_vectors() -> None:
    A = matrix()
    first = solve(Approximated(A, 8), K, tol=TOL, max_matvecs=11)
    assert first.status is Status.BUDGET
    state = pickle.loads(pickle.dumps(first.state))
    resumed = solve(Approximated(A, 8), K, tol=TOL, state=state)
    assert resumed.status is Status.CONVERGED
    again = solve(Approximated(A, 8), K, tol=TOL, state=resumed.state)
    from_vectors = solve(Approximated(A, 8), K, tol=TOL, start=resumed.vectors)
    for found in (resumed, again, from_vectors):
        assert np.allclose(found.values, [50, 40, -31, 24], atol=0.05)
        assert np.allclose(found.residuals, residuals(A, found), rtol=1e-6)


def test_a_state_does_not_pass_between_the_operator_and_its_approximation() -> None:
    A = matrix()
    of_rounded, of_full = (solve(one, K, tol=TOL).state for one in (Approximated(A, 8), A))
    with pytest.raises(UsageError, match=f"comes from {NAME}, and .* products of the operator itself"):
        solve(A, K, tol=TOL, state=of_rounded)
    with pytest.raises(UsageError, match=f"comes from products of the operator itself, and .* {NAME}"):
        solve(Approximated(A, 8), K, tol=TOL, state=of_full)


def test_products_that_overflow_name_the_remedy() -> None:
    A = matrix()
    operator = Approximated(A, 8)
    cheap = FunctionOperator(
        lambda v: np.full(N, np.inf), N, xp=operator.xp, dtype=operator.dtype, device="cpu"
    )
    operator.approximation = Approximation(cheap, NAME, "set rounding=none")
    with pytest.raises(NotFiniteError) as caught:
        solve(operator, K)
    assert "may overflow: set rounding=none" in (caught.value.hint or "")


@pytest.mark.parametrize("where", ["operator", "approximation"])
def test_asymmetry_is_refused_in_both(where: str) -> None:
    A = matrix()
    skew = A + 20 * np.triu(np.ones((N, N)), 1) / N**0.5
    operator = Approximated(skew, 50, A) if where == "operator" else Approximated(A, 50, skew)
    with pytest.raises((NotSymmetricError, OperatorError)):
        solve(operator, K, tol=0.5)


def test_an_approximation_of_another_size_is_refused() -> None:
    operator = Approximated(matrix(), 8)
    operator.approximation = Approximation(as_operator(np.eye(3)), NAME, "none")
    with pytest.raises(OperatorError, match=r"shape \(3, 3\)"):
        solve(operator, K)


def test_whatever_else_multiplies_uses_the_operator_itself() -> None:
    A = matrix()
    operator = Approximated(A, 4)
    v = np.random.default_rng(0).standard_normal(N)
    assert np.array_equal(operator @ v, A @ v)
    assert solve(CountingOperator(operator), K).values == pytest.approx([50, 40, -31, 24], abs=1e-3)
    assert operator.cheap == 0


def test_an_attribute_of_that_name_of_another_package_is_ignored() -> None:
    operator = space_of(lambda V: np.asarray(matrix() @ V))
    operator.approximation = "coarse"
    assert solve(operator, 2).status is Status.CONVERGED


def test_release_reaches_the_approximation() -> None:
    released = []
    operator = Approximated(matrix(), 8)
    A = operator.approximation.operator
    cheap = FunctionOperator(
        A.matvec,
        N,
        xp=A.xp,
        dtype=A.dtype,
        device=A.device,
        release=released.append,
    )
    operator.approximation = Approximation(cheap, NAME, "none")
    release(operator)
    assert released == [None]


def test_the_order_of_both_ends_and_a_zero_matrix() -> None:
    A = matrix()
    found = solve(Approximated(A, 8), 4, which="BE", tol=0.3, complete=None)
    assert found.values[:2] == pytest.approx([50, 40], abs=0.1)
    assert found.values[3] == pytest.approx(-31, abs=0.1)
    assert list(found.values) == sorted(found.values, reverse=True)
    zero = solve(Approximated(np.zeros((6, 6)), 8), 2)
    assert zero.values.tolist() == zero.residuals.tolist() == [0.0, 0.0]


def test_float32_has_a_floor_and_residuals_of_the_operator() -> None:
    A32 = as_operator(matrix().astype(np.float32))
    cheap = as_operator(rounded(matrix(), 8).astype(np.float32))
    A32.approximation = Approximation(cheap, NAME, "none")
    found = solve(A32, K, tol=TOL)
    assert found.status is Status.CONVERGED
    assert found.dtype == "float32"
    assert np.allclose(found.residuals, residuals(matrix(), found), rtol=1e-2)
    assert arrays.to_host(found.vectors).shape == (N, K)
