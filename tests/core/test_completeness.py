"""What shows that no eigenvalue was missed: recurrences, chains, start vectors, and the search over them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eigencore import EigencoreError, Request, Snapshot, arrays, solve
from eigencore.interfaces import Evidence
from eigencore.operators import as_operator
from eigencore.results import Certificate
from eigencore.solving.chain import Chain, ChainEnd
from eigencore.solving.completeness import (
    CompletenessSearch,
    End,
    HiddenAt,
    _threshold_in_complement,
    ends_of,
)
from eigencore.solving.recurrence import Recurrence, smallest_part
from eigencore.solving.start import RANDOM_PART, start_vector
from eigencore.testing.libraries import Library


def inside(intervals: np.ndarray, t: float) -> bool:
    return bool(np.any((intervals[:, 0] <= t) & (t <= intervals[:, 1])))


# -- recurrence --------------------------------------------------------------------------------------------


def restarted_lanczos(d: np.ndarray, start: np.ndarray, steps: int, m: int, keep: int):
    """Lanczos on diag(d), restarted whenever there are m vectors: evidence, and the latest vector."""
    V, v = np.zeros((len(d), 0)), start / np.linalg.norm(start)
    for _ in range(steps):
        V = np.column_stack([V, v])
        w = d * v
        for _ in range(2):
            w = w - V @ (V.T @ w)
        coupling = float(np.linalg.norm(w))
        v = w / coupling
        values, S = np.linalg.eigh(V.T @ (d[:, None] * V))
        yield Evidence(values, coupling), v
        if V.shape[1] == m:
            V = V @ S[:, -keep:]
            yield Evidence(values[-keep:], 1.0, values[:-keep]), v


def test_the_polynomial_is_that_of_the_run_also_through_restarts():
    rng = np.random.default_rng(0)
    d, start = np.sort(rng.uniform(-1, 1, 40)), rng.standard_normal(40)
    start /= np.linalg.norm(start)
    run = list(restarted_lanczos(d, start, steps=17, m=6, keep=3))
    assert sum(len(evidence.dropped) > 0 for evidence, _ in run) >= 3
    for last in range(2, len(run), 5):
        _, v = run[last]
        for t, growth in zip(d, np.abs(v / start), strict=True):
            for factor in (0.999, 1.001):
                recurrence = Recurrence(factor / growth)
                for evidence, _ in run[: last + 1]:
                    recurrence.add(evidence)
                open_ = inside(recurrence.open_beyond(-2.0, 1, 0.0), t)
                assert open_ == (factor < 1), (last, t, growth)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_open_agrees_with_a_fine_grid(seed: int, sign: int):
    rng = np.random.default_rng(seed)
    current, dropped = rng.uniform(-2, 2, 7), rng.uniform(-2, 1, rng.integers(0, 12))
    couplings, bound = rng.uniform(0.1, 1, 7 + len(dropped)), 10.0 ** rng.uniform(-4, 0)
    recurrence = Recurrence(bound)
    for i, coupling in enumerate(couplings):
        recurrence.add(Evidence(current, float(coupling), dropped if i == 3 else ()))
    threshold = float(rng.uniform(-2, 2.5))
    intervals = recurrence.open_beyond(threshold, sign, 0.0)
    grid = np.linspace(threshold, 8, 20_001)[1:]
    zeros = sign * np.concatenate([current, dropped])
    log_p = np.sum(np.log(np.abs(grid[:, None] - zeros)), axis=1) - np.sum(np.log(couplings))
    clear = np.abs(log_p + math.log(bound)) > 1e-6
    found = np.array([inside(intervals, t) for t in grid])
    assert np.array_equal(found[clear], (log_p < -math.log(bound))[clear])
    assert np.all(intervals[1:, 0] > intervals[:-1, 1])
    assert np.all(intervals >= threshold)


def test_all_around_a_ritz_value_stays_open_up_to_the_resolution():
    recurrence = Recurrence(0.01)
    recurrence.add(Evidence(np.array([1.0, 3.0]), 1e-12))
    assert recurrence.open_beyond(2.0, 1, 0.25).tolist() == [[2.75, 3.25]]


def test_nothing_is_excluded_without_evidence_or_without_a_random_start():
    without = Recurrence(0.01)
    known = Recurrence(0.0)
    known.add(Evidence(np.array([1.0]), 0.0))
    for recurrence in (without, known):
        assert recurrence.open_beyond(2.0, 1, 1e-10).tolist() == [[2.0, math.inf]]


def test_what_is_excluded_stays_so_when_the_run_goes_on_with_other_directions():
    recurrence = Recurrence(0.01)
    recurrence.add(Evidence(np.array([0.0, 1.0]), 1e-3))
    before = recurrence.open_beyond(0.5, 1, 1e-10)
    recurrence.add(Evidence(np.array([0.0, 1.0, 5.0]), None))
    recurrence.add(Evidence(np.array([0.0, 1.0, 5.0]), 1e-9))
    assert not recurrence.running
    assert np.array_equal(recurrence.open_beyond(0.5, 1, 1e-10), before)


def test_a_coupling_of_rounding_error_does_not_exclude_everything():
    exact, rounded = Recurrence(1e-4), Recurrence(1e-4)
    exact.add(Evidence(np.array([0.0, 1.0]), 0.0))
    rounded.add(Evidence(np.array([0.0, 1.0]), 0.0), rounding=1e-3)
    assert exact.open_beyond(1.1, 1, 1e-6).tolist() == []
    (interval,) = rounded.open_beyond(1.1, 1, 1e-6)
    assert interval == pytest.approx([1.1, 0.5 + math.sqrt(0.25 + 10)])


def test_neighbouring_ritz_values_may_be_neighbouring_numbers():
    z = np.nextafter(1.0, 2.0)
    recurrence = Recurrence(0.01)
    recurrence.add(Evidence(np.array([0.0, 1.0, z, np.nextafter(z, 2.0)]), 1e-3))
    for threshold in (0.5, 1.0, z):
        assert len(recurrence.open_beyond(threshold, 1, 0.0)) >= 1


@pytest.mark.parametrize("n", [2, 3, 10, 300])
@pytest.mark.parametrize("eta", [0.5, 0.05])
def test_the_bound_of_a_random_vectors_part_has_its_probability(n: int, eta: float):
    x = np.random.default_rng(n).standard_normal((20_000, n))
    part = np.abs(x[:, 0]) / np.linalg.norm(x, axis=1)
    below = float(np.mean(part <= smallest_part(n, eta)))
    assert below == pytest.approx(eta, abs=4 * math.sqrt(eta * (1 - eta) / len(x)))


def test_the_bound_is_above_zero_for_any_probability():
    assert smallest_part(1000, 1e-300) > 0
    assert smallest_part(1, 0.1) < 1


# -- chain -------------------------------------------------------------------------------------------------

N = 60
SPECTRUM = np.concatenate([[9.0, 7.0, 7.0, -8.0, -6.0], np.linspace(-3, 4, N - 5)])
VECTORS = np.linalg.qr(np.random.default_rng(7).standard_normal((N, N)))[0]
MATRIX = (VECTORS * SPECTRUM) @ VECTORS.T


def chain(known: list[int], ends: dict[int, float], seed: int = 0, eta: float = 0.01) -> Chain:
    """A chain in the complement of the eigenvectors with these indices, not begun."""
    x = arrays.generator(seed, "test").standard_normal(N)
    asked = tuple(ChainEnd(sign, t) for sign, t in ends.items())
    bound = smallest_part(N - len(known), eta)
    return Chain(as_operator(MATRIX), VECTORS[:, known], x, asked, bound, 9.0)


def run(chain: Chain, most: int = 60) -> Chain:
    while not chain.finished and len(chain.alphas) < most:
        chain.step()
    return chain


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_excludes_what_is_not_there(seed: int):
    done = run(chain([0, 1, 2, 3, 4], {1: 5.0, -1: 4.0}, seed))
    assert done.finished
    assert not done.found
    assert len(done.alphas) < 30


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("missed", "sign"), [(0, 1), (2, 1), (3, -1), (4, -1)])
def test_a_chain_finds_what_was_missed_and_its_direction(missed: int, sign: int, seed: int):
    known = [i for i in range(5) if i != missed]
    done = run(chain(known, {1: 5.0, -1: 4.0}, seed))
    assert {end.sign: end.found for end in done.ends} == {sign: True, -sign: False}
    block = done.missed()
    assert block.shape == (N, 1)
    assert np.linalg.norm(block) == pytest.approx(1)
    assert abs(VECTORS[:, missed] @ block[:, 0]) > 0.5
    assert np.max(np.abs(VECTORS[:, known].T @ block)) < 1e-12


def test_a_chain_finds_what_was_missed_at_both_ends():
    # Either end may be found first, and the chain is then finished; both have been by the last product.
    done = chain([1, 2, 4], {1: 5.0, -1: 5.0})
    for _ in range(20):
        done.step()
    block = done.missed()
    assert block.shape == (N, 2)
    assert abs(VECTORS[:, 0] @ block[:, 0]) > 0.5
    assert abs(VECTORS[:, 3] @ block[:, 1]) > 0.5


def test_what_a_chain_excludes_is_wrong_no_more_often_than_stated():
    """1,000 chains of 4 to 12 products at 10 %: a larger eigenvalue than the smallest excluded value."""
    below = 0
    for seed in range(1000):
        done = chain([0, 1, 2, 3, 4], {1: 3.0}, seed, eta=0.1)
        for _ in range(4 + seed % 9):
            done.step()
        below += done.smallest_excluded(done.ends[0]) < 4.0
    assert below <= 100 + 3 * math.sqrt(90)


def test_a_planted_value_is_excluded_no_more_often_than_stated():
    """1,000 chains at 10 %, where the eigenvalue 7 lies just beyond the threshold."""
    excluded = sum(
        run(chain([0, 1, 3, 4], {1: 6.9}, seed, eta=0.1), 200).ends[0].excluded for seed in range(1000)
    )
    assert 0 < excluded <= 100 + 3 * math.sqrt(90)


def test_a_chain_ends_where_the_space_is_exhausted():
    V = np.eye(20)[:, :2]
    d = np.where(np.arange(20) < 2, 5.0, 0.0)
    ends = (ChainEnd(1, 1.0), ChainEnd(-1, 1.0))
    one = Chain(as_operator(np.diag(d)), V, np.ones(20), ends, smallest_part(18, 0.005), 5.0)
    one.step()
    assert one.finished
    assert not one.found


def test_a_small_coupling_does_not_exhaust_the_space():
    """In float32 a small part of the start vector along an eigenvector looks like rounding error."""
    n = 4000
    d = np.zeros(n, dtype=np.float32)
    d[0], d[1] = 100.0, 0.5
    x = np.ones(n, dtype=np.float32)
    x[1] = 0.1
    end = ChainEnd(1, 0.4)
    V = np.eye(n, 1, dtype=np.float32)
    one = Chain(
        as_operator(lambda v: d * v, n=n, dtype=np.float32), V, x, (end,), smallest_part(n, 0.005), 100.0
    )
    one.step()
    assert not end.excluded
    assert run(one).found
    assert abs(one.missed()[1, 0]) > 0.5


# -- start -------------------------------------------------------------------------------------------------


def start_of(request: Request, *, mixed: bool = True):
    return start_vector(request, as_operator(MATRIX), mixed=mixed)


def test_a_random_start_depends_on_the_seed():
    (x, factor), (y, _) = start_of(Request(seed=0)), start_of(Request(seed=1))
    assert factor == 1.0
    assert np.linalg.norm(x) == pytest.approx(1)
    assert abs(x @ y) < 0.5


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("as_block", [False, True])
def test_a_vector_is_mixed_with_a_random_one(scale: float, as_block: bool):
    given = scale * VECTORS[:, 3]
    x, _ = start_of(Request())
    v, factor = start_of(Request(start=given[:, None] if as_block else given))
    assert v.shape == (N,)
    assert np.linalg.norm(v) == pytest.approx(1)
    both = VECTORS[:, 3] + RANDOM_PART * x
    assert v == pytest.approx(both / np.linalg.norm(both))
    # Along an eigenvector that the given vector does not contain, the part is that of the random one.
    assert VECTORS[:, 0] @ v == pytest.approx(factor * (VECTORS[:, 0] @ x))


def test_a_block_and_a_vector_without_completeness_stay_as_they_are():
    block, vector = VECTORS[:, :2], VECTORS[:, 0]
    assert start_of(Request(start=block)) == (block, 0.0)
    assert start_of(Request(start=vector), mixed=False) == (vector, 0.0)


# -- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_missed_copy_lies_beyond_the_threshold_in_the_complement(seed: int):
    """Residuals move it down in the complement, by more than the width of the interval where it is hidden."""
    rng = np.random.default_rng(seed)
    spectrum = np.array([5.0, 5.0, 5.0, 3.0, 2.0, 1.0, -1.0, -2.0])
    error = 10.0 ** -rng.uniform(2, 5) * rng.standard_normal((8, 8))
    Q = np.linalg.qr(np.eye(8) + error)[0]
    V, rest = Q[:, [0, 1, 3, 4]], Q[:, [2, 5, 6, 7]]
    values, S = np.linalg.eigh(V.T @ (spectrum[:, None] * V))
    V = V @ S
    residuals = np.linalg.norm(spectrum[:, None] * V - V * values, axis=0)
    top = float(np.linalg.eigvalsh(rest.T @ (spectrum[:, None] * rest))[-1])
    end, lowest = End(1, float(values[0]), 0.01), 5.0 - 1e-12
    snapshot = Snapshot(values, residuals, lambda: V, 5.0)
    threshold = _threshold_in_complement(snapshot, HiddenAt(end, np.array([[lowest, 5.0 + 1e-12]])))
    assert end.threshold < threshold < top < lowest


def test_the_ends_of_a_request():
    values = np.array([5.0, -4.0, 3.0, 2.0])
    assert [(end.sign, end.kth) for end in ends_of(Request(4, "LM"), values, 0.0)] == [(1, 2.0), (-1, 2.0)]
    assert [(end.sign, end.kth) for end in ends_of(Request(4, "LA"), values, 0.0)] == [(1, -4.0)]
    assert [(end.sign, end.kth) for end in ends_of(Request(4, "SA"), values, 0.0)] == [(-1, -5.0)]
    assert [(end.sign, end.kth) for end in ends_of(Request(4, "BE"), values, 0.0)] == [(1, 3.0), (-1, -2.0)]
    assert [(end.sign, end.kth) for end in ends_of(Request(1, "BE"), values[:1], 0.0)] == [(1, 5.0)]
    assert ends_of(Request(1, "LA", tol=0.01), values[:1], 0.3)[0].threshold == pytest.approx(5.3)
    assert ends_of(Request(1, "LA", tol=0.01), values[:1], 0.01)[0].threshold == pytest.approx(5.1)


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
@pytest.mark.parametrize("spectrum", [np.zeros(40), np.zeros(300), np.ones(300), np.r_[3.0, np.zeros(299)]])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_multiples_of_the_identity_and_rank_one_are_complete(spectrum: np.ndarray, k: int, which: str):
    result = solve(np.diag(spectrum), k, which=which)
    assert result.complete
    assert result.values == pytest.approx(spectrum[Request(k, which).order(spectrum)], abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_a_few_rows_are_complete(n: int, which: str):
    for k in range(1, n + 1):
        for spectrum in (np.zeros(n), np.ones(n), np.arange(n) - 1.0):
            result = solve(np.diag(spectrum), k, which=which)
            assert result.complete
            assert result.values == pytest.approx(spectrum[Request(k, which).order(spectrum)])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_completeness_does_not_depend_on_the_scale(scale: float, dtype: str):
    spectrum = np.concatenate([[10.0, 10.0, 7.0, -6.0, 5.0], np.linspace(-1, 2, 300)])
    result = solve(np.diag(scale * spectrum).astype(dtype), 3)
    assert result.complete
    assert result.values / scale == pytest.approx([10, 10, 7], rel=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_repeated_value_far_below_the_norm_is_found_in_float32(seed: int):
    """A random vector's part along it is so small that its product looks like rounding error of ||A||."""
    n = 200_000
    d = np.zeros(n, dtype=np.float32)
    d[7], d[[11, 13]] = 100.0, 0.5
    result = solve(as_operator(lambda v: d * v, n=n, dtype=np.float32), 3, seed=seed, certify="none")
    assert result.complete
    assert result.values == pytest.approx([100, 0.5, 0.5], rel=2e-3)


@pytest.mark.parametrize("most", range(1, 30, 3))
def test_an_answer_that_the_budget_cut_short_is_not_called_complete(most: int):
    spectrum = np.concatenate([[10.0, 10.0, 10.0, 7.0], np.linspace(-1, 2, 300)])
    result = solve(np.diag(spectrum), 3, max_matvecs=most)
    assert result.matvecs <= most
    assert result.complete in (True, False)
    if result.complete:
        assert result.values == pytest.approx([10, 10, 10], rel=2e-3)


@pytest.mark.parametrize(("which", "above", "below"), [("LM", 10, None), ("SA", None, -9), ("BE", 10, -9)])
@pytest.mark.parametrize("most", [2, 6, 12])
def test_an_unconverged_answer_says_beyond_which_value_there_is_none(which, above, below, most: int):
    spectrum = np.concatenate([[10.0, 10.0, -9.0, -9.0], np.linspace(-1, 2, 300)])
    result = solve(np.diag(spectrum), 4, which=which, tol=1e-8, max_matvecs=most, certify="none")
    assert (result.status, result.complete, result.matvecs) == ("budget", False, most)
    certificate = result.certificate
    assert certificate.complete_matvecs == 0
    for end, wanted in ((certificate.complete_above, above), (certificate.complete_below, below)):
        assert (end is None) == (wanted is None)
        if end is not None:
            assert abs(end) > abs(wanted)
            assert abs(end) < abs(wanted) * (1.001 if most == 12 else math.inf)


def test_an_unconverged_answer_is_exceeded_no_more_often_than_stated():
    """300 solves of 2 to 10 products at 90 %, of which the recurrence may use one half."""
    spectrum = np.concatenate([[7.0], np.linspace(-4, 4, 59)])
    exceeded = 0
    for seed in range(300):
        options = {"complete": 0.9, "seed": seed, "max_matvecs": 2 + seed % 9, "certify": "none"}
        result = solve(np.diag(spectrum), 3, which="LA", tol=1e-8, **options)
        exceeded += result.certificate.complete_above < 7
    assert exceeded <= 15 + 3 * math.sqrt(15)


def test_nothing_is_excluded_by_a_solve_that_failed_or_began_with_a_block():
    spectrum = np.concatenate([[10.0, 9.0], np.linspace(-1, 2, 300)])
    products = [0]

    def product(v):
        products[0] += 1
        return spectrum * v * (math.nan if products[0] > 8 else 1.0)

    with pytest.raises(EigencoreError) as failure:
        solve(as_operator(product, n=len(spectrum), dtype=np.float64), 5)
    assert len(failure.value.partial.values) > 0
    block = np.random.default_rng(0).standard_normal((len(spectrum), 2))
    for result in (failure.value.partial, solve(np.diag(spectrum), 5, start=block, max_matvecs=8)):
        assert result.complete is False
        assert result.certificate.complete_above is None


@pytest.mark.parametrize("certify", ["full", "sketch"])
def test_every_array_library_gets_the_same_verdict(certify: str, array_library: Library):
    """Also those whose arrays can't be written: a chain finds the second copy of 10, or excludes a third."""
    spectrum = np.concatenate([[10.0, 10.0, 7.0], np.linspace(-1, 2, 300)])
    operator = as_operator(array_library.array(np.diag(spectrum)))
    for solver in ("lanczos", "arpack"):
        result = solve(operator, 3, solver=solver, certify=certify)
        assert result.complete
        assert result.certificate.complete_matvecs > 0
        assert result.values == pytest.approx([10, 10, 7], rel=2e-3)


# -- after a contradiction ---------------------------------------------------------------------------------


def test_the_search_begins_again_once_the_pairs_were_contradicted():
    """Otherwise its products would be used up, and nothing be known of the complement of the new pairs."""
    spectrum, spent = np.concatenate([[9.0, 8, 7], np.linspace(-2, 2, 297)]), [20.0]
    V = np.eye(300)[:, :3]
    snapshot = Snapshot(spectrum[:3], np.zeros(3), lambda: V, 9.0)

    def product(v):
        spent[0] += 1
        return spectrum * v

    search = CompletenessSearch(
        as_operator(product, n=300, dtype=np.float64),
        Request(3),
        0.99,
        start_bound=0.0,
        refused=lambda: False,
        spent=lambda: spent[0],
        after_product=lambda: None,
    )

    def complete():
        assert search.examine(snapshot, lambda: V) == (True, None)
        return search.certified(Certificate("none"), converged=True).complete

    assert complete()
    spent[0] += 30
    assert not complete()
    search.begin_again(from_pairs=False)
    assert complete()
