"""The certificate detects false residual estimates, and rarely contradicts true ones."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore import solve
from eigencore.errors import NotSymmetricError
from eigencore.operators import FunctionOperator, as_operator
from eigencore.operators.counting import counting
from eigencore.request import Request
from eigencore.solving.certificate import Claim, certify, products_needed

N, K = 120, 6
VALUES = np.array([50.0, 30, -20, 10, 5, 1])


def matrix_with_residuals(seed: int, size: float, *, aligned: bool) -> tuple[np.ndarray, np.ndarray]:
    """A and orthonormal V with V'AV = diag VALUES and residuals of norm `size` tol |theta| each.

    aligned: all residuals have the same direction, which is the hardest case for a sketch.
    """
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((N, N)))[0]
    V, W = Q[:, :K], Q[:, K:]
    B = np.zeros((N - K, K))
    if aligned:
        B[0] = 1.0
    else:
        B[:K] = np.eye(K)
    B *= size * 1e-3 * np.abs(VALUES)
    inner = np.diag(rng.uniform(-0.5, 0.5, N - K))
    return V @ np.diag(VALUES) @ V.T + W @ B @ V.T + V @ B.T @ W.T + W @ inner @ W.T, V


@pytest.mark.parametrize("aligned", [True, False])
def test_residuals_ten_times_the_estimates_are_detected(aligned: bool) -> None:
    caught = 0
    for seed in range(600):
        A, V = matrix_with_residuals(0, 9.99, aligned=aligned)
        claim = Claim(VALUES, V, 0.999e-3 * np.abs(VALUES), 50.0)
        grade = certify(as_operator(A), claim, Request(K, seed=seed), level="sketch")
        caught += grade.certificate.contradicted and not grade.converged.any()
    # Three standard errors of 600 draws below the nominal 99 %.
    assert caught >= 600 * (0.99 - 3 * np.sqrt(0.99 * 0.01 / 600))


@pytest.mark.parametrize("aligned", [True, False])
def test_true_estimates_at_the_tolerance_are_rarely_contradicted(aligned: bool) -> None:
    contradicted = 0
    for seed in range(600):
        A, V = matrix_with_residuals(0, 0.999, aligned=aligned)
        claim = Claim(VALUES, V, 0.999e-3 * np.abs(VALUES), 50.0)
        grade = certify(as_operator(A), claim, Request(K, seed=seed), level="sketch")
        contradicted += grade.certificate.contradicted
        assert grade.converged.all()  # after a contradiction, exact residuals decide
    assert contradicted <= 600 * (0.01 + 3 * np.sqrt(0.99 * 0.01 / 600))


def test_a_false_estimate_for_a_small_eigenvalue_is_not_hidden_by_large_ones() -> None:
    caught = 0
    for seed in range(200):
        A, V = matrix_with_residuals(0, 0.5, aligned=False)
        A = A + 0.2 * (np.outer(V[:, 5], A[:, 0]) + np.outer(A[:, 0], V[:, 5])) / np.linalg.norm(A[:, 0])
        values = np.einsum("ij,ij->j", V, A @ V)
        claim = Claim(values, V, 0.5e-3 * np.abs(VALUES), 50.0)
        grade = certify(as_operator(A), claim, Request(K, seed=seed), level="sketch")
        caught += grade.certificate.contradicted
    assert caught >= 196


def test_the_block_bound_holds_at_its_confidence() -> None:
    failed = 0
    for seed in range(600):
        A, V = matrix_with_residuals(0, 0.9, aligned=True)
        claim = Claim(VALUES, V, 0.9e-3 * np.abs(VALUES), 50.0)
        certificate = certify(as_operator(A), claim, Request(K, seed=seed), level="sketch").certificate
        if certificate.level == "sketch":
            failed += certificate.bound < np.linalg.norm(A @ V - V * VALUES, 2)
    assert failed <= 600 * (0.01 + 3 * np.sqrt(0.99 * 0.01 / 600))


def test_full_gives_exact_residuals_and_bound() -> None:
    A, V = matrix_with_residuals(3, 0.7, aligned=False)
    counted = counting(as_operator(A))
    grade = certify(counted, Claim(VALUES, V, np.zeros(K), 50.0), Request(K), level="full")
    R = A @ V - V * VALUES
    assert np.allclose(grade.residuals, np.linalg.norm(R, axis=0), rtol=1e-9)
    assert grade.certificate.bound == pytest.approx(np.linalg.norm(R, 2), rel=1e-9)
    assert grade.certificate.confidence == 1.0
    assert grade.certificate.exact
    assert counted.matvecs == grade.certificate.matvecs == K == products_needed("full", K)
    exact = np.linalg.eigvalsh(A)
    assert max(np.min(np.abs(exact - value)) for value in VALUES) <= grade.certificate.bound


def test_three_pairs_or_fewer_always_get_a_full_certificate() -> None:
    assert [products_needed("sketch", k) for k in (1, 2, 3, 4, 50)] == [1, 2, 3, 3, 3]
    result = solve(np.diag(np.arange(50.0)), 2)
    assert result.certificate.level == "full"


def test_vectors_that_are_not_orthonormal_are_reported() -> None:
    A, V = matrix_with_residuals(0, 0.5, aligned=False)
    V = V.copy()
    V[:, 1] += 0.1 * V[:, 0]
    grade = certify(as_operator(A), Claim(VALUES, V, np.ones(K), 50.0), Request(K), level="full")
    assert grade.certificate.orthogonality == pytest.approx(0.1, rel=1e-6)


def test_a_budget_too_small_for_a_certificate_is_reported() -> None:
    result = solve(np.diag(np.arange(50.0)), 5, max_matvecs=3)
    assert result.certificate.level == "none"
    assert "the budget left no products" in result.certificate.not_proved
    A, V = matrix_with_residuals(0, 9.9, aligned=False)
    claim = Claim(VALUES, V, 0.9e-3 * np.abs(VALUES), 50.0)
    grade = certify(as_operator(A), claim, Request(K), level="sketch", allowance=4)
    assert grade.refuted
    assert not grade.converged.any()


@pytest.mark.parametrize(("k", "extra"), [(2, 1), (6, 2)])
def test_the_floor_is_measured_where_it_may_decide(k: int, extra: int) -> None:
    """In float32, at a tolerance that its products cannot resolve, the floor is measured and decides."""
    spectrum = np.concatenate([np.geomspace(100, 5, 8), np.linspace(-1, 1, 192)])
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 200)))[0]
    A32 = ((Q * spectrum) @ Q.T).astype(np.float32)
    result = solve((A32 + A32.T) / 2, k, tol=1e-7)
    base = products_needed("sketch", k)
    assert result.certificate.floor_measured
    assert result.certificate.matvecs in (base + extra, base + extra + k)
    assert result.status == "converged"
    assert result.certificate.floor_decided
    assert any("only because of the precision floor" in note for note in result.notes)
    exact = np.linalg.eigvalsh(((A32 + A32.T) / 2).astype(float))[::-1][:k]
    assert np.allclose(result.values, exact, atol=2 * result.certificate.floor)
    # At a tolerance that float32 resolves, no products are spent on it.
    assert not solve((A32 + A32.T) / 2, k, tol=1e-3).certificate.floor_measured


def test_a_systematic_error_that_changes_with_scale_raises_the_floor() -> None:
    A, V = matrix_with_residuals(0, 0.0, aligned=False)

    def rounded(x: np.ndarray) -> np.ndarray:
        y = A @ x
        return y + 1e-4 * np.linalg.norm(x) * np.sin(1e5 * y) / np.sqrt(N)

    from array_api_compat import numpy as xp

    operator = FunctionOperator(rounded, N, xp=xp, dtype=np.dtype("float64"), device="cpu")
    claim = Claim(VALUES, V, np.zeros(K), 50.0)
    quiet = certify(operator, claim, Request(K, tol=1e-14), level="full")
    assert quiet.certificate.floor_measured
    assert quiet.certificate.floor >= 1e-14 * 50


def test_if_all_eigenvalues_are_requested_none_can_be_missed() -> None:
    assert solve(np.diag(np.arange(1.0, 7.0)), 6).certificate.not_proved == ""
    assert solve(np.diag(np.arange(1.0, 7.0)), 5).certificate.not_proved == ""
    not_proved = solve(np.diag(np.arange(1.0, 7.0)), 5, complete=None).certificate.not_proved
    assert not_proved == "that no eigenvalue larger in magnitude was missed"


def test_the_floor_is_measured_before_a_solver_is_contradicted() -> None:
    """Products in single precision, returned in double, do not resolve 1e-9, but do not contradict it."""
    values = np.append([9.0, 7.0, 5.0], np.linspace(-1, 1, 97))
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    A = ((Q * values) @ Q.T).astype(np.float32)

    def product(v: np.ndarray) -> np.ndarray:
        return (A @ v.astype(np.float32)).astype(np.float64)

    operator = as_operator(product, n=100, dtype=np.float64)
    found = solve(operator, k=2, tol=1e-9, certify="full", max_matvecs=400)
    assert found.status == "converged"
    assert found.certificate.floor_measured
    assert found.certificate.floor_decided
    assert np.allclose(found.values, values[:2], atol=found.certificate.floor)
    assert 1e-8 < found.certificate.floor < 1e-5


@pytest.mark.parametrize("certify_level", ["none", "sketch", "full"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["lanczos", "arpack"])
def test_residuals_and_bound_are_never_below_what_products_can_show(solver, dtype, certify_level) -> None:
    """The products of a diagonal matrix are exact, so that computed residuals may be zero."""
    spectrum = np.concatenate([[2e5, 1e5, 7e4, 3e3], np.linspace(1, 2, 36)]).astype(dtype)
    result = solve(np.diag(spectrum), 4, solver=solver, certify=certify_level, tol=1e-6)
    floor = 4 * np.finfo(dtype).eps * 2e5
    assert result.converged.all()
    assert result.certificate.floor >= 0.99 * floor
    assert np.all(result.residuals >= result.certificate.floor)
    assert result.certificate.bound is None or result.certificate.bound >= result.certificate.floor


def test_a_residual_that_products_can_show_is_returned_as_it_is() -> None:
    A, _ = matrix_with_residuals(3, 0.7, aligned=False)
    found = solve(A, K, max_matvecs=20, certify="full", tol=1e-10)
    true = np.linalg.norm(A @ found.vectors - found.vectors * found.values, axis=0)
    assert found.certificate.exact
    assert np.allclose(found.residuals, np.maximum(true, found.certificate.floor), rtol=1e-6)
    assert np.any(true > 100 * found.certificate.floor)


def test_the_zero_operator_has_residuals_of_zero() -> None:
    found = solve(np.zeros((6, 6)), 2)
    assert found.residuals.tolist() == [0.0, 0.0]
    assert found.certificate.bound == 0.0


class Perturbed(FunctionOperator):
    """A symmetric matrix whose products have an error that is the same in each product."""

    inexact = True

    def __init__(self, A: np.ndarray, error: float, reported: float):
        from array_api_compat import numpy as xp

        n = len(A)
        E = np.random.default_rng(1).standard_normal((n, n))
        E = (E + E.T) * error / np.linalg.norm(E + E.T, 2)
        super().__init__(lambda x: (A + E) @ x, n, xp=xp, dtype=np.dtype("float64"), device="cpu")
        self.reported, self.measured = reported, 0

    def product_error(self, v: np.ndarray, product: np.ndarray, /) -> float:
        assert np.array_equal(product, self.matvec(v))
        self.measured += 1
        return self.reported


@pytest.mark.parametrize("k", [2, 6])
@pytest.mark.parametrize("tol", [1e-8, 1e-3])
def test_the_error_of_inexact_products_is_the_floor_whatever_the_tolerance(k: int, tol: float) -> None:
    A, _ = matrix_with_residuals(0, 0.0, aligned=False)
    operator = Perturbed(A, 1e-4, 1.5e-4)
    found = solve(operator, k, tol=tol)
    certificate = found.certificate
    assert operator.measured == 1
    assert certificate.floor == pytest.approx(3e-4)
    assert certificate.floor_measured
    assert found.residuals.min() >= certificate.floor
    assert found.status == "converged"
    smallest = np.abs(found.values).min()
    assert certificate.floor_decided == (tol * smallest < certificate.floor)
    assert np.allclose(found.values, VALUES[:k], atol=certificate.floor + tol * 50)


def test_the_measurement_of_inexact_products_is_counted_and_limited() -> None:
    A, V = matrix_with_residuals(0, 0.0, aligned=False)
    operator = Perturbed(A, 1e-4, 1e3)
    counted = counting(operator)
    grade = certify(counted, Claim(VALUES, V, np.zeros(K), 50.0), Request(K), level="full")
    assert counted.matvecs == grade.certificate.matvecs == K + 1
    assert grade.certificate.floor == pytest.approx(1e-2 * 50)  # an error this large is no rounding
    assert counting(as_operator(A)).product_error(V[:, 0], A @ V[:, 0]) == 0


def test_inexact_products_may_be_asymmetric_by_their_error() -> None:
    A, _ = matrix_with_residuals(0, 0.0, aligned=False)
    skew = np.triu(np.random.default_rng(2).standard_normal((N, N)), 1)
    A = A + 2e-3 * 50 * (skew - skew.T) / np.linalg.norm(skew - skew.T, 2)
    with pytest.raises(NotSymmetricError) as caught:
        solve(A, 2)
    assert "exact ones" not in (caught.value.hint or "")
    assert solve(Perturbed(A, 0.0, 0.5), 2).k == 2
