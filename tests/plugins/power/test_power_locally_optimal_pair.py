"""Locally optimal iteration at both ends for one pair: its cost, and that no wrong end is taken."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.accelerated import accel_power
from eigencore_power.blocks import Block, locally_optimal_update
from eigencore_power.locally_optimal_pair import (
    BOTH_ENDS,
    LocallyOptimalPairState,
    locally_optimal_pair,
)
from eigencore_power.options import AccelPowerOptions
from kit.effort import cases_to_try
from kit.solver_states import iteration_of

HOST = Library("numpy", "float64")
AUTO = AccelPowerOptions()
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)


def diagonal(spectrum: Any) -> Case:
    return Case("", np.asarray(spectrum, dtype=np.float64), 1, rotated=False)


def gapped(gap: float, *, both_signs: bool, n: int = 2000) -> Case:
    return diagonal([1.0, *np.linspace((gap - 1) * both_signs, 1 - gap, n - 1)])


def power_products(case: Case, beta: float, tol: float, seed: int, most: int = 20_000) -> int:
    """Products of w+ = A w - beta w_before with a single vector, until its residual passes."""
    rng = np.random.default_rng(seed)
    w, before = rng.standard_normal(case.n), np.zeros(case.n)
    w /= np.linalg.norm(w)
    for products in range(1, most):
        Aw = case.spectrum * w
        if np.linalg.norm(Aw - (w @ Aw) * w) <= tol * abs(w @ Aw):
            return products
        w, before = Aw - beta * before, w
        size = np.linalg.norm(w)
        w, before = w / size, before / size
    raise AssertionError("power iteration has not converged")


@pytest.mark.parametrize("both_signs", [False, True])
@pytest.mark.parametrize("gap", [0.1, 0.01])
def test_products_against_plain_power_and_the_best_momentum(drive: Any, gap: float, both_signs: bool) -> None:
    case = gapped(gap, both_signs=both_signs)
    ours, plain, best = [], [], []
    for seed in range(3):
        answer = drive(accel_power, case.operator(HOST), Request(1, tol=1e-6, seed=seed), AUTO)
        assert answer.passed
        assert answer.last.values[0] == pytest.approx(1, abs=1e-6)
        ours.append(answer.products)
        plain.append(power_products(case, 0.0, 1e-6, seed))
        best.append(
            min(power_products(case, (part * (1 - gap) / 2) ** 2, 1e-6, seed) for part in (0.98, 0.99, 1.0))
        )
    assert np.median(ours) <= 1.4 * np.median(best)
    if gap == 0.01:
        assert 8 * np.median(ours) <= np.median(plain)


@pytest.mark.slow
@pytest.mark.parametrize("second", [-9.8, -9.98])
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-6])
def test_the_wrong_end_is_never_reported_as_converged_in_many_runs(
    drive: Any, second: float, tol: float
) -> None:
    for seed in range(cases_to_try(60)):
        rng = np.random.default_rng(seed)
        case = diagonal([10, second, *rng.uniform(-9, 9, 300)])
        answer = drive(accel_power, case.operator(HOST), Request(1, tol=tol, seed=seed), AUTO, most=1000)
        assert answer.passed
        assert answer.last.values[0] == pytest.approx(10, abs=10 * tol)


def test_one_end_alone_would_be_wrong(drive: Any) -> None:
    """The end that leads after 5 products is the wrong one in many runs."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        case = diagonal([10, -9.98, *rng.uniform(-9, 9, 300)])
        last = list(islice(locally_optimal_pair(case.operator(HOST), Request(1, seed=seed)), 5))[-1]
        wrong += int(last.values[0] < 0)
    assert 5 < wrong < 35


@pytest.mark.parametrize("gap", [0.1, 0.01])
def test_a_tie_of_opposite_signs_converges(drive: Any, gap: float) -> None:
    case = diagonal([1.0, -1.0, *np.linspace(gap - 1, 1 - gap, 1998)])
    for seed in range(3):
        answer = drive(accel_power, case.operator(HOST), Request(1, tol=1e-6, seed=seed), AUTO)
        assert answer.passed
        assert abs(answer.last.values[0]) == pytest.approx(1, abs=1e-6)
        assert answer.products <= {0.1: 80, 0.01: 250}[gap]


@LIBRARIES
def test_the_span_stays_orthonormal_with_its_products(library: Library) -> None:
    """After 300 products, long past convergence: in units of rounding."""
    case = Case("", filled(150, [3.0, -2.9, 2.5]), 1)
    operator = case.operator(library)
    state = iteration_of(list(islice(locally_optimal_pair(operator, Request(1)), 300))[-1])
    X, AX = (arrays.to_host(part) for part in (state.block.X, state.block.AX))
    exact = case.exact(library).matmat(np.ascontiguousarray(X.T)).T / state.scale
    assert X.shape[0] in (2, 3, 4)
    assert np.allclose(X @ X.T, np.eye(len(X)), atol=20 * library.eps)
    assert np.allclose(AX, exact, atol=200 * library.eps)


def test_an_update_keeps_both_ends_and_the_previous_vectors() -> None:
    """The Ritz vectors of the upper and the lower end come first; the previous ones are still in the span."""
    operator = Case("", filled(30, [3.0, -2.0])).operator(HOST)
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((30, 5)))[0].T
    span, fresh = (Block(part, operator.matmat(part.T).T) for part in (X[:4], X[4:]))
    after = locally_optimal_update(operator, (span, fresh), BOTH_ENDS)
    H = after.X @ after.AX.T
    values = np.linalg.eigvalsh(X @ operator.matmat(X.T))
    assert np.allclose([H[0, 0], H[1, 1]], [values[-1], values[0]])
    assert abs(H[0, 1]) < 1e-12
    assert np.allclose(after.AX, operator.matmat(after.X.T).T)
    for previous in span.X[:2]:
        assert np.linalg.norm(after.X @ previous) == pytest.approx(1)


def test_resuming_from_a_state_is_as_if_it_had_never_stopped() -> None:
    case = Case("", filled(200, [10, -9.5, 8]), 1)
    whole = list(islice(locally_optimal_pair(case.operator(HOST), Request(1)), 40))
    first = list(islice(locally_optimal_pair(case.operator(HOST), Request(1)), 13))
    rest = islice(locally_optimal_pair(case.operator(HOST), Request(1), state=iteration_of(first[-1])), 27)
    for one, other in zip(whole[13:], rest, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.vectors(), other.vectors())


def test_a_start_vector_is_used(drive: Any) -> None:
    case = Case("", filled(200, [10, -9.5, 8]), 1)
    cold = drive(accel_power, case.operator(HOST), Request(1, tol=1e-8), AUTO)
    start = cold.last.vectors()
    warm = drive(accel_power, case.operator(HOST), Request(1, tol=1e-6, start=start), AUTO)
    assert warm.passed
    assert warm.products < cold.products / 2


def test_a_snapshot_for_each_product_with_notes() -> None:
    operator = Case("", filled(50, [10, -9.5, 8]), 1).operator(HOST)
    for products, _ in enumerate(islice(locally_optimal_pair(operator, Request(1)), 12), start=1):
        assert operator.products == products
    momentum, memory = list(islice(locally_optimal_pair(operator, Request(1)), 40))[-1].notes
    assert "both ends, with Ritz values 10 and -9.5" in momentum
    assert "this solver holds 9 vectors; `lanczos` needs" in memory


def test_nine_vectors_are_held_during_a_product(vectors_held: Any) -> None:
    spectrum = np.random.default_rng(0).uniform(-1, 1, 100_000)
    assert vectors_held(lambda operator: locally_optimal_pair(operator, Request(1)), spectrum, 20) <= 9.2


def test_the_state_of_another_method_is_rejected_before_any_product() -> None:
    operator = Case("", filled(50, [3.0]), 1).operator(HOST)
    state = next(accel_power(Case("", filled(50, [3.0])).operator(HOST), Request(2), AUTO)).state
    with pytest.raises(UsageError, match="expected LocallyOptimalPairState"):
        next(accel_power(operator, Request(1), AUTO, state=state))
    shorter = LocallyOptimalPairState(Block(np.ones((1, 9)), np.ones((1, 9))), 1.0)
    with pytest.raises(UsageError, match="another size"):
        next(accel_power(operator, Request(1), AUTO, state=shorter))
    assert operator.products == 0
