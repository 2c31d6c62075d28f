"""ARPACK through SciPy: correct at every scale and end, dense where ARPACK does not apply."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from eigencore import arrays, solve
from eigencore.errors import OptionError, UsageError
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore.results import Status
from eigencore.testing.gallery import Case, SpectralOperator, filled
from eigencore.testing.libraries import Library, installed
from eigencore_arpack.arpack import ArpackOptions, arpack

HOST = Library("numpy", "float64")
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)
DEFAULT = ArpackOptions()
CASE = Case("", filled(200, [10, -9, 8, 7, -6, 5]), 4)


class RecordingOperator(SpectralOperator):
    """Records the vectors that it multiplies, and can fail on one of them."""

    def __init__(self, case: Case, library: Library = HOST, fails_at: int = 0, error: Any = None):
        super().__init__(case, library)
        self.seen: list[Any] = []
        self.fails_at, self.error = fails_at, error

    def matvec(self, v: Any, /) -> Any:
        self.seen.append(v)
        if len(self.seen) == self.fails_at:
            raise self.error
        return super().matvec(v)


def answer(operator: Any, request: Request, options: ArpackOptions = DEFAULT) -> Snapshot:
    (only,) = arpack(operator, request, options)
    return only


def residuals(case: Case, snapshot: Snapshot, library: Library = HOST) -> Any:
    V = arrays.to_host(snapshot.vectors())
    R = case.exact(library).matmat(V) - V * snapshot.values
    return np.array([arrays.norm(column) for column in R.T])


# -- correct results ---------------------------------------------------------------------------------------


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
@pytest.mark.parametrize("k", [1, 3])
def test_every_end_on_every_library(library: Library, which: str, k: int) -> None:
    case = Case("", CASE.spectrum, k, which)
    found = answer(case.operator(library), Request(k, which, tol=1e-4))
    assert np.allclose(found.values, case.wanted, atol=1e-5)
    assert np.array_equal(found.residuals, 1e-4 * np.abs(found.values))
    assert np.all(residuals(case, found, library) <= found.residuals + 100 * library.eps * case.norm)
    V = found.vectors()
    assert type(V) is type(library.array(np.zeros(1)))
    assert V.dtype == library.dtype
    assert V.shape == (case.n, k)


@LIBRARIES
def test_the_operator_keeps_its_precision(library: Library) -> None:
    operator = RecordingOperator(CASE, library)
    answer(operator, Request(4))
    assert operator.seen
    assert all(v.dtype == library.dtype for v in operator.seen)


@LIBRARIES
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_scale_is_taken_for_zero(library: Library, scale: float) -> None:
    """On its own, ARPACK treats all pairs at 1e-30 as converged, since no value exceeds its eps^(2/3)."""
    case = Case("", scale * filled(200, [1.03, 1.02, 1.01]), 3)
    found = answer(case.operator(library), Request(3))
    assert np.all(residuals(case, found, library) <= 2e-3 * case.norm)
    assert np.allclose(found.values, case.wanted, rtol=1e-3)


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "SA"])
def test_wanted_zeros(library: Library, which: str) -> None:
    case = Case("", filled(100, [3.0, 2.0], 0.0, 0.0), 4, which)
    found = answer(case.operator(library), Request(4, which))
    assert np.allclose(found.values, case.wanted, atol=1e-5)


@LIBRARIES
def test_a_zero_matrix_has_zeros(library: Library) -> None:
    case = Case("", np.zeros(60), 3)
    found = answer(case.operator(library), Request(3))
    assert np.array_equal(found.values, np.zeros(3))
    assert np.array_equal(found.residuals, np.zeros(3))
    V = arrays.to_host(found.vectors())
    assert np.allclose(V.T @ V, np.eye(3), atol=10 * library.eps)


@LIBRARIES
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (6, 6), (19, 3), (40, 40)])
def test_where_arpack_does_not_apply_n_products_form_the_matrix(library: Library, n: int, k: int) -> None:
    case = Case("", np.linspace(-3, 2, n), k)
    operator = case.operator(library)
    found = answer(operator, Request(k))
    assert operator.products == n
    # Of two values equal in size, either sign may come first.
    assert np.allclose(np.sort(np.abs(found.values)), np.sort(np.abs(case.wanted)), atol=1e-5)
    assert np.allclose(found.residuals, residuals(case, found, library), atol=100 * library.eps * case.norm)


def test_the_basis_decides_what_is_dense() -> None:
    case = Case("", np.linspace(-3, 2, 30), 3)
    for ncv, products in ((31, 30), (30, 31)):
        operator = case.operator(HOST)
        found = answer(operator, Request(3, tol=1e-6), ArpackOptions(ncv=ncv))
        assert np.allclose(found.values, case.wanted, atol=1e-5)
        assert operator.products >= min(products, 30)
        assert ("computed from the dense matrix" in " ".join(found.notes)) == (ncv > 30)


# -- options, stopping early -------------------------------------------------------------------------------


def test_a_larger_basis_costs_more_if_gaps_are_wide_and_less_if_they_are_small() -> None:
    def products(case: Case, ncv: int) -> int:
        operator = case.operator(HOST)
        answer(operator, Request(case.k, tol=1e-6), ArpackOptions(ncv=ncv))
        return operator.products

    easy, hard = CASE, Case("", filled(400, [1.001, 1.0], -0.99, 0.99), 2)
    assert products(easy, 60) > products(easy, 20)
    assert products(hard, 60) < products(hard, 10)


def test_converged_pairs_are_kept_when_it_stops_early() -> None:
    case = Case("", filled(300, [10.0, 9.0, 1.02, 1.01]), 4)
    found = answer(case.operator(HOST), Request(4, tol=1e-10), ArpackOptions(ncv=8, maxiter=4))
    assert 0 < len(found.values) < 4
    assert np.allclose(found.values, case.wanted[: len(found.values)])
    assert found.vectors().shape == (300, len(found.values))
    assert np.all(residuals(case, found) <= 1e-8)
    assert f"stopped after 4 restarts with {len(found.values)} of 4 pairs converged" in found.notes[0]
    more = answer(case.operator(HOST), Request(4, tol=1e-10), ArpackOptions(ncv=12))
    assert np.allclose(more.values, case.wanted)
    assert more.notes == ()


def test_no_pair_is_returned_if_none_has_converged() -> None:
    hard = Case("", np.linspace(0.99, 1, 400), 3)
    found = answer(hard.operator(HOST), Request(3, tol=1e-12), ArpackOptions(maxiter=1))
    assert found.values.shape == found.residuals.shape == (0,)
    assert found.vectors().shape == (400, 0)
    result = solve(hard.operator(HOST), 3, solver="arpack", tol=1e-12, maxiter=1)
    assert result.status is Status.BREAKDOWN
    assert len(result.values) == 0


def test_a_basis_that_leaves_no_shift_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of ARPACK's error 3 recommends it; here the first call fails with this error."""
    eigsh, requested = sla.eigsh, []

    def failing_once(*args: Any, **keywords: Any) -> Any:
        requested.append(keywords["ncv"])
        if len(requested) == 1:
            args[0].matvec(np.ones(CASE.n))
            raise sla.ArpackError(3)
        keywords.pop("rng", None)
        return eigsh(*args, **keywords)

    monkeypatch.setattr(sla, "eigsh", failing_once)
    assert np.allclose(answer(CASE.operator(HOST), Request(4)).values, CASE.wanted, rtol=1e-3)
    assert requested == [20, 40]


@pytest.mark.parametrize("ncv", [3, 4])
def test_a_basis_no_larger_than_k_is_rejected_before_any_product(ncv: int) -> None:
    operator = CASE.operator(HOST)
    with pytest.raises(OptionError, match="expected ncv > k"):
        answer(operator, Request(4), ArpackOptions(ncv=ncv))
    assert operator.products == 0


def test_a_state_is_rejected() -> None:
    with pytest.raises(UsageError, match="keeps no state"):
        next(arpack(CASE.operator(HOST), Request(4), DEFAULT, state="anything"))  # type: ignore[arg-type]


# -- errors and budgets ------------------------------------------------------------------------------------


class BudgetSignal(BaseException):
    """Like the core's signal: not a subclass of Exception."""


@pytest.mark.parametrize("kind", [BudgetSignal, MemoryError, StopIteration])
def test_errors_of_the_operator_propagate_unchanged(kind: type[BaseException]) -> None:
    for fails_at in (1, 2, 7, 20):
        error = kind("the operator's own")
        snapshots = arpack(
            RecordingOperator(CASE, fails_at=fails_at, error=error), Request(4, tol=1e-9), DEFAULT
        )
        # Python turns a StopIteration that leaves a generator into a RuntimeError, with the cause kept.
        with pytest.raises(RuntimeError if kind is StopIteration else kind) as caught:
            next(snapshots)
        assert error in (caught.value, caught.value.__cause__)


@pytest.mark.parametrize("budget", [1, 5, 19, 20])
def test_the_budget_is_not_exceeded(budget: int) -> None:
    operator = CASE.operator(HOST)
    result = solve(operator, 4, solver="arpack", tol=1e-9, max_matvecs=budget)
    assert operator.products <= budget
    assert result.status is Status.BUDGET
    assert len(result.values) == 0


# -- start vectors -----------------------------------------------------------------------------------------


def test_it_starts_from_the_sum_of_the_block() -> None:
    rng = np.random.default_rng(1)
    block = rng.standard_normal((CASE.n, 3)) * [1, 1e-30, 1e30]
    for start in (block, block[:, 0]):
        operator = RecordingOperator(CASE)
        answer(operator, Request(4, start=start))
        columns = start.reshape(CASE.n, -1) / np.linalg.norm(start.reshape(CASE.n, -1), axis=0)
        expected = columns.sum(axis=1)
        assert np.allclose(operator.seen[0], expected / np.linalg.norm(expected), atol=1e-7)


def test_a_start_that_cancels_or_misses_an_eigenvector_still_finds_all() -> None:
    vectors = [CASE.operator(HOST).from_eigenbasis(np.eye(CASE.n)[i]) for i in (0, 10)]
    for start in (np.stack([vectors[0], -vectors[0]], axis=1), vectors[1]):
        found = answer(CASE.operator(HOST), Request(4, start=start))
        assert np.allclose(found.values, CASE.wanted, rtol=1e-3)


@pytest.mark.parametrize(
    "case", [CASE, Case("", filled(100, [3.0, 2.0], 0.0, 0.0), 4)], ids=["usual", "breakdown"]
)
def test_a_seed_decides_everything(case: Case) -> None:
    if "rng" not in inspect.signature(sla.eigsh).parameters and case is not CASE:
        pytest.skip("this SciPy draws from its own generator after a breakdown")
    one, same, other = (answer(case.operator(HOST), Request(4, seed=seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.values, same.values)
    assert np.array_equal(one.vectors(), same.vectors())
    assert not np.array_equal(one.vectors(), other.vectors())
