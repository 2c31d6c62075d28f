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
        over: list[tuple[Case, float]] = []
        wrong = complete = complete_but_wrong = 0
        for case in cases:
            for seed in range(seeds):
                result = solve(case.operator(), case.k, which=case.which, tol=case.tol, seed=seed, **options)
                is_right = right(case, result.values)
                wrong, complete = wrong + (not is_right), complete + bool(result.complete)
                complete_but_wrong += bool(result.complete) and not is_right
                limit = limits[case.name, seed]
                if limit is not None and limit >= 8:
                    over.append((case, result.matvecs / limit))
        all_runs = len(cases) * seeds
        print(f"  {stage}: {mean(over)} over {len(over)} runs, worst {max(ratio for _, ratio in over):.2f}")
        print(f"    without repeated eigenvalues {mean([one for one in over if not repeats(one[0])])}")
        for k in sorted({case.k for case, _ in over}):
            print(f"    k = {k}: {mean([one for one in over if one[0].k == k])}", end="")
        print(f"\n    of {all_runs}: wrong {wrong}, complete {complete}, of these wrong {complete_but_wrong}")


def mean(over: list[tuple[Case, float]]) -> str:
    """The geometric mean of some ratios."""
    return f"{np.exp(np.mean(np.log([ratio for _, ratio in over]))):.3f}" if over else "-"


def repeats(case: Case) -> bool:
    return len(np.unique(np.round(case.spectrum, 12))) < case.n


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
