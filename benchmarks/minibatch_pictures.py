"""Claim: minibatches have a noise floor, variance reduction removes it, and momentum needs enough samples.

    python benchmarks/minibatch_pictures.py [--trials 10] [--samples 1000000] [--network]

This is what the pictures show in De Sa et al., Accelerated stochastic power iteration, AISTATS 2018
(arXiv:1707.02670). As in their code, the matrix is X'X / n for data X (n, 10), with eigenvalues 1 and nine
times 0.9; a minibatch consists of s samples, drawn with replacement; and the error is 1 - (w'u)^2, for the
iterate w of `accel_power` and the first eigenvector u. Medians are over trials, each with a start and
minibatches of its own. The last table shows what minibatches save: the products, in units of a product on all
data, until the pair converges to the default tolerance, for 100,000 samples and several gaps.

With --network, the result is instead the number of products, in units of a product on all data, after which
the relative error of the largest eigenvalue of demo:digits stays below a tolerance. Time is not measured, so
the numbers are the same on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from networks import one_batch

from eigencore import bind, solve
from eigencore.arrays import generator
from eigencore.operators import FunctionOperator
from eigencore.problems import find_problem
from eigencore.request import Request
from eigencore.results import Step
from eigencore_power.accelerated import accel_power
from eigencore_power.options import AccelPowerOptions

SPECTRUM = np.array([1.0] + [0.9] * 9)
BEST = (0.9 / 2) ** 2
STEPS, SHOWN_STEPS = 100, (0, 10, 20, 40, 60, 80, 100)
EPOCH, SHOWN_EPOCHS = 10, (0, 1, 2, 5, 10, 15, 20)
# Between the first two eigenvalues, as a fraction of the first.
GAPS = (0.1, 0.03, 0.01)
# The size of the network's batches, the relative errors, and the most products to reach them.
BATCH, TOLERANCES, MOST = 32, (1e-1, 1e-2, 1e-3, 1e-4), 20


class Samples:
    """The matrix X'X / n, with s of the n samples as a minibatch. It records the error of each iterate.

    Attributes:
        errors: of the vectors that were multiplied by the matrix or by a minibatch, in their order.
        full: of those that were multiplied by the matrix.
    """

    def __init__(self, data: Any, first: Any):
        self._data, self._first = data, first
        self._gram = data.T @ data / len(data)
        self.shape, self.xp, self.dtype, self.device = self._gram.shape, xp, xp.float64, "cpu"
        self.errors: list[float] = []
        self.full: list[float] = []
        self._measured = True

    def matvec(self, v: Any, /) -> Any:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Any, /) -> Any:
        self.full.append(self._error(V))
        self.errors.append(self.full[-1])
        self._measured = False
        return self._gram @ V

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
        rows = self._data[generator(seed, "rows", step).integers(len(self._data), size=batches)]
        # The first minibatch after a product with the matrix measures the noise.
        iterates, self._measured = self._measured, True

        def matmat(V: Any) -> Any:
            if iterates:
                self.errors.append(self._error(V))
            return rows.T @ (rows @ V) / batches

        def matvec(v: Any) -> Any:
            return matmat(v[:, None])[:, 0]

        sample = FunctionOperator(matvec, self.shape[0], xp=xp, dtype=self.dtype, matmat=matmat)
        return sample, batches / len(self._data)

    def _error(self, V: Any) -> float:
        w = V[:, 0] / np.linalg.norm(V[:, 0])
        return float(np.sum((w - w @ self._first * self._first) ** 2))


def samples(count: int, spectrum: Any) -> tuple[Any, Any]:
    """Data with the prescribed spectrum, and the first eigenvector."""
    rng = generator(0, "data")
    left, _ = np.linalg.qr(rng.standard_normal((count, len(spectrum))))
    right, _ = np.linalg.qr(rng.standard_normal((len(spectrum), len(spectrum))))
    return np.sqrt(count) * left * np.sqrt(spectrum) @ right.T, right[:, 0]


def curve(
    data: tuple[Any, Any], trials: int, shown: Iterable[int], epochs: bool = False, **options: Any
) -> list[float]:
    """The median error after the given numbers of steps, or of epochs."""
    curves = []
    for trial in range(trials):
        operator = Samples(*data)
        request = Request(k=1, seed=trial, start=generator(trial, "start").standard_normal(len(SPECTRUM)))
        run = accel_power(operator, request, AccelPowerOptions(**options))
        # Two steps with the matrix precede the first epoch.
        errors, first = (operator.full, 1) if epochs else (operator.errors, 0)
        while len(errors) <= first + max(shown):
            next(run)
        curves.append([errors[first + step] for step in shown])
    return [float(np.median(column)) for column in zip(*curves, strict=True)]


def pictures(trials: int, count: int) -> None:
    data = samples(count, SPECTRUM)

    def rows(shown: tuple[int, ...], curves: dict[str, dict[str, Any]], **same: Any) -> None:
        print(f"{'':44}" + "".join(f"{step:9}" for step in shown))
        for name, options in curves.items():
            errors = curve(data, trials, shown, **options, **same)
            print(f"{name:44}" + "".join(f"{error:9.0e}" for error in errors), flush=True)

    momenta = {"no momentum": 0.0, "best momentum": BEST}
    print("steps on all data")
    rows(SHOWN_STEPS, {name: {"momentum": beta} for name, beta in momenta.items()})
    print("steps on minibatches of s samples, without variance reduction")
    stochastic = {
        f"s = {size}, {name}": {"momentum": beta, "batches": size}
        for size in (10_000, 50_000)
        for name, beta in momenta.items()
    }
    rows(SHOWN_STEPS, stochastic, variance_reduction=False, epoch=STEPS + 1)
    print(f"epochs of {EPOCH} steps on minibatches of s samples, with variance reduction")
    reduced = {
        f"s = {size}, {name}": {"momentum": beta, "batches": size}
        for size in (5000, 1000, 100)
        for name, beta in {**momenta, "momentum found during the run": "auto"}.items()
    }
    rows(SHOWN_EPOCHS, reduced, epochs=True, epoch=EPOCH)


def gaps(trials: int) -> None:
    """The products until the pair converges, over bulks of 99 eigenvalues from 0 to 1 - gap."""
    contestants: dict[str, dict[str, Any]] = {
        "lanczos": {"solver": "lanczos"},
        "steps on all data, momentum found": {},
        **{f"s = {size}, momentum found": {"batches": size} for size in (10_000, 1000, 100)},
    }
    columns = []
    for gap in GAPS:
        data = samples(100_000, np.append(1.0, np.linspace(1 - gap, 0, 99)))
        columns.append(
            [
                float(np.median([converged(data, seed, **options) for seed in range(trials)]))
                for options in contestants.values()
            ]
        )
    print(f"{'products until the pair converges; gap':44}" + "".join(f"{gap:9g}" for gap in GAPS))
    for name, row in zip(contestants, zip(*columns, strict=True), strict=True):
        print(f"{name:44}" + "".join(f"{one:9.1f}" for one in row), flush=True)


def converged(data: tuple[Any, Any], seed: int, **options: Any) -> float:
    """The products until the pair converges to the default tolerance; infinite beyond 200."""
    found = solve(
        Samples(*data),
        1,
        seed=seed,
        complete=None,
        certify="none",
        max_matvecs=200,
        **{"solver": "accel_power", **options},
    )
    return found.matvecs if found.status == "converged" else np.inf


# -- a network ---------------------------------------------------------------------------------------------


def network(trials: int) -> None:
    digits = find_problem("demo:digits")
    x, y = one_batch(digits)
    operator = bind(replace(digits, data=list(zip(x.split(BATCH), y.split(BATCH), strict=True)))).operator()
    exact = solve(operator, 2, tol=1e-4).values
    print(f"{len(x.split(BATCH))} batches of {BATCH}, |l_1| {abs(exact[0]):.2f}, |l_2| {abs(exact[1]):.2f}")
    print("products until the relative error stays below")
    print(f"{'':44}" + "".join(f"{tol:9g}" for tol in TOLERANCES))
    for name, options in contestants(float(exact[1])).items():
        found = [products(operator, float(exact[0]), seed, **options) for seed in range(trials)]
        medians = [float(np.median(column)) for column in zip(*found, strict=True)]
        print(f"{name:44}" + "".join(f"{one:9.1f}" for one in medians), flush=True)


def contestants(second: float) -> dict[str, dict[str, Any]]:
    """The solvers with their options, given the second eigenvalue."""
    best = (second / 2) ** 2
    found: dict[str, dict[str, Any]] = {
        "lanczos": {"solver": "lanczos"},
        "steps on all data, momentum found": {},
        "steps on all data, best momentum": {"momentum": best},
    }
    for batches in (1, 5, 15):
        found[f"{batches} batches, momentum found"] = {"batches": batches}
    found["15 batches, no momentum"] = {"batches": 15, "momentum": 0.0}
    found["15 batches, best momentum"] = {"batches": 15, "momentum": best}
    found["15 batches, without variance reduction"] = {"batches": 15, "variance_reduction": False}
    return {name: {"solver": "accel_power", **options} for name, options in found.items()}


def products(operator: Any, exact: float, seed: int, **options: Any) -> list[float]:
    """The products after which the error stays below each tolerance; infinite if there are none."""
    steps: list[Step] = []
    keep: Callable[[Step], None] = steps.append
    solve(
        operator,
        1,
        seed=seed,
        complete=None,
        certify="none",
        max_matvecs=MOST,
        progress=keep,
        **options,
    )
    errors = [abs(step.values[0] / exact - 1) for step in steps]
    above = [max((i for i, error in enumerate(errors) if error > tol), default=-1) + 1 for tol in TOLERANCES]
    return [steps[i].matvecs if i < len(steps) else np.inf for i in above]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--network", action="store_true")
    arguments = parser.parse_args()
    if arguments.network:
        network(arguments.trials)
    else:
        pictures(arguments.trials, arguments.samples)
        gaps(arguments.trials)


if __name__ == "__main__":
    main()
