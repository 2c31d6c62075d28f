"""Deflation: in a block and one at a time, ties of signs, true residuals, notes about slow convergence."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import UsageError
from eigencore.operators import FunctionOperator
from eigencore.request import Request
from eigencore.testing import solver_checks
from eigencore.testing.checks import Check
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.accelerated import accel_power
from eigencore_power.deflated import deflated_power
from eigencore_power.options import AccelPowerOptions, DeflatedPowerOptions
from kit.solver_states import state_of

HOST = Library("numpy", "float64")
IN_A_BLOCK, ONE_AT_A_TIME = DeflatedPowerOptions(block=True), DeflatedPowerOptions(block=False)
BOTH = pytest.mark.parametrize("options", [IN_A_BLOCK, ONE_AT_A_TIME], ids=["in-a-block", "one-at-a-time"])
CASE = Case("", filled(150, [10, -8, 6, 6, -5]), 4)
BULK = np.linspace(-4, 4, 100)


@pytest.mark.parametrize(
    "check",
    solver_checks(
        "deflated_power",
        libraries=["numpy-float64"],
        known_failures={
            "clustered": "two vectors in a row are nearly parallel there, which costs digits: "
            "values agree with their own vectors only to 1e-12"
        },
        block=False,
    ),
    ids=lambda check: check.__name__,
)
def test_one_at_a_time_conforms_too(check: Check) -> None:
    check()


# -- difficult spectra -------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("top", "k"),
    [
        ([10, -10], 1),
        ([10, -10], 2),
        ([10, 8, -8], 2),
        ([10, 8, 6, -6], 3),
        ([10, 10, -10, -10], 3),
        ([10, 10, 10, 7, 7], 5),
        ([10, 8, 8, 8, 8], 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_ties_do_not_alternate_and_repeated_eigenvalues_are_found(
    drive: Any, options: DeflatedPowerOptions, top: list[float], k: int, seed: int
) -> None:
    case = Case("", np.array([*top, *BULK]), k, rotated=False)
    answer = drive(deflated_power, case.operator(HOST), Request(k, tol=1e-6, seed=seed), options, most=500)
    assert answer.passed
    assert np.allclose(np.abs(answer.last.values), np.abs(case.wanted), rtol=1e-6)


@BOTH
@pytest.mark.parametrize("second", [-9.98, -9.8, 9.8])
def test_the_wrong_end_is_not_taken(options: DeflatedPowerOptions, second: float) -> None:
    for seed in range(15):
        rng = np.random.default_rng(seed)
        case = Case("", np.array([10, second, *rng.uniform(-9, 9, 200)]), 1)
        result = solve(case.operator(HOST), 1, solver="deflated_power", seed=seed, block=options.block)
        assert result.status == "converged"
        if result.complete:
            assert abs(abs(result.values[0]) - 10) <= 0.02


@BOTH
@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_start_without_the_first_eigenvectors_still_finds_them(
    options: DeflatedPowerOptions, k: int
) -> None:
    """The missed directions that the core sends take the place of the weakest pairs."""
    case = Case("", filled(300, [10.0, -9.0, 8.0, 7.0, 6.0, 5.0], -2.0, 2.0), k)
    operator = case.operator(HOST)
    start = np.stack([operator.from_eigenbasis(np.eye(300)[i]) for i in range(2, 2 + k)], axis=1)
    result = solve(operator, k, solver="deflated_power", start=start, block=options.block)
    assert result.complete
    assert np.allclose(result.values, case.wanted, rtol=2e-3)


# -- results are those of A --------------------------------------------------------------------------------


@BOTH
def test_residuals_are_those_of_the_operator_at_every_step(options: DeflatedPowerOptions) -> None:
    """Also those of the found pairs, although the iterates are projected on their complement."""
    A = CASE.exact()
    for snapshot in islice(deflated_power(CASE.operator(HOST), Request(4), options), 80):
        V = snapshot.vectors()
        true = np.linalg.norm(A.matmat(V) - V * snapshot.values, axis=0)
        assert np.allclose(snapshot.residuals, true, atol=1e-12)


def test_one_at_a_time_gives_the_first_pairs_first() -> None:
    snapshots = list(islice(deflated_power(CASE.operator(HOST), Request(4, tol=1e-4), ONE_AT_A_TIME), 160))
    counts = [len(snapshot.values) for snapshot in snapshots]
    assert counts[0] == 1
    assert sorted(set(counts)) == [1, 2, 3, 4]
    assert counts == sorted(counts)
    for snapshot in snapshots[counts.index(2) :]:
        assert snapshot.residuals[0] <= 1e-3


def test_a_block_gives_all_pairs_from_the_start() -> None:
    operator = CASE.operator(HOST)
    for steps, snapshot in enumerate(islice(deflated_power(operator, Request(4), IN_A_BLOCK), 5), start=1):
        assert len(snapshot.values) == 4
        assert operator.products == 4 * steps


@BOTH
def test_it_continues_while_snapshots_are_requested(options: DeflatedPowerOptions) -> None:
    """All pairs pass at tol; further snapshots have residuals far below, for every pair."""
    snapshots = deflated_power(CASE.operator(HOST), Request(4, tol=1e-3), options)
    for snapshot in snapshots:
        if len(snapshot.values) == 4 and np.all(snapshot.residuals <= 1e-3 * np.abs(snapshot.values)):
            break
    finer = list(islice(snapshots, 600))[-1]
    assert np.all(finer.residuals <= 1e-6)
    assert np.allclose(finer.values, CASE.wanted, atol=1e-9)


def test_a_pair_that_cannot_converge_does_not_block_the_others() -> None:
    """With products rounded to three decimals, no pair passes at tol 1e-6; all four are still found."""
    exact = CASE.operator(HOST)
    rough = FunctionOperator(
        exact.matvec,
        CASE.n,
        xp=exact.xp,
        dtype=exact.dtype,
        device="cpu",
        matmat=lambda V: np.round(exact.matmat(V), 3),
    )
    *_, last = islice(deflated_power(rough, Request(4, tol=1e-6), ONE_AT_A_TIME), 2500)
    assert np.allclose(last.values, CASE.wanted, atol=0.05)


# -- slow convergence --------------------------------------------------------------------------------------

SLOW = Case("", filled(500, [1.0], -0.99, 0.99), 1)


@BOTH
def test_slow_convergence_is_reported_with_a_number_and_an_alternative(options: DeflatedPowerOptions) -> None:
    request = Request(1, tol=1e-6)
    snapshots = list(islice(deflated_power(SLOW.operator(HOST), request, options), 1200))
    noted = [(i, snapshot.notes) for i, snapshot in enumerate(snapshots, start=1) if snapshot.notes]
    assert noted
    late = noted[-1][0], noted[-1][1][0]
    assert "`lanczos`" in late[1]
    needed = next(i for i, one in enumerate(snapshots, start=1) if one.residuals[0] <= 1e-6)
    predicted = int(re.search(r"slow convergence: about (\d+) further products", late[1])[1])
    assert predicted == pytest.approx(needed - late[0], rel=0.5)
    advised = solve(SLOW.operator(HOST), 1, solver="lanczos", tol=1e-6, certify="none")
    assert advised.matvecs < needed / 5


@BOTH
def test_there_are_no_notes_if_convergence_is_fast(options: DeflatedPowerOptions) -> None:
    fast = Case("", filled(100, [10.0, 5.0]), 2)
    for snapshot in islice(deflated_power(fast.operator(HOST), Request(2), options), 40):
        assert snapshot.notes == ()


def test_momentum_needs_fewer_products(drive: Any) -> None:
    request = Request(1, tol=1e-6)
    plain = drive(deflated_power, SLOW.operator(HOST), request, IN_A_BLOCK)
    accelerated = drive(accel_power, SLOW.operator(HOST), request, AccelPowerOptions())
    assert accelerated.products < plain.products / 3


# -- start and state ---------------------------------------------------------------------------------------


@BOTH
def test_a_start_block_is_used(drive: Any, options: DeflatedPowerOptions) -> None:
    request = Request(4, tol=1e-6)
    cold = drive(deflated_power, CASE.operator(HOST), request, options, most=10**4)
    warm = drive(
        deflated_power, CASE.operator(HOST), Request(4, tol=1e-6, start=cold.last.vectors()), options
    )
    assert warm.passed
    assert warm.products <= 16


@BOTH
def test_resuming_from_a_state(drive: Any, options: DeflatedPowerOptions) -> None:
    request = Request(4, tol=1e-5)
    whole = drive(deflated_power, CASE.operator(HOST), request, options, most=10**4)
    half = drive(deflated_power, CASE.operator(HOST), request, options, most=whole.products // 2)
    rest = drive(deflated_power, CASE.operator(HOST), request, options, state=state_of(half.last))
    assert rest.passed
    assert half.products + rest.products <= whole.products + 4
    assert np.allclose(rest.last.values, whole.last.values, rtol=1e-8)


@BOTH
def test_invalid_requests_are_rejected_before_any_product(options: DeflatedPowerOptions) -> None:
    operator = CASE.operator(HOST)
    other = ONE_AT_A_TIME if options.block else IN_A_BLOCK
    state = state_of(next(deflated_power(CASE.operator(HOST), Request(4), other)))
    with pytest.raises(UsageError, match="finds LM only"):
        deflated_power(operator, Request(4, "LA"), options)
    with pytest.raises(UsageError, match="from another method; expected"):
        deflated_power(operator, Request(4), options, state=state)
    assert operator.products == 0


@BOTH
@pytest.mark.parametrize("library", installed(), ids=str)
def test_the_vectors_are_orthonormal(drive: Any, library: Library, options: DeflatedPowerOptions) -> None:
    answer = drive(deflated_power, CASE.operator(library), Request(4), options)
    assert answer.passed
    V = arrays.to_host(answer.last.vectors())
    assert np.allclose(V.T @ V, np.eye(4), atol=200 * library.eps)
