"""Locally optimal block iteration at one end of a spectrum: its cost, and that it misses nothing."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import OptionError, UsageError
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled, hessian
from eigencore.testing.libraries import Library, installed
from eigencore_power import locally_optimal_block as module
from eigencore_power.accelerated import accel_power
from eigencore_power.locally_optimal_block import locally_optimal_block
from eigencore_power.options import AccelPowerOptions
from kit.effort import cases_to_try
from kit.solver_states import iteration_of, state_of

HOST = Library("numpy", "float64")
AUTO = AccelPowerOptions()
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)
ENDS = pytest.mark.parametrize("which", ["LA", "SA"])


def case_of(spectrum: Any, k: int, which: str = "LA") -> Case:
    """The spectrum itself for LA, and its negative for SA."""
    sign = {"LA": 1, "SA": -1}[which]
    return Case("", sign * np.asarray(spectrum, dtype=np.float64), k, which, rotated=False)


def solved(drive: Any, case: Case, *, tol: float = 1e-6, seed: int = 0, **more: Any) -> Any:
    request = Request(case.k, case.which, tol, seed)
    return drive(accel_power, case.operator(HOST), request, AUTO, **more)


# -- cost --------------------------------------------------------------------------------------------------


def gapped(gap: float, k: int, low: float) -> Any:
    """k eigenvalues, the least of them 1, over a bulk that is dense up to its end at 1 - gap."""
    return filled(2000, 1 + 0.1 * np.arange(k)[::-1], low, 1 - gap)


@ENDS
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("low", [0.0, -0.99])
def test_products_relative_to_lanczos_and_with_the_root_of_the_gap(
    drive: Any, which: str, k: int, low: float
) -> None:
    """A tenth of the gap costs power iteration up to 10 times the products, and this about root 10 times."""
    ours = []
    for gap in (0.1, 0.01, 0.001):
        case = case_of(gapped(gap, k, low), k, which)
        answer = solved(drive, case)
        assert answer.passed
        assert np.allclose(answer.last.values, case.wanted, rtol=1e-6)
        least = solve(case.operator(HOST), k, solver="lanczos", which=which, tol=1e-6, certify="none")
        assert answer.products <= 2.8 * least.matvecs
        ours.append(answer.products)
    assert ours[1] < 4 * ours[0]
    assert ours[2] < 4 * ours[1]


def test_a_block_product_costs_the_unconverged_pairs() -> None:
    """One snapshot for each block product; b columns at first, fewer once pairs have converged."""
    case = Case("", filled(300, [100.0, 30.0, 10.0, 5.0]), 4, "LA")
    operator = case.operator(HOST)
    columns, before = [], 0
    for snapshot in locally_optimal_block(operator, Request(4, "LA", 1e-6)):
        columns.append(operator.products - before)
        before = operator.products
        if snapshot.settled and np.all(snapshot.residuals <= 1e-6 * snapshot.values):
            break
    assert columns[:3] == [5, 5, 5]
    assert 1 <= min(columns) <= 2
    assert sum(columns) < 4 * len(columns)


# -- nothing larger is missed ------------------------------------------------------------------------------

NEAR_TIES = [
    ([10, 9.98], 1, 1e-3),
    ([10, 9.9], 1, 1e-2),
    ([10, 9.8], 1, 1e-2),
    ([10, 10, 9.98, 9.98], 1, 1e-3),
    ([10, 10, 10, 9.99], 3, 1e-3),
]


def missed(drive: Any, top: list[float], k: int, tol: float, runs: int, which: str = "LA") -> int:
    """Counts the results that are reported as converged but are wrong by more than the tolerance."""
    count = 0
    for seed in range(runs):
        case = case_of([*top, *np.random.default_rng(seed).uniform(-9, 9, 300)], k, which)
        answer = solved(drive, case, tol=tol, seed=seed, most=2000)
        assert answer.passed
        count += bool(np.any(np.abs(answer.last.values - case.wanted) > tol * np.abs(case.wanted)))
    return count


@ENDS
@pytest.mark.parametrize(("top", "k", "tol"), NEAR_TIES, ids=str)
def test_of_two_near_eigenvalues_the_smaller_is_not_taken(
    drive: Any, which: str, top: list[float], k: int, tol: float
) -> None:
    assert missed(drive, top, k, tol, 20, which) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("top", "k", "tol"), NEAR_TIES, ids=str)
def test_of_two_near_eigenvalues_the_smaller_is_not_taken_in_many_runs(
    drive: Any, top: list[float], k: int, tol: float
) -> None:
    assert missed(drive, top, k, tol, cases_to_try(60)) == 0


def test_a_guard_without_a_safety_factor_would_miss(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a safety factor, these spectra lead to wrong results."""
    monkeypatch.setattr(module, "SAFETY", 0.0)
    assert missed(drive, [10, 9.98], 1, 1e-3, 40) > 1


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


def first_is_found_from_the_others(drive: Any, top: list[float], which: str, tol: float) -> bool:
    """Whether the first eigenvalue is found from a start block of the exact eigenvectors of the others."""
    k = len(top) - 1
    case = case_of(filled(2000, top), k, which)
    operator = case.operator(HOST)
    start = np.stack([operator.from_eigenbasis(np.eye(2000)[i]) for i in range(1, k + 1)], axis=1)
    answer = drive(accel_power, operator, Request(k, which, tol, start=start), AUTO)
    assert answer.passed
    return np.allclose(answer.last.values, case.wanted, rtol=tol)


@ENDS
@pytest.mark.parametrize(
    "top", [[10.0, 8.0], [10.0, 8.0, 6.0, 5.0], [2.2, 2.0, 1.9], [1.3, 1.2], [1.05, 1.04]]
)
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_a_start_without_the_first_eigenvector_still_finds_it(
    drive: Any, which: str, top: list[float], tol: float
) -> None:
    assert first_is_found_from_the_others(drive, top, which, tol)


def test_a_guard_without_any_steps_would_miss_it(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUARD_STEPS", 0)
    assert not first_is_found_from_the_others(drive, [10.0, 8.0, 6.0, 5.0], "LA", 1e-3)


@LIBRARIES
def test_random_directions_continue_if_no_residual_is_left(library: Library) -> None:
    """All pairs are found at once; further steps use one random direction each, and stay correct."""
    case = Case("", np.full(40, 2.0), 3, "LA", rotated=False)
    operator = case.operator(library)
    snapshots = list(islice(locally_optimal_block(operator, Request(3, "LA")), 30))
    assert snapshots[0].settled
    assert iteration_of(snapshots[-1]).step > 10
    for snapshot in snapshots:
        assert np.allclose(snapshot.values, 2)
        V = arrays.to_host(snapshot.vectors())
        assert np.allclose(V.T @ V, np.eye(3), atol=100 * library.eps)


@LIBRARIES
@ENDS
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
    answer = drive(accel_power, case.operator(library), Request(k, which), AUTO)
    assert answer.passed
    assert np.allclose(answer.last.values, case.wanted, rtol=2e-3, atol=1e-4 * case.norm)
    V = arrays.to_host(answer.last.vectors())
    assert np.allclose(V.T @ V, np.eye(k), atol=1e3 * library.eps)


# -- the span ----------------------------------------------------------------------------------------------


@LIBRARIES
def test_the_span_stays_orthonormal_with_its_products(library: Library) -> None:
    """After 200 steps, in units of rounding; the wanted eigenvalues are small relative to ||A||."""
    case = Case("", -hessian(300, [100.0, 50.0]), 3, "LA")
    *_, last = islice(locally_optimal_block(case.operator(library), Request(3, "LA", 1e-12)), 200)
    state = iteration_of(last)
    X, AX = (arrays.to_host(part) for part in (state.block.X, state.block.AX))
    exact = case.exact(library).matmat(np.ascontiguousarray(X.T)).T / state.scale
    assert len(X) in range(4, 9)
    assert np.allclose(X @ X.T, np.eye(len(X)), atol=30 * library.eps)
    assert np.allclose(AX, exact, atol=30 * library.eps * case.norm / state.scale)


@ENDS
def test_residuals_are_those_of_the_operator_at_every_step(which: str) -> None:
    case = case_of(hessian(200, [20.0, 10.0, 5.0]), 3, which)
    for snapshot in islice(locally_optimal_block(case.operator(HOST), Request(3, which)), 60):
        V = snapshot.vectors()
        true = np.linalg.norm(case.exact().matmat(V) - V * snapshot.values, axis=0)
        assert np.allclose(snapshot.residuals, true, atol=1e-12)


def test_after_convergence_it_recomputes_its_products_and_continues() -> None:
    """All pairs pass at tol; the next product is that of the span, and residuals then fall far below."""
    case = Case("", filled(200, [10.0, 8.0, 6.0]), 2, "LA")
    operator, request = case.operator(HOST), Request(2, "LA", 1e-3)
    snapshots = locally_optimal_block(operator, request)
    for snapshot in snapshots:
        if snapshot.settled and np.all(snapshot.residuals <= 1e-3 * snapshot.values):
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


def test_a_start_block_is_used(drive: Any) -> None:
    cold = drive(accel_power, CASE.operator(HOST), Request(3, "LA", 1e-8), AUTO)
    V = cold.last.vectors()
    for start in (V, np.hstack([V, V])):
        warm = drive(accel_power, CASE.operator(HOST), Request(3, "LA", 1e-6, start=start), AUTO)
        assert warm.passed
        assert warm.products < cold.products / 2
    one = drive(accel_power, CASE.operator(HOST), Request(1, "LA", 1e-6, start=V[:, 0]), AUTO)
    assert one.passed
    assert one.products < cold.products / 3


def test_resuming_from_a_state_is_as_if_it_had_never_stopped() -> None:
    request = Request(3, "LA")
    whole = list(islice(locally_optimal_block(CASE.operator(HOST), request), 30))
    first = list(islice(locally_optimal_block(CASE.operator(HOST), request), 13))
    rest = islice(locally_optimal_block(CASE.operator(HOST), request, state=iteration_of(first[-1])), 17)
    for one, other in zip(whole[13:], rest, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.vectors(), other.vectors())


@pytest.mark.parametrize(("k", "which"), [(2, "LA"), (4, "LA"), (3, "SA")])
def test_a_state_can_be_used_for_another_number_of_pairs_and_the_other_end(
    drive: Any, k: int, which: str
) -> None:
    done = drive(accel_power, CASE.operator(HOST), Request(3, "LA", 1e-8), AUTO)
    request = Request(k, which, 1e-5)
    answer = drive(accel_power, CASE.operator(HOST), request, AUTO, state=state_of(done.last))
    assert answer.passed
    assert np.allclose(answer.last.values, CASE.spectrum[request.order(CASE.spectrum)], rtol=1e-5)


def test_options_for_both_ends_are_rejected_before_any_product() -> None:
    operator = CASE.operator(HOST)
    for options, message in (
        (
            AccelPowerOptions(momentum=0.5),
            "which is [LS]A and accel_power.momentum is 0.5; a fixed momentum damps a range around zero",
        ),
        (AccelPowerOptions(momentum=0.0), "momentum is 0.0"),
        (
            AccelPowerOptions(batches=2),
            "accel_power.batches is 2; momentum on minibatches damps a range around zero",
        ),
        (AccelPowerOptions(batches=2, variance_reduction=False), "batches"),
    ):
        for which in ("LA", "SA"):
            with pytest.raises(OptionError, match=message):
                next(accel_power(operator, Request(1, which), options))
    foreign = state_of(next(accel_power(CASE.operator(HOST), Request(3), AUTO)))
    with pytest.raises(UsageError, match="expected LocallyOptimalBlockState"):
        next(accel_power(operator, Request(3, "LA"), AUTO, state=foreign))
    own = state_of(next(accel_power(CASE.operator(HOST), Request(3, "LA"), AUTO)))
    shorter = Case("", np.ones(7)).operator(HOST)
    with pytest.raises(UsageError, match="another size"):
        next(accel_power(shorter, Request(3, "LA"), AUTO, state=own))
    assert operator.products == shorter.products == 0


def test_the_notes_report_the_momentum_and_the_memory() -> None:
    for which, end in (("LA", "upper"), ("SA", "lower")):
        momentum, memory = next(locally_optimal_block(CASE.operator(HOST), Request(3, which))).notes
        assert momentum.startswith(f"momentum auto: locally optimal at the {end} end")
        assert "this solver holds 20 vectors; `lanczos` needs" in memory


@pytest.mark.parametrize("k", [1, 4])
def test_five_blocks_are_held_during_a_product(vectors_held: Any, k: int) -> None:
    spectrum = np.random.default_rng(0).uniform(-1, 1, 100_000)
    held = vectors_held(lambda operator: locally_optimal_block(operator, Request(k, "LA")), spectrum, 20)
    assert held / (k + 1) <= 5.2
