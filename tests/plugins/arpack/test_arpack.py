"""ARPACK through SciPy: correct at every scale and end, on singular matrices, with repeated eigenvalues."""

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
from eigencore_arpack.products import SHIFT
from kit.laplacians import LAPLACIANS
from kit.spectra import large_cases

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
    """The first snapshot: what ARPACK itself has computed."""
    return next(arpack(operator, request, options))


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
    # Where ARPACK gets a shifted operator, its tolerance is halved.
    tol, shift = (1e-4, 0) if which == "LM" else (5e-5, 2 * SHIFT * case.norm)
    assert np.all(np.abs(found.residuals - tol * np.abs(found.values)) <= tol * shift)
    assert np.all(found.residuals <= Request(k, which, tol=1e-4).thresholds(found.values, 0.0))
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
    assert found.evidence is not None
    assert np.allclose(np.sort(found.evidence.ritz), np.sort(case.spectrum), atol=1e-5)


def test_the_basis_decides_what_is_dense() -> None:
    case = Case("", np.linspace(-3, 2, 30), 3)
    for ncv, products in ((31, 30), (30, 31)):
        operator = case.operator(HOST)
        found = answer(operator, Request(3, tol=1e-6), ArpackOptions(ncv=ncv))
        assert np.allclose(found.values, case.wanted, atol=1e-5)
        assert operator.products >= min(products, 30)
        assert ("computed from the dense matrix" in " ".join(found.notes)) == (ncv > 30)


# -- singular matrices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("which", ["SA", "LA", "BE"])
@pytest.mark.parametrize("name", LAPLACIANS)
def test_the_zero_of_a_laplacian_is_found(name: str, which: str, dtype: str) -> None:
    """At SA, and at LA with the opposite sign, `eigsh` often returns the next eigenvalue instead."""
    A = (-1 if which == "LA" else 1) * LAPLACIANS[name].astype(dtype)
    for k in (1, 2, 5):
        exact = np.linalg.eigvalsh(A.astype(float))
        wanted = exact[Request(k, which).order(exact)]
        result = solve(A, k, solver="arpack", which=which)
        assert result.status is Status.CONVERGED
        error = np.abs(result.values - wanted)
        assert np.all(error <= 3e-3 * np.abs(wanted) + 100 * np.finfo(dtype).eps * np.max(np.abs(exact)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_floor_is_that_of_the_norm_and_not_of_the_wanted_values(dtype: str) -> None:
    n = 50
    A = (n * np.eye(n) - np.ones((n, n))).astype(dtype)
    result = solve(A, 1, solver="arpack", which="SA")
    assert result.status is Status.CONVERGED
    assert result.certificate.complete
    assert result.certificate.floor is not None
    assert result.certificate.floor >= 3.9 * np.finfo(dtype).eps * n


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_pairs_near_zero_are_refined_to_the_precision_floor(library: Library, which: str) -> None:
    spectrum = {
        "LM": [*np.geomspace(1, 1e-12, 60), *np.zeros(60)],
        "LA": [0, -1e-6, -1e-5, *np.linspace(-1, -0.1, 100)],
        "SA": [0, 1e-6, 1e-5, *np.linspace(0.1, 1, 100)],
        "BE": [2, 1.5, 0, *np.linspace(0.1, 1, 100)],
    }[which]
    case = Case("", np.array(spectrum), 3, which, tol=1e-3)
    result = solve(case.operator(library), 3, solver="arpack", which=which, certify="full")
    assert result.status is Status.CONVERGED
    assert np.allclose(result.values, case.wanted, rtol=2e-3, atol=30 * library.eps)


# -- missed eigenvalues ------------------------------------------------------------------------------------


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_repeated_eigenvalues_are_all_found(library: Library, which: str) -> None:
    case = Case("", filled(300, [9, 9, 9, 8, -9, -9, -8.5, -8]), 4, which)
    result = solve(case.operator(library), 4, solver="arpack", which=which, tol=1e-4)
    assert result.status is Status.CONVERGED
    assert result.certificate.complete
    assert np.allclose(np.sort(np.abs(result.values)), np.sort(np.abs(case.wanted)), atol=1e-4)


def test_what_is_missed_costs_products_with_the_pairs_once() -> None:
    """Sent the missed eigenvectors themselves, it multiplies the pairs and these, and later these only."""
    case = Case("", filled(300, [3, 3, 3, 2.5, 2.2, 2]), 4, tol=1e-3)
    operator, request = case.operator(HOST), Request(4, tol=1e-3)
    snapshots = arpack(operator, request, DEFAULT)
    snapshot = next(snapshots)
    assert np.allclose(snapshot.values, [3, 2.5, 2.2, 2])
    copies = operator.from_eigenbasis(np.eye(300)[:, :3])
    for products, values in ((5, [3, 3, 2.5, 2.2]), (1, [3, 3, 3, 2.5])):
        V = snapshot.vectors()
        left = np.linalg.svd(copies - V @ (V.T @ copies))[0][:, :1]
        before = operator.products
        snapshot = snapshots.send(left)
        assert operator.products == before + products
        assert np.allclose(snapshot.values, values)
        assert np.allclose(snapshot.residuals, residuals(case, snapshot), atol=1e-13)
        assert np.all(snapshot.residuals <= request.thresholds(snapshot.values, 0.0))
    assert list(snapshots) == []


def test_a_stopped_refinement_keeps_the_pairs_of_arpack() -> None:
    case = Case("", filled(300, [9, 9, 8, 7]), 3)
    alone = solve(case.operator(HOST), 3, solver="arpack", complete=None, certify="none")
    spent = solve(case.operator(HOST), 3, solver="arpack", certify="none").matvecs
    for budget in range(int(alone.matvecs), int(spent)):
        result = solve(case.operator(HOST), 3, solver="arpack", certify="none", max_matvecs=budget)
        assert len(result.values) == 3
        assert result.certificate.complete is False


def test_completeness_takes_at_most_a_third_more_products() -> None:
    """The geometric mean was 1.33, with what completes wrong answers included."""
    ratios = []
    for case in large_cases():
        request = {"which": case.which, "tol": case.tol, "solver": "arpack", "certify": "none"}
        alone, complete = (
            solve(case.operator(HOST), case.k, complete=probability, **request)
            for probability in (None, 0.99)
        )
        ratios.append(complete.matvecs / alone.matvecs)
        if complete.certificate.complete:
            values, wanted = (np.sort(np.abs(some)) for some in (complete.values, case.wanted))
            assert np.all(np.abs(values - wanted) <= 3 * case.tol * wanted), case
    assert np.exp(np.mean(np.log(ratios))) < 1.35


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
