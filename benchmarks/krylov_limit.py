"""Claim: `lanczos` needs hardly more products than the best possible single-vector Krylov method.

    python benchmarks/krylov_limit.py [--seeds 3]

The result is the number of products divided by the Krylov limit: the number of products that Lanczos without
restarts, fully reorthogonalised in float64 and with all its vectors in memory, needs from the same start
until its answer passes and is correct. It is a geometric mean over the prescribed spectra of tests/kit whose
limit is at least 8. Time is not measured, so the numbers are the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from eigencore import solve
from eigencore.testing.gallery import Case

# The spectra and the limit belong to the tests of eigencore and are not installed.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kit.krylov_limit import krylov_limit
from kit.spectra import bulk_edge_cases, large_cases

STAGES = {
    "until converged": {"certify": "none", "complete": None},
    "complete at 99 %": {"certify": "none"},
    "complete, with the certificate": {},
}


def right(case: Case, values: np.ndarray) -> bool:
    """Whether these are the wanted values; those of equal magnitude and opposite sign are interchangeable."""
    size = np.abs if case.which == "LM" else np.asarray
    got, wanted = np.sort(size(values)), np.sort(size(case.wanted))
    allowed = 2 * case.tol * np.abs(wanted) + 1e-12
    return len(got) == len(wanted) and bool(np.all(np.abs(got - wanted) <= allowed))


def ratios(cases: tuple[Case, ...], seeds: int) -> None:
    limits = {(case.name, seed): krylov_limit(case, seed=seed) for case in cases for seed in range(seeds)}
    for stage, options in STAGES.items():
        over, wrong = [], 0
        for case in cases:
            for seed in range(seeds):
                result = solve(case.operator(), case.k, which=case.which, tol=case.tol, seed=seed, **options)
                wrong += not right(case, result.values)
                limit = limits[case.name, seed]
                if limit is not None and limit >= 8:
                    over.append(result.matvecs / limit)
        mean = np.exp(np.mean(np.log(over)))
        print(f"  {stage:42} {mean:.3f} (worst {max(over):.2f}, {len(over)} runs); wrong {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    print("outliers, clusters, repeated eigenvalues, power laws, gaps")
    ratios(large_cases(), seeds)
    print("wanted eigenvalues at the edge of a bulk, for which a basis of 20 vectors is restarted many times")
    ratios(bulk_edge_cases(), seeds)


if __name__ == "__main__":
    main()
