"""The matrices of the gallery have the stated eigenvalues on every array library; their costs are right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from eigencore import arrays
from eigencore.interfaces import LinearOperator
from eigencore.operators import as_operator
from eigencore.testing.gallery import HOST, TEN, Case, cases, filled, hessian
from eigencore.testing.libraries import Library
from eigencore.testing.solvers.answer_laws import power_cost
from kit.krylov_limit import krylov_limit
from kit.spectra import FAMILIES, bulk_edge_cases, large_cases, random_cases

CASES = cases()
SMALL = Case("small", filled(40, [5.0, -4.0, 3.0]), 2)


def dense(operator: LinearOperator) -> np.ndarray:
    identity = operator.xp.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)
    return arrays.to_host(operator.matmat(identity))


# -- matrices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_matrix_has_the_spectrum(case: Case) -> None:
    A = dense(case.operator())
    assert np.allclose(A, A.T, rtol=0, atol=1e-15 * case.norm)
    assert np.allclose(np.linalg.eigvalsh(A), np.sort(case.spectrum), rtol=0, atol=1e-13 * case.norm)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_matrix_is_the_same_on_every_library(case: Case, array_library: Library) -> None:
    A, exact = dense(case.operator(array_library)), dense(case.exact(array_library))
    assert np.max(np.abs(A - exact)) <= 4 * array_library.eps * case.norm
    assert np.max(np.abs(exact - dense(case.operator()))) <= array_library.eps * case.norm


def test_the_matrix_is_diagonal_only_if_it_is_not_rotated() -> None:
    A = dense(SMALL.operator())
    assert np.linalg.norm(A - np.diag(np.diag(A))) > 0.1 * np.linalg.norm(A)
    plain = dense(Case("diagonal", SMALL.spectrum, rotated=False).operator())
    assert np.array_equal(plain, np.diag(np.diag(plain)))


def test_vector_and_block_products_agree(array_library: Library) -> None:
    operator = SMALL.operator(array_library)
    V = array_library.array(np.random.default_rng(0).standard_normal((SMALL.n, 3)))
    AV = arrays.to_host(operator.matmat(V))
    for i in range(3):
        assert np.allclose(AV[:, i], arrays.to_host(operator.matvec(V[:, i])), atol=40 * array_library.eps)


def test_the_product_of_a_block_counts_once_per_column(array_library: Library) -> None:
    operator = SMALL.operator(array_library)
    assert as_operator(operator) is operator
    operator.matvec(array_library.array(np.ones(SMALL.n)))
    operator.matmat(array_library.array(np.ones((SMALL.n, 3))))
    assert operator.products == 4


def test_to_the_eigenbasis_and_back(array_library: Library) -> None:
    operator = SMALL.operator(array_library)
    x = np.random.default_rng(0).standard_normal(SMALL.n)
    v = operator.from_eigenbasis(x)
    assert np.allclose(operator.to_eigenbasis(v), x, atol=40 * array_library.eps)
    Av = operator.to_eigenbasis(operator.matvec(v))
    assert np.allclose(Av, SMALL.spectrum * x, atol=100 * array_library.eps)


# -- requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "k", "wanted"),
    [
        ("LM", 3, [4.0, -4.0, -3.0]),
        ("LA", 3, [4.0, 1.0, 0.5]),
        ("SA", 2, [-4.0, -3.0]),
        ("BE", 3, [4.0, 1.0, -4.0]),
        ("BE", 5, [4.0, 1.0, 0.5, -3.0, -4.0]),
    ],
)
def test_the_wanted_values_are_in_the_order_of_the_request(which: str, k: int, wanted: list[float]) -> None:
    assert Case("one", np.array([0.5, -3.0, 4.0, 1.0, -4.0]), k, which).wanted.tolist() == wanted


@pytest.mark.parametrize("case", [*CASES, *large_cases(), *bulk_edge_cases()], ids=str)
def test_the_wanted_values_are_the_outermost(case: Case) -> None:
    size = {"LM": np.abs, "LA": np.asarray, "SA": np.negative}
    if case.which == "BE":
        rising, low = np.sort(case.spectrum), case.k // 2
        expected = np.concatenate([rising[:low], rising[case.n - (case.k - low) :]])
        assert np.array_equal(np.sort(case.wanted), expected)
    else:
        sizes = size[case.which](case.spectrum)
        assert np.array_equal(size[case.which](case.wanted), np.sort(sizes)[::-1][: case.k])


def test_the_gallery_covers_every_end_and_the_extreme_sizes() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert 30 <= len(names) <= 60
    assert {case.which for case in CASES} == {"LM", "LA", "SA", "BE"}
    assert {1, 2} <= {case.n for case in CASES}
    assert any(case.k == case.n > 2 for case in CASES)
    assert any(case.norm == 0 for case in CASES)


def test_a_start_that_misses_the_answer_is_orthogonal_to_it() -> None:
    (case,) = (case for case in CASES if case.name == "start-misses-the-answer")
    assert case.start is not None
    assert not np.any(case.start[np.isin(case.spectrum, case.wanted[:1])])
    start = case.start_in(HOST)
    assert np.allclose(case.operator().to_eigenbasis(start), case.start)


def test_a_hessian_has_its_outliers_over_a_bulk_of_both_signs() -> None:
    spectrum = hessian(500, TEN)
    assert np.array_equal(np.sort(spectrum)[::-1][:10], TEN)
    bulk = spectrum[10:]
    assert -1 < np.min(bulk) < -0.5
    assert 1 < np.max(bulk) < 2.5
    assert len(np.unique(bulk)) == len(bulk)


# -- costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spectrum", "k", "products"),
    [
        (filled(50, [3.0], 0.0, 0.0), 1, 2),
        (np.ones(50), 1, 1),
        (np.repeat([3.0, 2.0, 1.0], [1, 20, 29]), 2, 3),
        (np.repeat([3.0, 2.0, 1.0], 10), 2, None),
        (np.linspace(1, 2, 8), 8, 8),
        (np.ones(50), 2, None),
        (np.array([-3.0]), 1, 1),
    ],
)
def test_a_krylov_space_closes_at_the_number_of_distinct_values(
    spectrum: np.ndarray, k: int, products: int | None
) -> None:
    assert krylov_limit(Case("few values", spectrum, k, tol=1e-9)) == products


def test_the_limit_is_that_of_the_matrix_itself() -> None:
    """Compared with an independent run: a dense basis of the Krylov space, orthogonalised in one step."""
    case = Case("independent", hessian(60, TEN[:4]), 3, tol=1e-6)
    A = dense(case.operator())
    x = arrays.generator(5, "start").standard_normal(case.n)
    for m in itertools.count(case.k):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A / case.norm, i) @ x for i in range(m)], axis=1))[
            0
        ]
        values, rotation = np.linalg.eigh(K.T @ A @ K)
        chosen = np.argsort(-np.abs(values))[: case.k]
        V = K @ rotation[:, chosen]
        residuals = np.linalg.norm(A @ V - V * values[chosen], axis=0)
        if np.all(residuals <= case.tol * np.abs(values[chosen])):
            break
    assert krylov_limit(case, seed=5) == m


def test_the_limit_depends_on_tol_and_k_but_not_on_the_scale() -> None:
    limit = krylov_limit(SMALL)
    assert limit is not None
    for c in (1e-30, 1e30):
        assert krylov_limit(Case("scaled", c * SMALL.spectrum, SMALL.k)) == limit
    looser, more = krylov_limit(SMALL, tol=1e-2), krylov_limit(Case("more", SMALL.spectrum, 5))
    assert looser is not None
    assert more is not None
    assert looser < limit < more
    assert krylov_limit(SMALL, most=limit - 1) is None


def test_the_limit_includes_repeated_eigenvalues() -> None:
    """Rounding brings the second 10, well after the 7 would have passed in its place."""
    single = krylov_limit(Case("single", filled(200, [10, 7, 5]), 2))
    double = krylov_limit(Case("double", filled(200, [10, 10, 7, 5]), 2))
    assert single is not None
    assert double is not None
    assert double > single + 5


def test_the_cost_of_power_iteration_bounds_a_plain_iteration() -> None:
    """Compared with the iteration itself, whose start is closer to the answer than in the worst case."""
    case = Case("power", filled(100, [10.0], -8.0, 8.0), 1, tol=1e-6)
    A = dense(case.operator())
    v, steps = np.random.default_rng(0).standard_normal(case.n), 0
    while True:
        v, steps = v / np.linalg.norm(v), steps + 1
        Av = A @ v
        if np.linalg.norm(Av - (v @ Av) * v) <= case.tol * abs(v @ Av):
            break
        v = Av
    assert steps <= power_cost(case) <= 2 * steps


def test_the_cost_of_power_iteration_is_infinite_where_it_finds_no_answer() -> None:
    for spectrum, which in (([2, -2, 1], "LM"), ([2, 0, 0], "LM"), ([3, 2, 1], "LA")):
        assert power_cost(Case("never", np.array(spectrum, dtype=float), 2, which)) == np.inf


# -- large and random cases --------------------------------------------------------------------------------


def test_the_large_cases() -> None:
    large = large_cases()
    assert len({case.name for case in large}) == len(large)
    assert 90 <= len(large) <= 120
    assert min(case.n for case in large) >= 200
    assert {1, 5, 10, 20} <= {case.k for case in large}
    limits = [krylov_limit(case) for case in large]
    assert sum(limit is not None and limit >= 8 for limit in limits) >= 80


def test_the_cases_at_the_edge_of_a_bulk_are_expensive() -> None:
    limits = [krylov_limit(case) for case in bulk_edge_cases()]
    assert np.median([limit for limit in limits if limit is not None]) > 60


def test_random_cases_depend_on_the_seed_only() -> None:
    one, same, other = (list(random_cases(30, seed)) for seed in (0, 0, 1))
    for case, again, differs in zip(one, same, other, strict=True):
        assert np.array_equal(case.spectrum, again.spectrum)
        assert (case.k, case.which, case.tol) == (again.k, again.which, again.tol)
        assert not np.array_equal(case.spectrum, differs.spectrum)
    assert [case.name for case in random_cases(10)] == [case.name for case in one[:10]]


def test_random_cases_cover_every_request_and_family() -> None:
    drawn = list(random_cases(400))
    assert {case.which for case in drawn} == {"LM", "LA", "SA", "BE"}
    assert {case.k for case in drawn} == set(range(1, 21))
    sizes = [case.n for case in drawn]
    assert min(sizes) >= 30
    assert 1000 < max(sizes) <= 1500
    assert all(np.all(np.isfinite(case.spectrum)) for case in drawn)
    repeated = [case for case in drawn if len(np.unique(case.wanted)) < case.k]
    assert len(repeated) > 40
    for family in FAMILIES:
        assert sum(family.__name__.strip("_") in case.name for case in drawn) == len(drawn) // len(FAMILIES)
