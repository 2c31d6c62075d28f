"""Claim: to show that no eigenvalue was missed takes few products, compared with those of the solver.

    python benchmarks/completeness_cost.py [--solvers deflated_power accel_power lobpcg arpack] [--seeds 2]

The result is the number of products with complete=0.99 divided by that with complete=None, both without a
certificate and from the same seed: the geometric mean over the prescribed spectra of tests/kit that the
solver solves within 2,000 products, over all of them and for each k. Beside it is the median of the products
added, and of those with complete=None. Time is not measured, so the numbers are the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from eigencore import EigenResult, solve
from eigencore.errors import UsageError
from eigencore.testing.gallery import Case

# The spectra belong to the tests of eigencore and are not installed.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from krylov_limit import right

from kit.spectra import large_cases

MOST = 2000


def run(case: Case, solver: str, seed: int, complete: float | None, most: int) -> EigenResult:
    return solve(
        case.operator(),
        case.k,
        which=case.which,
        tol=case.tol,
        seed=seed,
        solver=solver,
        complete=complete,
        certify="none",
        max_matvecs=most,
    )


def mean(ratios: list[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def measure(solver: str, seeds: int) -> None:
    ratios: dict[int, list[float]] = defaultdict(list)
    products: dict[int, list[float]] = defaultdict(list)
    slow = not_shown = wrong = wrong_alone = 0
    for case in large_cases():
        for seed in range(seeds):
            try:
                alone = run(case, solver, seed, None, MOST)
            except UsageError:  # the solver does not have this end of the spectrum
                break
            if alone.status != "converged":
                slow += 1
                continue
            complete = run(case, solver, seed, 0.99, 2 * MOST)
            ratios[case.k].append(complete.matvecs / alone.matvecs)
            products[case.k].append(alone.matvecs)
            not_shown += complete.complete is not True
            wrong += complete.complete is True and not right(case, complete.values)
            wrong_alone += not right(case, alone.values)
    every = [ratio for group in ratios.values() for ratio in group]
    sums = [sum(map(sum, products.values())), sum(np.dot(ratios[k], products[k]) for k in ratios)]
    print(f"{solver}: {mean(every):.3f} (worst {max(every):.2f}, {len(every)} runs; {slow} took too long)")
    print(f"  sum of all products {sums[1] / sums[0]:.3f}")
    print(f"  not shown complete {not_shown}; wrong although complete {wrong}; wrong alone {wrong_alone}")
    for k, group in sorted(ratios.items()):
        before = np.array(products[k])
        added = np.median((np.array(group) - 1) * before)
        print(
            f"  k = {k:2}: {mean(group):.3f} (worst {max(group):.2f}, {len(group)} runs; "
            f"{added:.0f} products added to {np.median(before):.0f})"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--solvers", nargs="+", default=["deflated_power", "accel_power", "lobpcg", "arpack"])
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    for solver in arguments.solvers:
        measure(solver, arguments.seeds)


if __name__ == "__main__":
    main()
