"""Minibatches: their noise floor, none with variance reduction, and the best momentum under their noise."""

from __future__ import annotations

from functools import partial
from itertools import groupby, islice
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import UsageError
from eigencore.operators import as_operator
from eigencore.operators.counting import counting
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.accelerated import accel_power
from eigencore_power.minibatch_noise import best_momentum, error_factors
from eigencore_power.options import AccelPowerOptions
from kit.solver_states import iteration_of, state_of

HOST = Library("numpy", "float64")
Plain = partial(AccelPowerOptions, variance_reduction=False)


class MeanOperator:
    """The mean H of `count` symmetric matrices that deviate from H by `noise`, drawn with replacement."""

    def __init__(self, spectrum: Any, noise: float, *, count: int = 50, library: Library = HOST):
        rng, n = np.random.default_rng(7), len(spectrum)
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        E = rng.standard_normal((count, n, n)) / np.sqrt(n)
        E = (E + E.transpose(0, 2, 1)) / 2
        self.matrix = (Q * spectrum) @ Q.T
        self.parts = self.matrix + noise * (E - E.mean(0))
        self.library, self.count = library, count
        self.whole = as_operator(library.array(self.matrix))
        self.shape, self.xp = self.whole.shape, self.whole.xp
        self.dtype, self.device = self.whole.dtype, self.whole.device
        self.matvec, self.matmat = self.whole.matvec, self.whole.matmat

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
        drawn = np.random.default_rng([seed, step]).choice(self.count, size=batches)
        sample = as_operator(self.library.array(self.parts[drawn].mean(axis=0)))
        return sample, len(set(drawn.tolist())) / self.count


def gapped(gap: float, *, n: int = 60) -> Any:
    """1, over a bulk of both signs that ends at 0.95 - gap."""
    return np.array([1.0, *np.linspace(-0.5, 0.95 - gap, n - 1)])


def full_snapshots(operator: Any, request: Request, options: Any, epochs: int) -> list[Any]:
    """The snapshots that differ from the previous one: each follows a full block product."""
    found: list[Any] = []
    for snapshot in accel_power(operator, request, options):
        if not found or snapshot is not found[-1]:
            found.append(snapshot)
        if len(found) == epochs:
            break
    return found


def residuals(operator: Any, options: Any, epochs: int, **keywords: Any) -> Any:
    snapshots = full_snapshots(operator, Request(1, **keywords), options, epochs)
    return np.array([one.residuals[0] for one in snapshots])


# -- the results of the papers -----------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.15])
def test_without_variance_reduction_the_floor_falls_as_one_over_the_batches(momentum: float) -> None:
    """The squared residual falls as 1/s: over s = 1, 4, 16, 64 its slope is -1."""
    operator, sizes = MeanOperator(gapped(0.1), 0.1, count=400), (1, 4, 16, 64)
    floors = [
        np.mean([residuals(operator, Plain(momentum, s), 16, seed=seed)[8:] ** 2 for seed in range(4)])
        for s in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(floors), 1)[0]
    assert -1.25 < slope < -0.75


def test_variance_reduction_converges_linearly_below_that_floor() -> None:
    operator = MeanOperator(gapped(0.1), 0.1)
    floor = np.min(residuals(operator, Plain(batches=2), 20))
    logs = np.log(residuals(operator, AccelPowerOptions(batches=2), 16))
    assert logs[-1] < np.log(1e-6 * floor)
    early, late = (logs[8] - logs[4]) / 4, (logs[15] - logs[11]) / 4
    assert early < -0.5
    assert late == pytest.approx(early, rel=0.4)


def test_an_epoch_of_one_step_is_power_iteration_on_the_full_data() -> None:
    noisy, exact = MeanOperator(gapped(0.1), 5.0), MeanOperator(gapped(0.1), 0.0)
    one, other = (residuals(op, AccelPowerOptions(0.1, 1, epoch=1), 30) for op in (noisy, exact))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("momentum", [0.0, 0.12])
@pytest.mark.parametrize("variance_reduction", [True, False])
def test_without_noise_a_minibatch_step_is_a_full_step(momentum: float, variance_reduction: bool) -> None:
    """Eight full products then belong to two single steps and six epochs of ten."""
    operator = MeanOperator(gapped(0.2), 0.0)
    options = AccelPowerOptions(momentum, 1, variance_reduction)
    sampled = full_snapshots(operator, Request(1), options, 8)[-1]
    whole = list(islice(accel_power(operator, Request(1), AccelPowerOptions(momentum)), 62))[-1]
    cosines = iteration_of(sampled).block.X @ iteration_of(whole).block.X.T
    assert np.allclose(np.linalg.svd(cosines)[1], 1, atol=1e-9)


# -- momentum under noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.02, 0.1])
def test_harmful_momentum_is_lowered_and_reported(gap: float) -> None:
    """With little noise, momentum helps; with much noise, it harms. `auto` is near the better of the two."""
    best = ((0.95 - gap) / 2) ** 2
    for noise, helps in ((0.03, True), (0.5, False)):
        operator = MeanOperator(gapped(gap), noise)
        plain, full, auto = (
            np.exp(np.mean([np.log(residuals(operator, options, 13, seed=seed)[-1]) for seed in range(3)]))
            for options in (
                AccelPowerOptions(0.0, 1),
                AccelPowerOptions(best, 1),
                AccelPowerOptions("auto", 1),
            )
        )
        assert (full < plain / 3) if helps else (full > 3 * plain)
        assert auto < 3 * min(full, plain) or (helps and auto < plain / 3)
    notes = full_snapshots(operator, Request(1), AccelPowerOptions("auto", 1), 13)[-1].notes
    assert "lowered from" in notes[0]
    assert "raise batches" in notes[0]
    fixed = full_snapshots(operator, Request(1), AccelPowerOptions(best, 1), 13)[-1].notes
    assert "too noisy for this momentum: raise batches, or lower it to" in fixed[0]
    calm = full_snapshots(MeanOperator(gapped(gap), 0.003), Request(1), AccelPowerOptions("auto", 1), 8)[
        -1
    ].notes
    assert "lowered" not in calm[0]


def test_the_model_of_the_noise_is_the_iteration_itself() -> None:
    """Two eigenvalues, white noise in the unwanted part, many runs: the mean squared error is as modelled."""
    rng, runs, steps, unwanted = np.random.default_rng(0), 20_000, 10, 0.9
    for beta in (0.0, 0.1, 0.2025):
        growth = (1 + np.sqrt(1 - 4 * beta)) / 2
        before, now = np.zeros(runs), np.zeros(runs)
        for step in range(steps):
            noise = 0.01 * rng.standard_normal(runs) * (step > 0)
            before, now = now, (unwanted * now - beta / growth * before + noise) / growth
        # The error of the wanted part is of second order and neglected.
        predicted = error_factors(unwanted, 1.0, 1e-4, steps, np.array([2 * np.sqrt(beta)]))[0]
        predicted -= error_factors(unwanted, 1.0, 0.0, steps, np.array([2 * np.sqrt(beta)]))[0]
        assert np.mean(now**2) == pytest.approx(predicted, rel=0.05)


def test_the_more_noise_the_less_momentum() -> None:
    edges = [best_momentum(0.9, 1.0, noise, 10).edge for noise in (0.0, 1e-3, 1e-2, 0.1, 1.0)]
    assert edges[0] == 0.9
    assert edges[-1] == 0
    assert np.all(np.diff(edges) <= 0)


# -- results, costs, memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("library", installed(), ids=str)
@pytest.mark.parametrize("variance_reduction", [True, False])
def test_pairs_are_those_of_the_true_operator(library: Library, variance_reduction: bool) -> None:
    spectrum = filled(80, [10, -9, 8, 5, 4])
    operator = MeanOperator(spectrum, 1.0, library=library)
    options = AccelPowerOptions(batches=2, variance_reduction=variance_reduction)
    exact = arrays.to_host(library.array(operator.matrix))
    for snapshot in islice(accel_power(operator, Request(3), options), 60):
        V = arrays.to_host(snapshot.vectors())
        R = exact @ V - V * snapshot.values
        assert np.allclose(V.T @ V, np.eye(3), atol=1e3 * library.eps)
        assert np.allclose(np.sum(V * (exact @ V), axis=0), snapshot.values, atol=1e3 * library.eps)
        assert np.allclose(np.linalg.norm(R, axis=0), snapshot.residuals, atol=1e3 * library.eps)


def test_minibatch_products_cost_their_share() -> None:
    operator, b = counting(MeanOperator(filled(80, [10, -9, 8, 5, 4]), 1.0)), 3
    snapshots = islice(accel_power(operator, Request(3), AccelPowerOptions(batches=1, epoch=5)), 40)
    costs = [operator.matvecs / b for _ in snapshots]
    share = 1 / 50
    beginning = [1, 1, share]  # two full steps, and the noise
    epoch = [share] * 4 + [1, share]
    assert np.allclose(np.diff([0, *costs]), (beginning + epoch * 7)[:40])


@pytest.mark.parametrize(("count", "steps"), [(50, 10), (7, 7), (1, 2)])
def test_an_epoch_takes_as_many_steps_as_cost_a_product(count: int, steps: int) -> None:
    operator = MeanOperator(gapped(0.1), 0.0, count=count)
    snapshots = list(islice(accel_power(operator, Request(1), AccelPowerOptions(batches=1)), 40))
    runs = [len(list(same)) for _, same in groupby(snapshots, key=id)]
    assert (
        runs[2] == 2 + steps - 1
    )  # after the full product, after the measurement, after each minibatch step


@pytest.mark.parametrize(("variance_reduction", "blocks"), [(True, 9), (False, 8)])
def test_the_blocks_that_are_held_during_a_product(
    vectors_held: Any, variance_reduction: bool, blocks: int
) -> None:
    spectrum = filled(100_000, 1 + np.arange(6.0))
    options = AccelPowerOptions(batches=1, variance_reduction=variance_reduction)
    held = vectors_held(lambda operator: accel_power(operator, Request(4), options), spectrum, 30)
    assert held / 5 <= blocks + 0.2


def test_same_seed_same_bits_and_another_seed_other_minibatches() -> None:
    operator = MeanOperator(gapped(0.1), 0.3)
    first, same, other = (
        [one.values[0] for one in islice(accel_power(operator, Request(1, seed=seed), options), 50)]
        for seed, options in ((3, AccelPowerOptions(batches=1)),) * 2 + ((4, AccelPowerOptions(batches=1)),)
    )
    assert first == same
    assert first != other


# -- through solve -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("library", installed(), ids=str)
def test_solve_certifies_pairs_found_with_minibatches(library: Library, k: int) -> None:
    spectrum = filled(80, [10, -9, 8, 7, -6, 5], -1.0, 2.0)
    result = solve(
        MeanOperator(spectrum, 0.5, library=library), k, solver="accel_power", batches=2, certify="full"
    )
    assert result.status == "converged"
    assert np.allclose(result.values, [10, -9, 8, 7, -6][:k], rtol=1e-3)
    assert "minibatches of" in result.notes[1]
    resumed = solve(
        MeanOperator(spectrum, 0.5, library=library), k, solver="accel_power", batches=2, state=result.state
    )
    assert resumed.status == "converged"
    assert resumed.matvecs < result.matvecs


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("variance_reduction", [True, False])
def test_a_start_without_the_first_eigenvectors_still_finds_them(k: int, variance_reduction: bool) -> None:
    """The exact eigenvectors of the others pass at once; directions that the core sends join the block."""
    noise = 0.3 if variance_reduction else 0.002
    operator = MeanOperator(filled(80, [10, -9, 8, 7, 6, 5], -1.0, 2.0), noise)
    values, vectors = np.linalg.eigh(operator.matrix)
    order = np.argsort(-np.abs(values))
    result = solve(
        operator,
        k,
        solver="accel_power",
        start=vectors[:, order[2 : 2 + k]],
        batches=2,
        variance_reduction=variance_reduction,
    )
    assert result.complete
    assert np.allclose(result.values, values[order[:k]], rtol=2e-3)


def test_no_budget_is_exceeded() -> None:
    operator = MeanOperator(gapped(0.1), 0.3)
    for budget in np.arange(1, 12, 0.37):
        result = solve(operator, 1, solver="accel_power", batches=1, tol=1e-9, max_matvecs=float(budget))
        assert result.matvecs <= budget + 1e-9
        if len(result.values):
            v = result.vectors[:, 0]
            assert v @ operator.matrix @ v == pytest.approx(result.values[0], abs=1e-12)


def test_an_operator_without_minibatches_is_rejected_before_any_product() -> None:
    operator = Case("", filled(30, [3.0])).operator(HOST)
    with pytest.raises(UsageError, match="needs minibatches, but this operator has none"):
        next(accel_power(operator, Request(1), AccelPowerOptions(batches=1)))
    assert operator.products == 0
    state = state_of(next(accel_power(operator, Request(1), AccelPowerOptions())))
    with pytest.raises(UsageError, match="expected StochasticState"):
        next(
            accel_power(MeanOperator(np.ones(30), 0.0), Request(1), AccelPowerOptions(batches=1), state=state)
        )


@pytest.mark.parametrize("spectrum", [np.zeros(20), filled(20, [3.0], 0.0, 0.0), np.array([-2.0])], ids=len)
def test_extremes(spectrum: Any) -> None:
    for variance_reduction in (True, False):
        options = AccelPowerOptions(batches=1, variance_reduction=variance_reduction)
        operator = MeanOperator(spectrum, 0.0)
        last = list(islice(accel_power(operator, Request(1), options), 60))[-1]
        assert abs(last.values[0]) == pytest.approx(np.max(np.abs(spectrum)))
        assert last.residuals[0] < 1e-12
