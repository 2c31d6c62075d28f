"""Momentum: its rate against theory, its automatic choice and upper bound, and spectra of both signs."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import OptionError, UsageError
from eigencore.options import resolve
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.accelerated import accel_power
from eigencore_power.options import AccelPowerOptions
from kit.power_recurrence import power_products
from kit.solver_states import iteration_of, state_of

HOST = Library("numpy", "float64")
AUTO = AccelPowerOptions()
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)


def solved(
    drive: Any, spectrum: Any, k: int, options: AccelPowerOptions = AUTO, *, most: int = 3000, **keywords: Any
) -> Any:
    """The run of the solver; if it passed, its values are checked against the spectrum."""
    case = Case("", np.asarray(spectrum, dtype=np.float64), k, rotated=False)
    request = Request(k, **({"tol": 1e-6} | keywords))
    answer = drive(accel_power, case.operator(HOST), request, options, most=most)
    if answer.passed:
        off = np.abs(np.abs(answer.last.values) - np.abs(case.wanted))
        assert np.all(off <= 2 * request.tol * np.abs(case.wanted[0])), (answer.last.values, case.wanted)
    return answer


def gapped(gap: float, *, k: int = 1, both_signs: bool = False, n: int = 400) -> Any:
    """k eigenvalues, the least of them 1, over a bulk that is dense up to its end at 1 - gap."""
    return filled(n, 1 + 0.1 * np.arange(k)[::-1], (gap - 1) * both_signs, 1 - gap)


# -- the rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.1, 0.15, 0.2025, 0.22, 0.245])
def test_the_error_falls_by_the_factor_of_the_theory(beta: float) -> None:
    """Eigenvalues 1 and nine times 0.9, as in the paper: by mu(0.9) / mu(1), least at beta = (0.9 / 2)^2."""

    def mu(size: float) -> float:
        return (size + math.sqrt(size**2 - 4 * beta)) / 2 if size**2 > 4 * beta else math.sqrt(beta)

    case = Case("paper", np.array([1.0, *[0.9] * 9]), 1, rotated=False)
    wanted = case.operator(HOST).from_eigenbasis(np.eye(10)[0])
    tangents = []
    for snapshot in islice(accel_power(case.operator(HOST), Request(1), AccelPowerOptions(beta)), 200):
        X = iteration_of(snapshot).block.X  # the iterate; the Ritz vector of two blocks is exact here at once
        inside = X @ wanted
        tangents.append(np.linalg.norm(wanted - X.T @ inside) / np.linalg.norm(inside))
    steps = [i for i in range(10, 200) if 1e-11 < tangents[i] < 1]
    slope = np.polyfit(steps, np.log([tangents[i] for i in steps]), 1)[0]
    assert len(steps) > 40
    assert math.exp(slope) == pytest.approx(mu(0.9) / mu(1), abs=0.02)


def test_given_momentum_costs_what_the_recurrence_of_the_paper_costs() -> None:
    """1 over linspace(0, 0.95), tol 1e-3: in the median of 20 runs, the paper takes 30.5 products."""
    spectrum, beta = np.append(1.0, np.linspace(0, 0.95, 999)), (0.95 / 2) ** 2
    papers, ours = [], []
    for seed in range(10):
        start = arrays.generator(seed, "start").standard_normal(len(spectrum))  # as `solve` draws it
        papers.append(power_products(spectrum, start, beta, 1e-3, most=1000))
        result = solve(
            np.diag(spectrum),
            1,
            solver="accel_power",
            momentum=beta,
            complete=None,
            certify="none",
            seed=seed,
        )
        assert result.status == "converged"
        ours.append(result.matvecs)
    assert np.all(np.array(ours) <= papers)
    assert np.median(ours) <= 33


def test_momentum_at_a_quarter_of_the_square_does_not_converge(drive: Any) -> None:
    """At (l_1 / 2)^2 and above, all eigenvalues are damped alike; the notes recommend a smaller momentum."""
    answer = solved(drive, gapped(0.1), 1, AccelPowerOptions(0.3), most=1000)
    assert not answer.passed
    assert "including the wanted" in answer.last.notes[0]
    assert "set momentum below" in answer.last.notes[0]
    assert solved(drive, gapped(0.1), 1, AccelPowerOptions(0.2)).passed


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("both_signs", [False, True])
def test_the_products_grow_with_the_root_of_the_gap(drive: Any, k: int, both_signs: bool) -> None:
    """A thirtieth of the gap costs power iteration up to 30 times the products, and momentum 5.5 times."""
    plain, auto = (
        [
            solved(drive, gapped(gap, k=k, both_signs=both_signs), k, options, most=10**5, tol=1e-5).products
            for gap in (0.3, 0.01)
        ]
        for options in (AccelPowerOptions(0.0), AUTO)
    )
    assert plain[1] > 12 * plain[0]
    assert auto[1] < 6 * auto[0]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("gap", [0.1, 0.01])
@pytest.mark.parametrize("both_signs", [False, True])
def test_the_automatic_momentum_is_nearly_as_good_as_the_best(
    drive: Any, k: int, gap: float, both_signs: bool
) -> None:
    spectrum = gapped(gap, k=k, both_signs=both_signs)
    beyond = np.sort(np.abs(spectrum))[::-1][k]
    best = min(
        solved(drive, spectrum, k, AccelPowerOptions((part * beyond / 2) ** 2)).products
        for part in (0.97, 0.99, 1.0)
    )
    assert solved(drive, spectrum, k).products <= 1.2 * best


def block_products(spectrum: Any, k: int, beta: float, tol: float, seed: int, most: int = 20_000) -> int:
    """Products of W = A X - beta X_before with k vectors and Rayleigh-Ritz, until all k residuals pass."""
    n, A = len(spectrum), spectrum[:, None]
    X = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))[0]
    before = np.zeros((n, k))
    for products in range(k, most, k):
        AX = A * X
        values, Y = np.linalg.eigh(X.T @ AX)
        if np.all(np.linalg.norm(AX @ Y - X @ Y * values, axis=0) <= tol * np.abs(values)):
            return products
        following, R = np.linalg.qr(AX - beta * before)
        X, before = following, np.linalg.solve(R.T, X.T).T
    raise AssertionError("power iteration has not converged")


@pytest.mark.parametrize("gap", [0.1, 0.01])
@pytest.mark.parametrize("both_signs", [False, True])
def test_five_pairs_against_plain_power_and_the_best_momentum_with_five_vectors(
    drive: Any, gap: float, both_signs: bool
) -> None:
    """Against Rayleigh-Ritz on the block alone, as in the paper, with its best momentum."""
    spectrum = gapped(gap, k=5, both_signs=both_signs, n=2000)
    ours, plain, best = [], [], []
    for seed in range(3):
        ours.append(solved(drive, spectrum, 5, seed=seed).products)
        plain.append(block_products(spectrum, 5, 0.0, 1e-6, seed) if gap == 0.01 else math.inf)
        best.append(
            min(
                block_products(spectrum, 5, (part * (1 - gap) / 2) ** 2, 1e-6, seed)
                for part in (0.98, 0.99, 1.0)
            )
        )
    assert np.median(ours) <= 1.15 * np.median(best)
    assert 7 * np.median(ours) <= np.median(plain)


@pytest.mark.parametrize("library", [Library("numpy", "float64"), Library("numpy", "float32")], ids=str)
def test_the_automatic_momentum_is_never_too_large(library: Library) -> None:
    """beta stays below (l_{k+1} / 2)^2, as interlacing implies, and comes near it."""
    near = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(2, 6))
        case = Case("", np.concatenate([rng.normal(0, 4, 12), rng.normal(0, 1, 100)]), k)
        limit = np.sort(np.abs(case.spectrum))[::-1][k]
        for snapshot in islice(accel_power(case.operator(library), Request(k, seed=seed), AUTO), 60):
            state = iteration_of(snapshot)
            edge = state.edge * state.iterate.scale
            assert edge <= limit * (1 + math.sqrt(library.eps))
        near.append(edge / limit)
    assert np.median(near) > 0.95


# -- difficult spectra -------------------------------------------------------------------------------------

BULK = np.linspace(-4, 4, 100)


@pytest.mark.parametrize(
    ("top", "k", "products"),
    [
        ([10, -10], 1, 120),
        ([10, -10], 2, 40),
        ([10, 8, -8], 2, 50),
        ([10, 10, -10, -10], 1, 120),
        ([10, 10, -10, -10], 2, 240),
        ([10, 10, 10, -10, -10, -10, 6], 4, 100),
        ([10, 10, 8, 8, 8, 5], 3, 120),
        ([10, 8, 8, 8, 8, 8], 2, 60),
        ([10.001, 10, 10, 9.999, -9.999], 3, 330),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_ties_and_repeated_eigenvalues_converge_wherever_the_block_ends(
    drive: Any, top: list[float], k: int, products: int, seed: int
) -> None:
    answer = solved(drive, [*top, *BULK], k, seed=seed, most=products)
    assert answer.passed


@pytest.mark.parametrize("second", [-9.98, -9.8, 9.8, 9.98])
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_the_wrong_end_is_not_taken(second: float, tol: float) -> None:
    """At times, the solver's pair converges first at the other end, or at the smaller of two values."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        spectrum = np.array([10, second, *rng.uniform(-9, 9, 300)])
        operator = Case("", spectrum, 1, rotated=False).operator(HOST)
        result = solve(operator, 1, solver="accel_power", tol=tol, seed=seed)
        assert result.status == "converged"
        if result.complete:
            assert abs(abs(result.values[0]) - 10) <= 2 * tol * 10


def test_missed_directions_join_the_block() -> None:
    """The exact eigenvectors of the others pass at once; the missed ones then lead."""
    case = Case("", filled(300, [10.0, -9.0, 8.0, 7.0], -2.0, 2.0), 2)
    operator = case.operator(HOST)
    exact = np.stack([operator.from_eigenbasis(np.eye(300)[i]) for i in range(4)], axis=1)
    snapshots = accel_power(operator, Request(2, start=exact[:, 2:]), AUTO)
    assert np.allclose(next(snapshots).values, [8, 7])
    rough = exact[:, :2] + 0.1 * np.random.default_rng(0).standard_normal((300, 2)) / np.sqrt(300)
    spent = operator.products
    both = snapshots.send(rough / np.linalg.norm(rough, axis=0))
    assert operator.products == spent + 2
    assert np.allclose(both.values, [10, -9], atol=0.2)
    *_, last = islice(snapshots, 40)
    assert np.allclose(last.values, [10, -9], atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_start_without_the_first_eigenvectors_still_finds_them(k: int) -> None:
    case = Case("", filled(300, [10.0, -9.9, 8.0, 7.0, 6.0, 5.0], -2.0, 2.0), k)
    operator = case.operator(HOST)
    start = np.stack([operator.from_eigenbasis(np.eye(300)[i]) for i in range(2, 2 + k)], axis=1)
    result = solve(operator, k, solver="accel_power", start=start)
    assert result.complete
    assert np.allclose(result.values, case.wanted, rtol=2e-3)


@LIBRARIES
@pytest.mark.parametrize(
    ("spectrum", "k"),
    [
        (np.zeros(20), 2),
        (filled(40, [3.0], 0.0, 0.0), 1),
        (filled(40, [3.0], 0.0, 0.0), 3),
        (np.array([-2.0]), 1),
        (np.array([2.0, -2.0]), 2),
        (np.array([3.0, -3.0, 1.0, 0.0]), 4),
        (1e30 * filled(60, [9, -8, 5]), 3),
        (1e-30 * filled(60, [9, -8, 5]), 3),
    ],
    ids=["zero", "rank-one", "rank-one-and-zeros", "n-is-1", "n-is-2", "k-is-n", "1e30", "1e-30"],
)
def test_extremes(drive: Any, library: Library, spectrum: Any, k: int) -> None:
    case = Case("", spectrum, k)
    answer = drive(accel_power, case.operator(library), Request(k), AUTO)
    assert answer.passed
    assert np.allclose(np.abs(answer.last.values), np.abs(case.wanted), rtol=2e-3, atol=1e-4 * case.norm)
    V = arrays.to_host(answer.last.vectors())
    assert np.allclose(V.T @ V, np.eye(k), atol=1e3 * library.eps)


# -- start, state, notes -----------------------------------------------------------------------------------

CASE = Case("", filled(200, [10, -8, 6, 5]), 3)


def test_a_block_costs_its_columns_and_gives_one_snapshot() -> None:
    operator = CASE.operator(HOST)
    for steps, _ in enumerate(islice(accel_power(operator, Request(3), AUTO), 5), start=1):
        assert operator.products == 3 * steps


def test_a_start_block_is_used(drive: Any) -> None:
    operator, request = CASE.operator(HOST), Request(3, tol=1e-6)
    cold = drive(accel_power, operator, request, AUTO)
    V = cold.last.vectors()
    for start, most in ((V, 6), (V[:, :1], cold.products + 6), (np.hstack([V, V]), 6)):
        warm = drive(accel_power, operator, Request(3, tol=1e-6, start=start), AUTO)
        assert warm.passed
        assert warm.products <= most
    one = drive(accel_power, operator, Request(1, start=V[:, 0]), AUTO)
    assert one.products == 1


def test_resuming_from_a_state_is_as_if_it_had_never_stopped() -> None:
    request = Request(3)
    whole = list(islice(accel_power(CASE.operator(HOST), request, AUTO), 9))
    first = list(islice(accel_power(CASE.operator(HOST), request, AUTO), 4))
    rest = islice(accel_power(CASE.operator(HOST), request, AUTO, state=state_of(first[-1])), 5)
    for one, other in zip(whole[4:], rest, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.vectors(), other.vectors())


def test_a_state_can_be_used_for_another_number_of_pairs(drive: Any) -> None:
    done = drive(accel_power, CASE.operator(HOST), Request(3, tol=1e-8), AUTO)
    fewer = drive(accel_power, CASE.operator(HOST), Request(2), AUTO, state=state_of(done.last))
    assert fewer.passed
    assert fewer.products == 2


def test_invalid_requests_are_rejected_before_any_product() -> None:
    operator = CASE.operator(HOST)
    state = state_of(next(accel_power(CASE.operator(HOST), Request(3), AUTO)))
    for which in ("LA", "SA", "BE"):
        with pytest.raises(UsageError, match=f"which is {which}; accel_power finds LM only") as error:
            next(accel_power(operator, Request(3, which), AUTO))
        assert "lobpcg" in str(error.value)
        with pytest.raises(UsageError, match=f"which is {which}; accel_power finds LM only") as error:
            solve(operator, 3, solver="accel_power", which=which)
        assert "lobpcg" in str(error.value)
    with pytest.raises(UsageError, match="expected AccelPowerState"):
        next(accel_power(operator, Request(3), AUTO, state=state.iterate))
    assert operator.products == 0


def test_options_from_the_command_line() -> None:
    assert resolve(AccelPowerOptions, {"momentum": "auto"}, entry="accel_power").momentum == "auto"
    assert resolve(AccelPowerOptions, {"momentum": "2.5"}, entry="accel_power").momentum == 2.5
    for wrong in (-1, "fast", None):
        with pytest.raises(OptionError, match="momentum"):
            resolve(AccelPowerOptions, {"momentum": wrong}, entry="accel_power")
    with pytest.raises(OptionError, match="epoch"):  # an epoch of one step would use no minibatch
        resolve(AccelPowerOptions, {"batches": 1, "epoch": 1}, entry="accel_power")


@pytest.mark.parametrize(
    "options",
    [
        AccelPowerOptions(variance_reduction=False),
        AccelPowerOptions(epoch=5),
        AccelPowerOptions(0.1, epoch=5),
    ],
    ids=str,
)
def test_options_without_effect_are_refused_before_any_product(options: AccelPowerOptions) -> None:
    operator = CASE.operator(HOST)
    with pytest.raises(OptionError, match="it has no effect without"):
        next(accel_power(operator, Request(3), options))
    assert operator.products == 0


def test_the_notes_report_the_momentum_and_that_lanczos_needs_fewer_products(drive: Any) -> None:
    answer = solved(drive, gapped(0.1, k=2), 2)
    momentum, memory = answer.last.notes
    edge = float(momentum.split(" up to ")[1].split()[0])
    assert 0.8 < edge <= 0.9
    assert float(momentum.split()[1].rstrip(",")) == pytest.approx((edge / 2) ** 2, rel=1e-3)
    assert "found during the run: |eigenvalues| up to" in momentum
    assert "this solver holds 10 vectors; `lanczos` needs" in memory
    fixed = solved(drive, gapped(0.1), 1, AccelPowerOptions(0.16))
    assert fixed.last.notes[0] == "momentum 0.16, as given: |eigenvalues| up to 0.8 are damped"


def test_momentum_is_in_squared_units_of_the_eigenvalues(drive: Any) -> None:
    """s A with s^2 beta gives the same steps as A with beta."""
    one = solved(drive, gapped(0.1), 1, AccelPowerOptions(0.2))
    other = solved(drive, 2.0**20 * gapped(0.1), 1, AccelPowerOptions(0.2 * 2.0**40))
    assert one.products == other.products
    assert np.array_equal(one.last.values * 2.0**20, other.last.values)


@pytest.mark.parametrize("k", [1, 4])
def test_five_blocks_are_held_during_a_product(vectors_held: Any, k: int) -> None:
    spectrum = filled(100_000, 1 + np.arange(6.0))
    held = vectors_held(lambda operator: accel_power(operator, Request(k), AUTO), spectrum, 8)
    assert held / k <= 5.2
