"""Claim: `accel_power` finds its momentum at most 1.4 times as slowly as with the best momentum set by hand.

    python benchmarks/momentum.py [--seeds 5] [--tol 1e-6] [--constants]

The result is the median number of products until all pairs pass, without a certificate or a search for missed
eigenvalues, on bulks of 2,000 eigenvalues of one sign and of both: with the momentum found during the run,
with the best of several given ones, and, for k = 1, with the dynamic momentum of C. Austin, S. Pollock and
Y. Zhu, Dynamically accelerating the power iteration with momentum, Numer. Linear Algebra Appl. 31 (2024)
e2584, algorithm 3.1. `lobpcg` and `lanczos` are beside them. With --constants, it measures the constants in
eigencore_power/constants.py instead. Time is not measured, so the numbers are the same on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from eigencore import EigenResult, arrays, solve
from eigencore.testing.gallery import Case, filled
from eigencore_power import lobpcg, momentum

GAPS = (1e-1, 1e-2, 1e-3)
# The ends of the damped range that are tried by hand: below |l_{k+1}|, relative to it, and above, in gaps.
BELOW, ABOVE = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0), (0.05, 0.2)
MOST = 20_000
# Eigenvalues above a bulk from -4 to 4, and k: the k-th magnitude has both signs in most of them.
TIES = (
    *(([10, -10], 1), ([10, -10], 2), ([10, 8, -8], 2), ([10, 10, -10, -10], 1), ([10, 10, -10, -10], 2)),
    *(([10.001, 10, 10, 9.999, -9.999], 3), ([10, -9.98], 1), ([10, -9.9], 1)),
)


def gapped(gap: float, k: int, both_signs: bool) -> Any:
    """k eigenvalues, the least of them 1, over a bulk that is dense up to its end at 1 - gap."""
    return filled(2000, 1 + 0.1 * np.arange(k)[::-1], (gap - 1) * both_signs, 1 - gap)


def run(
    spectrum: Any, k: int, seed: int, tol: float, solver: str = "accel_power", **options: Any
) -> EigenResult:
    operator = Case("", np.asarray(spectrum, dtype=np.float64), k, rotated=False).operator()
    return solve(
        operator,
        k,
        solver=solver,
        seed=seed,
        tol=tol,
        complete=None,
        certify="none",
        max_matvecs=MOST,
        **options,
    )


def products(seeds: int, *arguments: Any, **options: Any) -> float:
    """The median over the seeds; an answer that has not converged counts as MOST."""
    spectrum, k, tol = arguments
    results = (run(spectrum, k, seed, tol, **options) for seed in range(seeds))
    return median(one.matvecs if one.status == "converged" else MOST for one in results)


def best_by_hand(seeds: int, spectrum: Any, k: int, tol: float, gap: float) -> float:
    edges = [*(part * (1 - gap) for part in BELOW), *(1 - gap + part * gap for part in ABOVE)]
    return min(products(seeds, spectrum, k, tol, momentum=(edge / 2) ** 2) for edge in edges)


def dynamic(spectrum: Any, tol: float, seed: int) -> int:
    """The products of the dynamic momentum of Austin, Pollock and Zhu, from the start vector of `solve`."""
    x = arrays.generator(seed, "start").standard_normal(len(spectrum))
    x, before, size, r, last = x / np.linalg.norm(x), np.zeros(len(spectrum)), 1.0, 0.0, np.inf
    for count in range(1, MOST):
        v = spectrum * x
        nu = x @ v
        distance = np.linalg.norm(v - nu * x)
        if distance <= tol * abs(nu):
            return count
        if count == 2:
            r = min(distance / last, 1.0)
        elif count > 2:
            rho = min(distance / last, 1.0)
            r = 2 * rho / (1 + rho**2)
        last = distance
        u = v - (nu * r / 2) ** 2 / size * before
        size = float(np.linalg.norm(u))
        x, before = u / size, x
    return MOST


def compare(seeds: int, tol: float) -> None:
    print("k  signs  gap     by hand  found  ratio  dynamic  ratio  lobpcg  lanczos")
    for k in (1, 5):
        for both in (False, True):
            for gap in GAPS:
                spectrum = gapped(gap, k, both)
                hand = best_by_hand(seeds, spectrum, k, tol, gap)
                found = products(seeds, spectrum, k, tol)
                others = [products(seeds, spectrum, k, tol, solver=name) for name in ("lobpcg", "lanczos")]
                signs = "both" if both else "one"
                row = f"{k}  {signs:5}  {gap:<6g}  {hand:7g}  {found:5g}  {found / hand:5.2f}"
                if k == 1:
                    theirs = median(dynamic(spectrum, tol, seed) for seed in range(seeds))
                    row += f"  {theirs:7g}  {theirs / hand:5.2f}"
                else:
                    row += " " * 16
                print(row + f"  {others[0]:6g}  {others[1]:7g}", flush=True)


def given(seeds: int) -> None:
    spectrum = np.append(1.0, np.linspace(0, 0.95, 999))
    for tol in (1e-2, 1e-3, 1e-4):
        count = products(seeds, spectrum, 1, tol, momentum=(0.95 / 2) ** 2)
        print(f"1 over linspace(0, 0.95, 999), momentum (0.95/2)^2, tol {tol:g}: {count:g} products")


# -- the constants -----------------------------------------------------------------------------------------


def over_values(module: Any, name: str, values: Iterable[float], measure: Callable[[], str]) -> Iterator[str]:
    yield f"{name}, now {getattr(module, name)}"
    for value in values:
        with patch.object(module, name, value):
            yield f"  {value:<8g} {measure()}"


def on_ties(seeds: int, tol: float) -> str:
    counts = [products(seeds, [*top, *np.linspace(-4, 4, 100)], k, tol) for top, k in TIES]
    return "ties " + " ".join(f"{count:g}" for count in counts) + "; " + on_bulks(seeds, tol)


def on_bulks(seeds: int, tol: float) -> str:
    parts = []
    for k in (1, 5):
        counts = [products(seeds, gapped(gap, k, both), k, tol) for both in (False, True) for gap in GAPS]
        parts.append(f"k = {k}: " + " ".join(f"{count:g}" for count in counts))
    return "bulks " + ", ".join(parts)


def at_both_ends(seeds: int, tol: float) -> str:
    """Wrong ends of 40 runs with 10 and -9.98 outside a random bulk, and products on bulks of one pair."""
    spectra = [[10, -9.98, *np.random.default_rng(seed).uniform(-9, 9, 300)] for seed in range(40)]
    wrong = sum(
        run(spectrum, 1, seed, tol, solver="lobpcg").values[0] < 0 for seed, spectrum in enumerate(spectra)
    )
    counts = [
        products(seeds, gapped(gap, 1, both), 1, tol, solver="lobpcg")
        for both in (False, True)
        for gap in GAPS
    ]
    return f"{wrong} of 40 wrong; " + " ".join(f"{count:g}" for count in counts)


def constants(seeds: int, tol: float) -> None:
    for name, values, measure in (
        ("TIE_TOLERANCE", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), on_ties),
        ("DAMPED_RANK", (0.0, 0.25, 0.5, 0.75, 1.0), on_ties),
        ("OTHER_END_PERIOD", (2, 4, 8, 16, MOST), at_both_ends),
    ):
        module = lobpcg if name == "OTHER_END_PERIOD" else momentum
        for line in over_values(module, name, values, lambda measure=measure: measure(seeds, tol)):
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--constants", action="store_true")
    arguments = parser.parse_args()
    if arguments.constants:
        constants(arguments.seeds, arguments.tol)
        return
    given(max(arguments.seeds, 20))
    compare(arguments.seeds, arguments.tol)


if __name__ == "__main__":
    main()
