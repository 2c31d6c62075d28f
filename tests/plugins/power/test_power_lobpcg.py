"""Locally optimal block iteration: its cost at every end, and that missed directions join the block."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled, hessian
from eigencore.testing.libraries import Library, installed
from eigencore_power import lobpcg as module
from eigencore_power.lobpcg import followed, lobpcg
from kit.power_recurrence import power_products
from kit.solver_states import iteration_of, state_of

HOST = Library("numpy", "float64")
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)
ENDS = pytest.mark.parametrize("which", ["LA", "SA"])
ALL_ENDS = pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])


def case_of(spectrum: Any, k: int, which: str = "LA") -> Case:
    """The spectrum itself, and its negative for SA."""
    sign = -1 if which == "SA" else 1
    return Case("", sign * np.asarray(spectrum, dtype=np.float64), k, which, rotated=False)


def solved(drive: Any, case: Case, *, tol: float = 1e-6, seed: int = 0, **more: Any) -> Any:
    request = Request(case.k, case.which, tol, seed)
    return drive(lobpcg, case.operator(HOST), request, None, **more)


# -- cost --------------------------------------------------------------------------------------------------


def gapped(gap: float, k: int, low: float) -> Any:
    """k eigenvalues, the least of them 1, over a bulk that is dense up to its end at 1 - gap."""
    return filled(2000, 1 + 0.1 * np.arange(k)[::-1], low, 1 - gap)


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("low", [0.0, -0.99])
def test_products_relative_to_lanczos_and_with_the_root_of_the_gap(
    drive: Any, which: str, k: int, low: float
) -> None:
    """A tenth of the gap costs power iteration up to 10 times the products, and this about root 10 times."""
    ours = []
    for gap in (0.1, 0.01, 0.001):
        case = case_of(gapped(gap, k, max(low, gap - 1)), k, which)
        found, least = [], []
        for seed in range(3):
            answer = solved(drive, case, seed=seed)
            assert answer.passed
            found.append(answer.products)
            least.append(
                solve(
                    case.operator(HOST),
                    k,
                    solver="lanczos",
                    which=which,
                    tol=1e-6,
                    seed=seed,
                    certify="none",
                    complete=None,
                ).matvecs
            )
        ours.append(np.median(found))
        assert ours[-1] <= {1: 1.9, 5: 3.5}[k] * np.median(least)
    assert ours[1] < 4.2 * ours[0]
    assert ours[2] < 4.2 * ours[1]


@pytest.mark.parametrize("both_signs", [False, True])
@pytest.mark.parametrize("gap", [0.1, 0.01])
def test_products_against_plain_power_and_the_best_momentum(drive: Any, gap: float, both_signs: bool) -> None:
    case = case_of(gapped(gap, 1, (gap - 1) * both_signs), 1, "LM")
    ours, plain, best = [], [], []
    for seed in range(5):
        answer = solved(drive, case, seed=seed)
        assert answer.passed
        ours.append(answer.products)
        start = np.random.default_rng(seed).standard_normal(case.n)
        plain.append(power_products(case.spectrum, start, 0.0, 1e-6, most=20_000))
        betas = [(part * (1 - gap) / 2) ** 2 for part in (0.98, 0.99, 1.0)]
        best.append(min(power_products(case.spectrum, start, beta, 1e-6, most=20_000) for beta in betas))
    assert np.median(ours) <= 1.4 * np.median(best)
    if gap == 0.01:
        assert 8 * np.median(ours) <= np.median(plain)


def test_a_block_product_costs_the_unconverged_pairs() -> None:
    """One snapshot for each block product; k columns at first, fewer once pairs have converged."""
    case = Case("", filled(300, [100.0, 30.0, 10.0, 5.0]), 4, "LA")
    operator = case.operator(HOST)
    columns, before = [], 0
    for snapshot in lobpcg(operator, Request(4, "LA", 1e-6), None):
        columns.append(operator.products - before)
        before = operator.products
        if np.all(snapshot.residuals <= 1e-6 * snapshot.values):
            break
    assert columns[:3] == [4, 4, 4]
    assert min(columns) == 1
    assert sum(columns) < 3 * len(columns)


# -- the ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "k", "expected"),
    [
        ("LA", 2, [4, 3, 0]),
        ("SA", 2, [-5, -1, 0]),
        ("BE", 2, [4, -5, 3]),
        ("BE", 3, [4, 3, -5, -1]),
        ("LM", 1, [-5, 4]),
        ("LM", 2, [-5, 4, -1]),
        ("LM", 3, [-5, 4, 3, -1]),
        ("LM", 5, [-5, 4, 3, -1, 0]),
    ],
    ids=str,
)
def test_one_more_vector_is_followed_for_lm_at_the_end_with_fewer_wanted_pairs(
    which: str, k: int, expected: list[float]
) -> None:
    values = np.array([-5.0, -1.0, 0.0, 3.0, 4.0])
    assert values[followed(Request(k, which), values)].tolist() == expected


def wrong_ends(drive: Any, runs: int) -> int:
    """Counts answers of -9.98 where 10 is the largest, if what is missed is not examined."""
    count = 0
    for seed in range(runs):
        spectrum = [10, -9.98, *np.random.default_rng(seed).uniform(-9, 9, 300)]
        answer = solved(drive, case_of(spectrum, 1, "LM"), tol=1e-6, seed=seed)
        assert answer.passed
        count += bool(answer.last.values[0] < 0)
    return count


def test_following_the_other_end_prevents_most_wrong_ends(
    drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_both = wrong_ends(drive, 40)
    monkeypatch.setattr(module, "OTHER_END_PERIOD", 10**6)
    one_end_alone = wrong_ends(drive, 40)
    assert with_both < one_end_alone / 2


NEAR_TIES = [
    ([10, 9.98], 1, 1e-3),
    ([10, 9.9], 1, 1e-2),
    ([10, 10, 9.98, 9.98], 1, 1e-3),
    ([10, 10, 10, 9.99], 3, 1e-3),
    ([10, -9.98], 1, 1e-3),
    ([10, -9.8], 2, 1e-2),
]


@ALL_ENDS
@pytest.mark.parametrize(("top", "k", "tol"), NEAR_TIES, ids=str)
def test_of_two_near_eigenvalues_the_smaller_is_not_called_complete(
    which: str, top: list[float], k: int, tol: float
) -> None:
    for seed in range(12):
        case = case_of([*top, *np.random.default_rng(seed).uniform(-9, 9, 300)], k, which)
        result = solve(case.operator(HOST), k, solver="lobpcg", which=which, tol=tol, seed=seed)
        assert result.status == "converged"
        values, wanted = (np.abs(part) if which == "LM" else part for part in (result.values, case.wanted))
        assert not result.complete or np.all(np.abs(values - wanted) <= 2 * tol * 10)


@ENDS
@pytest.mark.parametrize(
    ("top", "k"),
    [
        ([10, 8, 8, 8, 8], 2),
        ([10, 10, 10, 10, 9], 4),
        ([10, 10, 8, 8, 8, 5], 3),
        ([10.001, 10, 10, 9.999, 9.999], 3),
        ([10, -10, 8, -8], 2),
        ([-1, -1, -1, -2], 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_repeated_and_clustered_eigenvalues(
    drive: Any, which: str, top: list[float], k: int, seed: int
) -> None:
    case = case_of([*top, *np.linspace(-30, -4, 100)], k, which)
    answer = solved(drive, case, seed=seed, most=1000)
    assert answer.passed
    assert np.allclose(answer.last.values, case.wanted, rtol=2e-6)


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize(
    "top", [[10.0, 8.0], [10.0, 8.0, 6.0, 5.0], [2.2, 2.0, 1.9], [1.3, 1.2], [10.0, -9.0, 8.0, 7.0]]
)
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_a_start_without_the_first_eigenvector_still_finds_it(
    which: str, top: list[float], tol: float
) -> None:
    """From the exact eigenvectors of the others, which pass at once."""
    k = len(top) - 1
    case = case_of(filled(2000, top), k, which)
    operator = case.operator(HOST)
    start = np.stack([operator.from_eigenbasis(np.eye(2000)[i]) for i in range(1, k + 1)], axis=1)
    result = solve(operator, k, solver="lobpcg", which=which, tol=tol, start=start)
    assert result.complete
    assert np.allclose(result.values, case.wanted, rtol=2 * tol)


@LIBRARIES
def test_missed_directions_are_multiplied_in_the_next_step(library: Library) -> None:
    case = Case("", filled(300, [10.0, -9.0, 8.0, 7.0], -2.0, 2.0), 2)
    operator = case.operator(library)
    exact = [operator.from_eigenbasis(np.eye(300)[i]) for i in range(4)]
    start = operator.xp.stack(exact[2:], axis=1)
    snapshots = lobpcg(operator, Request(2, start=start), None)
    assert np.allclose(next(snapshots).values, [8, 7], rtol=100 * library.eps)
    noise = library.array(0.1 * np.random.default_rng(0).standard_normal((300, 2)) / np.sqrt(300))
    spent = operator.products
    both = snapshots.send(operator.xp.stack(exact[:2], axis=1) + noise)
    assert operator.products == spent + 2
    assert np.allclose(both.values, [10, -9], atol=0.2)
    *_, last = islice(snapshots, 20)
    assert np.allclose(last.values, [10, -9], rtol=1e-5)


@LIBRARIES
def test_random_directions_continue_if_no_residual_is_left(library: Library) -> None:
    """All pairs are found at once; further steps use one random direction each, and stay correct."""
    case = Case("", np.full(40, 2.0), 3, "LA", rotated=False)
    operator = case.operator(library)
    snapshots = list(islice(lobpcg(operator, Request(3, "LA"), None), 30))
    assert iteration_of(snapshots[-1]).step > 10
    for snapshot in snapshots:
        assert np.allclose(snapshot.values, 2)
        V = arrays.to_host(snapshot.vectors())
        assert np.allclose(V.T @ V, np.eye(3), atol=100 * library.eps)


@LIBRARIES
@ALL_ENDS
@pytest.mark.parametrize(
    ("spectrum", "k"),
    [
        (np.zeros(20), 2),
        (filled(40, [3.0], 0.0, 0.0), 1),
        (filled(40, [3.0], 0.0, 0.0), 3),
        (np.array([-2.0]), 1),
        (np.array([2.0, -2.0]), 2),
        (np.array([3.0, -3.0, 1.0, 0.0]), 4),
        (1e30 * filled(60, [9, 8, 5]), 3),
        (1e-30 * filled(60, [9, 8, 5]), 3),
    ],
    ids=["zero", "rank-one", "rank-one-and-zeros", "n-is-1", "n-is-2", "k-is-n", "1e30", "1e-30"],
)
def test_extremes(drive: Any, library: Library, which: str, spectrum: Any, k: int) -> None:
    case = case_of(spectrum, k, which)
    answer = drive(lobpcg, case.operator(library), Request(k, which), None)
    assert answer.passed
    sizes = np.abs if which == "LM" else np.asarray
    assert np.allclose(sizes(answer.last.values), sizes(case.wanted), rtol=2e-3, atol=1e-4 * case.norm)
    V = arrays.to_host(answer.last.vectors())
    assert np.allclose(V.T @ V, np.eye(k), atol=1e3 * library.eps)


# -- the span ----------------------------------------------------------------------------------------------


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "LA"])
def test_the_span_stays_orthonormal_with_its_products(library: Library, which: str) -> None:
    """After 200 steps, in units of rounding; the wanted eigenvalues of LA are small relative to ||A||."""
    case = Case("", -hessian(300, [100.0, 50.0]), 3, which)
    *_, last = islice(lobpcg(case.operator(library), Request(3, which, 1e-12), None), 200)
    state = iteration_of(last)
    X, AX = (arrays.to_host(part) for part in (state.block.X, state.block.AX))
    exact = case.exact(library).matmat(np.ascontiguousarray(X.T)).T / state.scale
    assert len(X) in range(3, 9)
    assert np.allclose(X @ X.T, np.eye(len(X)), atol=30 * library.eps)
    assert np.allclose(AX, exact, atol=30 * library.eps * case.norm / state.scale)


@ALL_ENDS
def test_residuals_are_those_of_the_operator_at_every_step(which: str) -> None:
    case = case_of(hessian(200, [20.0, 10.0, 5.0]), 3, which)
    for snapshot in islice(lobpcg(case.operator(HOST), Request(3, which), None), 60):
        V = snapshot.vectors()
        true = np.linalg.norm(case.exact().matmat(V) - V * snapshot.values, axis=0)
        assert np.allclose(snapshot.residuals, true, atol=1e-12)


def test_after_convergence_it_recomputes_its_products_and_continues() -> None:
    """All pairs pass at tol; the next product is that of the span, and residuals then fall far below."""
    case = Case("", filled(200, [10.0, 8.0, 6.0]), 2, "LA")
    operator, request = case.operator(HOST), Request(2, "LA", 1e-3)
    snapshots = lobpcg(operator, request, None)
    for snapshot in snapshots:
        if np.all(snapshot.residuals <= 1e-3 * snapshot.values):
            break
    width, spent = iteration_of(snapshot).block.width, operator.products
    recomputed = next(snapshots)
    assert operator.products == spent + width
    assert np.array_equal(recomputed.vectors(), snapshot.vectors())
    assert np.allclose(recomputed.values, snapshot.values, rtol=1e-12)
    *_, last = islice(snapshots, 60)
    assert np.all(last.residuals <= 1e-10)


# -- start, state, notes -----------------------------------------------------------------------------------

CASE = Case("", filled(200, [10, 8, -9, 6, 5]), 3, "LA")


@pytest.mark.parametrize("which", ["LM", "LA"])
def test_a_start_block_is_used(drive: Any, which: str) -> None:
    cold = drive(lobpcg, CASE.operator(HOST), Request(3, which, 1e-8), None)
    V = cold.last.vectors()
    for start in (V, np.hstack([V, V])):
        warm = drive(lobpcg, CASE.operator(HOST), Request(3, which, 1e-6, start=start), None)
        assert warm.passed
        assert warm.products < cold.products / 2
    one = drive(lobpcg, CASE.operator(HOST), Request(1, which, 1e-6, start=V[:, 0]), None)
    assert one.passed
    assert one.products < cold.products / 3


@ALL_ENDS
def test_resuming_from_a_state_is_as_if_it_had_never_stopped(which: str) -> None:
    request = Request(3, which)
    whole = list(islice(lobpcg(CASE.operator(HOST), request, None), 30))
    first = list(islice(lobpcg(CASE.operator(HOST), request, None), 13))
    rest = islice(lobpcg(CASE.operator(HOST), request, None, state=iteration_of(first[-1])), 17)
    for one, other in zip(whole[13:], rest, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.vectors(), other.vectors())


@pytest.mark.parametrize(("k", "which"), [(2, "LA"), (4, "LA"), (3, "SA"), (3, "LM")])
def test_a_state_can_be_used_for_another_number_of_pairs_and_another_end(
    drive: Any, k: int, which: str
) -> None:
    """From the exact eigenvectors of another end, the core finds what is missed."""
    done = solve(CASE.operator(HOST), 3, solver="lobpcg", which="LA", tol=1e-8)
    half = list(islice(lobpcg(CASE.operator(HOST), Request(3, "LA"), None), 6))[-1]
    request = Request(k, which, 1e-5)
    expected = CASE.spectrum[request.order(CASE.spectrum)]
    resumed = solve(
        CASE.operator(HOST), k, solver="lobpcg", which=which, tol=1e-5, state=done.state, max_matvecs=500
    )
    assert resumed.status == "converged"
    answer = drive(lobpcg, CASE.operator(HOST), request, None, state=state_of(half))
    assert answer.passed
    assert np.allclose(answer.last.values, expected, rtol=1e-5)
    assert np.allclose(resumed.values, expected, rtol=1e-5) or not resumed.complete


def test_a_note_reports_the_memory() -> None:
    (memory,) = next(lobpcg(CASE.operator(HOST), Request(3, "LA"), None)).notes
    assert "this solver holds 20 vectors; `lanczos` needs" in memory


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("which", ["LM", "LA"])
def test_five_blocks_are_held_during_a_product(vectors_held: Any, k: int, which: str) -> None:
    spectrum = np.random.default_rng(0).uniform(-1, 1, 100_000)
    held = vectors_held(lambda operator: lobpcg(operator, Request(k, which), None), spectrum, 20)
    assert held / (k + 1) <= 5.2
