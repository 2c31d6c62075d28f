"""The Rayleigh-Ritz refinement: its invariant, what it adds, where it restarts, and where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore.request import Request
from eigencore.testing.gallery import HOST, Case, filled
from eigencore_arpack.products import HostProduct
from eigencore_arpack.refinement import RitzBasis

CASE = Case("", filled(200, [5, 5, 4, -3, -3, 2.5]), 4, tol=1e-8)


def basis_of(case: Case, X: Any, size: int = 20) -> tuple[RitzBasis, Any]:
    operator = case.operator(HOST)
    request = Request(case.k, case.which, case.tol)
    return RitzBasis(HostProduct(operator), request, size, X), operator


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


def refuse_broken_invariant(basis: RitzBasis, case: Case = CASE) -> None:
    """Raises AssertionError unless S is orthonormal, AS are its products and H is S'AS."""
    S = basis.S
    assert np.allclose(S.T @ S, np.eye(S.shape[1]), atol=1e-12)
    assert np.allclose(basis.AS, case.exact().matmat(S), atol=1e-12 * case.norm)
    assert np.allclose(basis.H, S.T @ basis.AS, atol=1e-12 * case.norm)
    assert np.array_equal(basis.H, basis.H.T)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_invariant_holds_through_restarts(dtype: str) -> None:
    basis, operator = basis_of(CASE, random(200, 4).astype(dtype))
    refuse_broken_invariant(basis)
    basis.converge()
    assert basis.converged
    assert operator.products > 20  # more than the basis holds
    assert basis.S.shape[1] <= 20
    refuse_broken_invariant(basis)
    assert np.allclose(basis.values, CASE.wanted)
    R = CASE.exact().matmat(basis.vectors) - basis.vectors * basis.values
    assert np.allclose(basis.residuals, np.linalg.norm(R, axis=0), atol=1e-13)


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_it_adds_what_is_missing_at_every_end(which: str) -> None:
    case = Case("", CASE.spectrum, 4, which, tol=1e-8)
    exact = case.operator(HOST).from_eigenbasis(np.eye(200)[:, Request(5, which).order(case.spectrum)])
    basis, _ = basis_of(case, exact[:, 1:])
    basis.converge()
    assert basis.converged
    assert not np.allclose(basis.values, case.wanted)
    basis.add(exact[:, :1] + 0.1 * random(200, 1) / np.sqrt(200))
    basis.converge()
    assert basis.converged
    assert np.allclose(np.sort(np.abs(basis.values)), np.sort(np.abs(case.wanted)))


def test_directions_that_the_basis_contains_cost_no_product() -> None:
    basis, operator = basis_of(CASE, random(200, 4))
    before = operator.products
    basis.add(basis.S @ random(4, 2))
    assert operator.products == before
    basis.add(np.hstack([basis.S[:, :1] + 1e-3 * random(200, 1), basis.S[:, 1:2]]))
    assert operator.products == before + 1
    refuse_broken_invariant(basis)


def test_a_basis_of_the_whole_space_ends_it() -> None:
    case = Case("", np.linspace(-1, 1, 12), 5, tol=1e-15)
    basis, operator = basis_of(case, random(12, 5))
    basis.converge()
    assert operator.products == 12
    assert np.allclose(np.sort(np.abs(basis.values)), np.sort(np.abs(case.wanted)))


def test_it_gives_up_where_nothing_improves() -> None:
    """An asymmetric matrix has no such pairs; the residuals stay large."""
    A = np.triu(np.ones((60, 60)))

    class Asymmetric:
        shape, dtype = A.shape, A.dtype
        products = 0

        def matvec(self, v: Any) -> Any:
            return A @ v

        def matmat(self, V: Any) -> Any:
            self.products += V.shape[1]
            return A @ V

    operator: Any = Asymmetric()
    case = CASE.operator(HOST)
    operator.xp, operator.device = case.xp, case.device
    basis = RitzBasis(HostProduct(operator), Request(2), 6, random(60, 2))
    basis.converge()
    assert not basis.converged
    assert operator.products < 200
