"""Lanczos: the invariant of its basis, its results, the effect of its options, and its cost."""

from __future__ import annotations

import itertools
import pickle
from functools import partial
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch

from eigencore import arrays, solve
from eigencore.errors import OptionError, UsageError
from eigencore.interfaces import LinearOperator
from eigencore.operators import as_operator
from eigencore.request import Request
from eigencore.results import Status
from eigencore.testing.gallery import cases
from eigencore.testing.libraries import Library
from eigencore_krylov.basis import Basis
from eigencore_krylov.lanczos import LanczosOptions, basis_size, lanczos, restart, ritz, vectors_held
from eigencore_krylov.state import WholeBasis, basis_of, state_of
from eigencore_torch.allocations import allocation
from kit.read_only import read_only_operator

N = 80
SPECTRUM = np.concatenate([[50.0, 41, -33, 20, 11, -9], np.linspace(-3, 3, N - 6)])


def matrix(spectrum: np.ndarray, seed: int = 0) -> np.ndarray:
    n = len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    A = (Q * spectrum) @ Q.T
    return (A + A.T) / 2


def random_start(operator: LinearOperator, width: int | None = None, seed: int = 0) -> Any:
    shape = (operator.shape[0],) if width is None else (operator.shape[0], width)
    return arrays.random_normal(np.random.default_rng(seed), shape, operator)


A = matrix(SPECTRUM)
LIBRARIES = {
    "numpy-float64": lambda A: A,
    "numpy-float32": lambda A: A.astype(np.float32),
    "strict-float64": array_api_strict.asarray,
    "torch-float64": torch.as_tensor,
    "torch-float32": lambda A: torch.as_tensor(A, dtype=torch.float32),
}


def assert_invariant(basis: Basis, A: np.ndarray, eps: float) -> None:
    """A V' = V' T + P' C' with [V P] orthonormal, in units of eps ||A||."""
    j, p = basis.size, basis.pending
    rows = arrays.to_host(basis.rows)
    V, P = rows[:j], rows[j : j + p]
    unit = 60 * eps * max(np.linalg.norm(A, 2), 1e-300)
    error = A @ V.T - V.T @ basis.T - P.T @ basis.C.T
    assert np.abs(error).max(initial=0.0) <= unit
    assert np.abs(rows[: j + p] @ rows[: j + p].T - np.eye(j + p)).max(initial=0.0) <= 60 * eps
    assert np.allclose(basis.T, basis.T.T)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("width", [1, 3])
def test_the_invariant_after_every_step(library: str, width: int) -> None:
    operator = as_operator(LIBRARIES[library](A))
    dense, eps = arrays.to_host(operator.matmat(arrays.from_host(np.eye(N), operator))), arrays.eps(operator)
    request = Request(4)
    basis = Basis.from_start(operator, random_start(operator, width), 12)
    assert basis.pending == width
    for step in range(40):
        basis.expand(operator.matvec, step % basis.pending)
        assert_invariant(basis, dense, eps)
        if basis.size == 12:
            before = ritz(basis, request)
            pairs, dropped = restart(basis, before, request, 7)
            assert np.array_equal(np.sort([*dropped, *np.diag(basis.T)]), np.sort(before.values))
            assert basis.size == 7
            assert_invariant(basis, dense, eps)
            V = arrays.to_host(basis.rows)[:7]
            true = np.linalg.norm(dense @ V.T - V.T * np.diag(basis.T), axis=0)
            estimates = np.linalg.norm(basis.C.T, axis=0)
            assert np.allclose(true, estimates, rtol=1e-3, atol=100 * eps * 50)
            assert np.allclose(pairs.residuals, estimates[:4])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_invariant_with_directions_that_were_missed(library: str) -> None:
    operator = as_operator(LIBRARIES[library](A))
    dense, eps = arrays.to_host(operator.matmat(arrays.from_host(np.eye(N), operator))), arrays.eps(operator)
    basis = Basis.from_start(operator, random_start(operator), 20)
    for _ in range(6):
        basis.expand(operator.matvec, 0)
    assert basis.one_chain
    assert basis.add_missed(random_start(operator, seed=1)) == 1
    assert basis.add_missed(random_start(operator, seed=2)) == 2
    assert not basis.one_chain
    for index in (1, 1, 0, 2, 1):
        basis.expand(operator.matvec, index)
        assert_invariant(basis, dense, 10 * eps)
    assert basis.add_missed(basis.rows[basis.size + 1, :]) == 1  # it is pending already
    assert basis.pending == 3


def test_a_single_gram_schmidt_pass_is_not_enough() -> None:
    """Known couplings, then one full pass, keep the basis orthogonal where a single full pass does not."""
    low = matrix(np.concatenate([[1.0, 0.5, 0.2], np.zeros(N - 3)]) + 1e-7 * np.arange(N))
    operator = as_operator(low.astype(np.float32))
    basis = Basis.from_start(operator, random_start(operator), 40)
    bare = [np.array(basis.rows[0, :])]
    for _ in range(25):
        basis.expand(operator.matvec, 0)
        w = low.astype(np.float32) @ bare[-1]
        w = w - (np.array(bare) @ w) @ np.array(bare)
        bare.append(w / np.linalg.norm(w))
    ours = np.array(basis.rows[:25, :], dtype=float)
    theirs = np.array(bare[:25], dtype=float)
    assert np.abs(ours @ ours.T - np.eye(25)).max() < 3e-6
    assert np.abs(theirs @ theirs.T - np.eye(25)).max() > 1e-4


def test_a_breakdown_leaves_nothing_pending_and_the_solve_continues() -> None:
    spectrum = np.array([7.0] * 3 + [2.0] * (N - 3))
    A = matrix(spectrum)
    basis = Basis.from_start(as_operator(A), random_start(as_operator(A)), 20)
    assert basis.expand(lambda v: A @ v, 0) > 0.1
    assert basis.expand(lambda v: A @ v, 0) == 0
    assert basis.pending == 0
    assert np.allclose(np.linalg.eigvalsh(basis.T), [2, 7])
    result = solve(A, 4)
    assert np.allclose(result.values, [7, 7, 7, 2])
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
@pytest.mark.parametrize("library", LIBRARIES)
def test_right_at_every_end(library: str, k: int, which: str) -> None:
    result = solve(LIBRARIES[library](A), k, which=which, tol=1e-5)
    exact = SPECTRUM[Request(k, which).order(SPECTRUM)]
    assert result.status is Status.CONVERGED
    # Sorted, because rounding decides which of 3 and -3 comes first.
    assert np.allclose(np.sort(result.values), np.sort(exact), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("spectrum", "k"),
    [
        ([20, 20, 15, 14, 13, 12], 5),
        ([20, 20, 20, 15, 15, 12], 6),
        ([9, -9, 9, -9, 5, 4], 5),
        ([30, 12, 12, 12, 7, 7], 5),
    ],
)
def test_repeated_eigenvalues_are_found(spectrum: list[float], k: int) -> None:
    full = np.concatenate([spectrum, np.linspace(-2, 2, 300)])
    exact = np.sort(full[Request(k).order(full)])
    for seed in range(30):
        result = solve(matrix(full, seed), k, seed=seed)
        assert result.status is Status.CONVERGED
        assert result.complete
        assert np.allclose(np.sort(result.values), exact, rtol=1e-3)  # 99 %: one in a hundred may differ


def test_without_completeness_repeated_eigenvalues_are_missed_and_it_costs_less() -> None:
    full = np.concatenate([[20.0, 20, 15, 14, 13, 12], np.linspace(-2, 2, 300)])
    complete, bare = solve(matrix(full), 5), solve(matrix(full), 5, complete=None)
    assert bare.matvecs < complete.matvecs
    assert not np.allclose(bare.values, complete.values, rtol=1e-3)
    assert bare.complete is None
    assert bare.certificate.not_proved == "that no eigenvalue larger in magnitude was missed"


def test_completeness_takes_no_chain_where_no_repeat_would_change_the_answer() -> None:
    near_ties = np.concatenate([[9.0, 8.999, 8.998], np.linspace(-1, 1, 277)])
    for k, spectrum in ((1, np.append(SPECTRUM, np.zeros(220))), (3, near_ties)):
        result = solve(matrix(spectrum), k)
        assert result.complete
        assert result.certificate.complete_matvecs == 0


def test_the_evidence_is_the_recurrence_of_the_vectors_that_are_multiplied() -> None:
    """|u'v| of each vector, through restarts, is |p(t)| |u'v_0| for every eigenvector u."""
    spectrum = np.concatenate([[9.0, 7, 6], np.linspace(-2, 2, 297)])
    multiplied: list[np.ndarray] = []

    def product(v: np.ndarray) -> np.ndarray:
        multiplied.append(v.copy())
        return spectrum * v

    operator = as_operator(product, n=300, dtype=np.float64)
    start = random_start(operator)
    start /= np.linalg.norm(start)
    log_p, level, dropped = [np.zeros(300)], 0.0, np.zeros(0)
    snapshots = lanczos(operator, Request(3, tol=1e-12, start=start), LanczosOptions(basis=9))
    for snapshot in itertools.islice(snapshots, 45):
        evidence = snapshot.evidence
        assert evidence is not None
        assert evidence.coupling is not None
        dropped = np.concatenate([dropped, evidence.dropped])
        level += np.log(evidence.coupling)
        zeros = np.concatenate([evidence.ritz, dropped])
        with np.errstate(divide="ignore"):
            row = np.sum(np.log(np.abs(spectrum[:, None] - zeros)), axis=1) - level
        if len(multiplied) == len(log_p):
            log_p.append(row)
        else:
            assert np.allclose(row[3:], log_p[-1][3:], atol=1e-6)  # a restart changes nothing
    assert snapshot.restarts > 3
    for v, row in zip(multiplied, log_p, strict=False):
        parts = np.abs(v / start)
        sharp = parts > 1e-2
        assert np.allclose(np.exp(row)[sharp], parts[sharp], rtol=1e-4)


def test_a_warm_start_from_a_block_is_right_and_cheaper() -> None:
    cold = solve(A, 5, tol=1e-4)
    rng = np.random.default_rng(5)
    near = A + 1e-3 * matrix(np.linspace(-50, 50, N), 9)
    warm = solve(near, 5, tol=1e-3, start=cold.vectors)
    again = solve(near, 5, tol=1e-3)
    assert np.allclose(warm.values, again.values, rtol=1e-3)
    assert warm.matvecs < again.matvecs
    single = solve(near, 5, start=rng.standard_normal(N))
    assert np.allclose(single.values, again.values, rtol=1e-3)


def test_a_start_block_with_dependent_columns() -> None:
    x = np.random.default_rng(0).standard_normal(N)
    result = solve(A, 3, start=np.stack([x, 2 * x, x], axis=1))
    assert np.allclose(result.values, [50, 41, -33], rtol=1e-3)


def test_a_start_in_an_invariant_subspace_still_finds_the_top() -> None:
    result = solve(np.diag(SPECTRUM), 3, start=np.eye(N)[:, 3])
    assert np.allclose(result.values, [50, 41, -33], rtol=1e-3)


def test_resuming_from_a_state_is_as_if_it_had_never_stopped() -> None:
    options = {"tol": 1e-8, "certify": "none", "complete": None}
    whole = solve(A, 5, **options)
    part = solve(A, 5, **options, max_matvecs=13)
    assert part.status is Status.BUDGET
    rest = solve(A, 5, **options, state=part.state)
    assert part.matvecs + rest.matvecs == whole.matvecs
    assert np.allclose(rest.values, whole.values, rtol=1e-12)
    with pytest.raises(UsageError, match="state is a ndarray; expected the state of a result"):
        solve(A, 5, state=part.vectors)
    with pytest.raises(UsageError, match="comes from the solver lanczos; accel_power can't resume from it"):
        solve(A, 5, state=part.state, solver="accel_power")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_converged_state_holds_the_vectors_and_gives_the_basis_again(library: str, seed: int) -> None:
    """Each pending direction takes one product; A V' = V' T + P' C' then holds again, to rounding."""
    operator = as_operator(LIBRARIES[library](A))
    result = solve(operator, 5, seed=seed, certify="none")
    state = result.state.state
    assert state.vectors is result.vectors
    dense, eps = arrays.to_host(operator.matmat(arrays.from_host(np.eye(N), operator))), arrays.eps(operator)
    basis, index = basis_of(state, operator, 20), 0
    for _ in range(basis.pending):
        index = basis.recover(operator.matvec, index)
    assert index == basis.pending == state.couplings.shape[1] > 0
    assert_invariant(basis, dense, 10 * eps)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_unfinished_state_is_the_whole_basis_also_with_missed_directions(library: str) -> None:
    operator = as_operator(LIBRARIES[library](A))
    dense, eps = arrays.to_host(operator.matmat(arrays.from_host(np.eye(N), operator))), arrays.eps(operator)
    request = Request(3, tol=1e-12)
    basis = Basis.from_start(operator, random_start(operator), 20)
    for _ in range(6):
        basis.expand(operator.matvec, 0)
    for step in range(5):
        pairs = ritz(basis, request)
        vectors = arrays.from_host(pairs.rotation[:, pairs.wanted], operator)
        state = state_of(basis, pairs.rotation, pairs.wanted, basis.rows[: basis.size, :].T @ vectors, False)
        again = basis_of(state, operator, 20)
        assert_invariant(again, dense, 10 * eps)
        assert (again.size, again.pending) == (basis.size, basis.pending)
        assert_invariant(basis, dense, 10 * eps)  # forming the state has changed nothing
        if step == 1:
            basis.add_missed(random_start(operator, seed=1))
        basis.expand(operator.matvec, basis.pending - 1)


def test_to_resume_a_converged_solve_costs_much_less_than_a_new_one() -> None:
    spectrum = 0.9 ** np.arange(300.0)
    again, new = 0.0, 0.0
    for seed in range(5):
        done = solve(np.diag(spectrum), 5, seed=seed, certify="none")
        finer = solve(np.diag(spectrum), 5, tol=1e-6, seed=seed, certify="none", state=done.state)
        assert np.allclose(finer.values, spectrum[:5], rtol=1e-9)
        again += finer.matvecs
        new += solve(np.diag(spectrum), 5, tol=1e-6, seed=seed, certify="none").matvecs
    assert again < 0.75 * new


@pytest.mark.parametrize(
    ("spectrum", "k"),
    [([50.0] * 49 + [0.0], 2), ([1.0] * 32 + [-1.0] * 32, 4), ([1.0] * 20, 3), ([3.0] + [1e-3] * 15, 2)],
)
@pytest.mark.parametrize("budget", [3, 4, 5, 6, 8, 12])
def test_a_state_of_an_invariant_space_can_be_resumed(spectrum: list[float], k: int, budget: int) -> None:
    A = np.diag(spectrum)
    first = solve(A, k, max_matvecs=budget, certify="none")
    result = solve(A, k, state=first.state, certify="none")
    assert result.status is Status.CONVERGED
    assert np.allclose(np.abs(result.values), np.sort(np.abs(spectrum))[::-1][:k], rtol=1e-3)


def test_a_resumed_search_does_not_draw_the_start_vector_again() -> None:
    """That vector lies in the space that is known already, in which no further copy can be found."""
    for seed in range(40):
        full = np.concatenate([[5.0, 5, 4, 3, 2.5], np.random.default_rng(seed).uniform(-1, 1, 195)])
        stopped = solve(np.diag(full), 2, seed=seed, max_matvecs=9).state
        result = solve(np.diag(full), 2, seed=seed, state=stopped)
        assert result.complete
        assert np.allclose(result.values, 5, rtol=2e-3)


def test_vectors_stay_valid_until_the_next_snapshot() -> None:
    """A restart rewrites the basis in place, so a snapshot must follow it before the next product."""
    operator = as_operator(A)
    previous: Any = None
    request = Request(4, tol=1e-12, start=random_start(operator))
    for snapshot in itertools.islice(lanczos(operator, request, LanczosOptions(basis=8)), 60):
        V = snapshot.vectors()
        assert np.allclose(np.einsum("ij,ij->j", V, A @ V), snapshot.values)
        if previous is not None:
            assert snapshot.restarts in (previous.restarts, previous.restarts + 1)
        previous = snapshot
    assert previous.restarts > 5


def test_the_basis_is_bounded_and_its_size_matters() -> None:
    hard = np.concatenate([[3.0, 2.9, 2.8], np.linspace(-2.7, 2.7, 397)])
    products = {}
    for basis in (6, 12, 40):
        result = solve(matrix(hard), 2, basis=basis, tol=1e-6)
        assert np.allclose(result.values, [3.0, 2.9])
        stopped = solve(
            matrix(hard), 2, basis=basis, tol=1e-6, certify="none", max_matvecs=3 * basis
        ).state.state
        if isinstance(stopped, WholeBasis):
            assert len(stopped.rows) <= basis + 1 + 4
        products[basis] = result.matvecs
    assert products[6] > products[12] > products[40]


def test_basis_size_by_default_and_rejected() -> None:
    assert [basis_size(None, k, 1000) for k in (1, 10, 15)] == [20, 20, 30]
    assert [basis_size(None, 5, n) for n in (7, 256, 257)] == [7, 256, 20]
    assert basis_size(12, 5, 1000) == 12
    with pytest.raises(OptionError, match=r"lanczos.basis is 6; k = 5 needs a basis of at least 7"):
        basis_size(6, 5, 1000)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_where_squares_overflow_or_underflow(dtype: type, scale: float) -> None:
    result = solve((A * scale).astype(dtype), 5)
    assert np.allclose(result.values / scale, [50, 41, -33, 20, 11], rtol=1e-3)
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_operators(n: int) -> None:
    result = solve(np.diag(np.arange(1.0, n + 1)), n)
    assert np.allclose(result.values, np.arange(n, 0, -1))
    assert result.status is Status.CONVERGED


def test_products_for_a_known_matrix_may_not_rise() -> None:
    spectrum = np.concatenate([np.geomspace(100, 5, 10), np.linspace(-1, 2.5, 490)])
    products = [solve(matrix(spectrum, s), 10, seed=s, certify="none").matvecs for s in range(5)]
    assert np.mean(products) <= 29
    bare = [solve(matrix(spectrum, s), 10, seed=s, certify="none", complete=None).matvecs for s in range(5)]
    assert np.mean(bare) <= 20


def test_all_pairs_in_float32_converge_for_every_seed() -> None:
    """An exhausted space has no products left, but rounding may have cost a zero eigenvalue its residual."""
    case = next(case for case in cases() if case.name == "k-is-n")
    library = Library("numpy", "float32")
    refined = 0
    for seed in range(300):
        result = solve(case.operator(library), case.n, tol=case.tol_in(library), seed=seed)
        assert result.status is Status.CONVERGED, (seed, result.advice)
        assert result.matvecs <= 2 * case.n + 2 * (case.n + 5)
        refined += result.certificate.contradicted or result.matvecs > case.n + 5
    assert refined <= 300 / 20


def test_a_restart_is_the_same_where_arrays_are_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it takes one product of matrices, and no write to a block of the basis."""
    written: list[Any] = []
    write = arrays.write
    monkeypatch.setattr(
        arrays, "write", lambda x, index, value: (written.append(value.ndim), write(x, index, value))[1]
    )
    options = {"solver": "lanczos", "basis": 8, "tol": 1e-8, "complete": None}
    ours = solve(read_only_operator(A), 3, **options)
    assert set(written) == {1}
    theirs = solve(A, 3, **options)
    assert set(written) == {1, 2}
    assert ours.history[-1].restarts == theirs.history[-1].restarts > 0
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-12)


def test_shapes_are_constant_where_arrays_are_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a compiler compiles each product once, and not for every size of the basis."""
    shapes: dict[str, set[tuple[int, ...]]] = {"to": set(), "from": set()}
    to_host, from_host = arrays.to_host, arrays.from_host
    monkeypatch.setattr(arrays, "to_host", lambda x: (shapes["to"].add(x.shape), to_host(x))[1])
    monkeypatch.setattr(
        arrays, "from_host", lambda x, space: (shapes["from"].add(x.shape), from_host(x, space))[1]
    )
    options = {"basis": 8, "tol": 1e-8, "complete": None, "certify": "none"}
    result = solve(read_only_operator(A), 3, **options)
    assert result.history[-1].restarts > 0
    rows = 8 + 1
    # The start vector; the couplings of an expansion, the rotation of a restart, and that of the answer, ...
    assert {(N,), (rows,), (rows, rows), (rows, 3)} <= shapes["from"]
    # ... and the vectors that the state holds besides.
    assert len(shapes["from"]) <= 5
    # The overlaps, local ones and the norm; the first products are compared; the Gram matrix of the answer.
    assert {(rows + 2,)} <= shapes["to"] <= {(rows + 2,), (rows + 1,), (1,), (6,), (3, 3)}


@pytest.mark.parametrize("library", ["torch-float64", "torch-float32", "strict-float64"])
def test_a_basis_on_the_host_gives_the_same_pairs(library: str) -> None:
    """On a device that is the host's own memory too, where only the library differs."""
    operator = as_operator(LIBRARIES[library](A))
    options: dict[str, Any] = {"k": 4, "tol": 1e-5, "basis": 12}
    here, there = solve(operator, **options), solve(operator, **options, storage="host")
    np.testing.assert_allclose(there.values, here.values, rtol=1e-5)
    assert type(there.vectors) is type(here.vectors)
    assert there.vectors.dtype == operator.dtype
    assert there.complete
    # A state is resumed wherever the basis was, and is.
    part = solve(operator, **options, storage="host", max_matvecs=16)
    for storage in ("host", "auto"):
        resumed = solve(operator, **options, storage=storage, state=part.state)
        np.testing.assert_allclose(resumed.values, here.values, rtol=1e-5)


def test_missed_copies_are_found_from_the_host() -> None:
    spectrum = np.array([7.0] * 3 + [2.0] * 37)
    result = solve(torch.as_tensor(matrix(spectrum)), 4, storage="host")
    np.testing.assert_allclose(result.values, [7, 7, 7, 2])


def test_with_a_basis_on_the_host_the_device_holds_few_vectors() -> None:
    n, basis, k = 4000, 40, 4
    diagonal = torch.linspace(-1, 1, n, dtype=torch.float32).pow(9)
    operator = as_operator(lambda v: diagonal * v, n=n, dtype=torch.float32)
    peaks = {}
    for storage in ("auto", "host"):
        run = partial(solve, operator, k, basis=basis, storage=storage, complete=None, max_matvecs=60)
        peaks[storage] = allocation(run).peak / (4 * n)  # in vectors
    assert peaks["auto"] >= basis
    assert peaks["host"] <= 4 * k
    assert vectors_held(LanczosOptions(storage="host"), k, n) <= 3 * k


def test_an_unfinished_state_is_not_changed_by_the_solve_that_goes_on() -> None:
    """The two share the rows of the basis until the solve restarts."""
    operator = as_operator(A)
    request = Request(3, tol=1e-12, start=random_start(operator))
    snapshots = lanczos(operator, request, LanczosOptions(basis=8))
    for _ in range(6):
        latest = next(snapshots)
    assert latest.state is not None
    state = latest.state(latest.vectors())
    before = pickle.dumps(state)
    while next(snapshots).restarts < 2:
        pass
    assert pickle.dumps(state) == before
