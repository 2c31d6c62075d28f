"""Problems on which solvers missed eigenvalues without a word: every solver is right, or says so."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore import solve
from eigencore.entries import SolverEntry
from eigencore.operators import as_operator
from eigencore.registry import registry
from eigencore.results import EigenResult, Status

SOLVERS = [
    one.entry for one in registry().entries(SolverEntry) if one.plugin.distribution.lower() == "eigencore"
]
SOLVER = pytest.mark.parametrize("solver", [entry.name for entry in SOLVERS])


def diagonal(spectrum: np.ndarray) -> object:
    return as_operator(lambda v: spectrum * v, n=len(spectrum), dtype=np.float64)


def is_right_or_says_so(result: EigenResult, wanted: np.ndarray) -> bool:
    """Right values are within twice the tolerance of the wanted ones."""
    assert result.status is Status.CONVERGED
    errors = np.abs(np.sort(result.values) - np.sort(wanted))
    return bool(np.all(errors <= 2.1 * result.tol * np.abs(np.sort(wanted)))) or result.complete is False


@SOLVER
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("n", "top"), [(10_000, 1.05), (100_000, 1.2)])
def test_a_bulk_at_one_value_does_not_hide_the_top(solver: str, k: int, n: int, top: float) -> None:
    spectrum = np.ones(n)
    spectrum[0] = top
    for seed in range(3):
        result = solve(diagonal(spectrum), k, solver=solver, seed=seed, max_matvecs=400)
        assert result.complete
        assert np.allclose(result.values, np.sort(spectrum)[::-1][:k], rtol=2e-3)


def test_copies_that_shift_the_answer_little_are_found() -> None:
    """Each copy alone shifts the answer by less than twice the tolerance; all together, by far more."""
    rng = np.random.default_rng(0)
    for copies, k in ((2, 10), (2, 20), (4, 20)):
        top = np.repeat(10 * (1 - 0.0015 * np.arange(60)), copies)[:200]
        spectrum = np.sort(np.append(top, rng.uniform(-1, 1, 400 - len(top))))[::-1]
        result = solve(diagonal(spectrum), k, max_matvecs=20000)
        assert is_right_or_says_so(result, spectrum[:k])
        assert np.max(np.abs(result.values - spectrum[:k])) <= 2 * 1e-3 * 10


def test_doubles_of_a_ring() -> None:
    n = 200
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A[0, -1] = A[-1, 0] = -1
    wanted = np.linalg.eigvalsh(A)[::-1][:5]
    for seed in range(3):
        assert is_right_or_says_so(solve(A, 5, which="LA", seed=seed), wanted)


@pytest.mark.parametrize(
    ("spectrum", "k", "tol"),
    [
        (np.geomspace(1e-6, 1, 50), 5, 1e-3),
        (1 / (2 - 2 * np.cos((2 * np.arange(1.0, 65) - 1) * np.pi / 129)), 3, 1e-6),
        (np.linspace(0.0, 1, 256) ** 2, 6, 1e-3),
    ],
    ids=["graded", "min(i, j)", "at zero"],
)
def test_n_products_are_enough_for_a_small_matrix(spectrum: np.ndarray, k: int, tol: float) -> None:
    n = len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    result = solve((Q * spectrum) @ Q.T, k, which="SA", tol=tol)
    assert result.status is Status.CONVERGED
    assert result.complete
    assert result.matvecs - result.certificate.matvecs - result.certificate.complete_matvecs <= n
    assert np.allclose(result.values, np.sort(spectrum)[:k], rtol=2 * tol, atol=1e-12)


@SOLVER
def test_a_warm_start_follows_the_largest_eigenvalue(solver: str) -> None:
    """A second eigenvalue overtakes the first; its eigenvector has no part in that of the first."""
    warm = None
    for step in range(8):
        spectrum = np.concatenate([[2.0 - 0.1 * step, 1.5 + 0.1 * step], np.linspace(-0.5, 0.5, 98)])
        found = solve(diagonal(spectrum), 1, solver=solver, start=warm)
        assert found.complete
        assert np.isclose(found.values[0], spectrum.max(), rtol=2e-3)
        warm = found.vectors


@SOLVER
@pytest.mark.parametrize("k", [1, 3])
def test_a_hostile_start_and_a_resumed_run_are_as_safe_as_a_new_one(solver: str, k: int) -> None:
    spectrum = np.concatenate([[5.0, 5, 4, 3, 2.5], np.linspace(-1, 1, 195)])
    second = np.eye(200)[:, 2]  # the third eigenvector, orthogonal to the first two
    hostile = solve(diagonal(spectrum), k, solver=solver, start=second)
    assert is_right_or_says_so(hostile, spectrum[:k])
    for budget in (6, 9, 12):
        stopped = solve(diagonal(spectrum), k, solver=solver, max_matvecs=budget)
        if stopped.state is not None:
            resumed = solve(diagonal(spectrum), k, solver=solver, state=stopped.state)
            assert is_right_or_says_so(resumed, spectrum[:k])
