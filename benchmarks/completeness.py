"""Claim: of answers that are called complete at 99 %, at most one in a hundred misses an eigenvalue.

    python benchmarks/completeness.py [--solvers lanczos,arpack] [--answers 2000] [--complete 0.99]
    python benchmarks/completeness.py --hard [--solvers lanczos,arpack]

The first one plants eigenvalues where a solver is likely to miss them (tests/kit/planted.py), and starts it
from random, right, wrong, hostile and resumed vectors. It goes on until so many answers of each solver are
called complete. The second one solves some 300 hard matrices for every end of the spectrum, in float32 and
float64 (tests/kit/hard_matrices.py). Wrong means: called complete, but further from the wanted eigenvalues
than twice the tolerance. Time is not measured, so the numbers are the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from eigencore.entries import Capability, SolverEntry
from eigencore.registry import registry

# The planted spectra and the hard matrices belong to the tests of eigencore and are not installed.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kit.hard_matrices import hard_solves
from kit.planted import SPECTRA, STARTS, planted_cases

FAST = ("lanczos", "arpack")
SLOW_SIZE, SLOW_TOLERANCES = 300, (1e-1, 1e-2, 1e-3)
CAP = 3000
COLUMNS = ("complete", "wrong", "not complete", "not converged", "exception")


def solvers() -> list[SolverEntry]:
    """All solvers that need nothing but products."""
    entries = [registered.entry for registered in registry().entries(SolverEntry)]
    return [entry for entry in entries if entry.needs <= {Capability.PRODUCTS}]


def outcome(result, wrong: bool) -> str:
    if wrong:
        return "wrong"
    if result.complete:
        return "complete"
    return "not complete" if all(result.converged) and len(result.values) == result.k else "not converged"


def planted(entry: SolverEntry, answers: int, complete: float, seed: int) -> Iterator[tuple[str, str, str]]:
    """Kind, start and outcome of each case, until so many answers are called complete."""
    limits = {} if entry.name in FAST else {"largest": SLOW_SIZE, "tolerances": SLOW_TOLERANCES}
    called = 0
    for case in planted_cases(10 * answers, entry.which, seed=seed, **limits):
        try:
            result = case.solve(entry.name, complete=complete, max_matvecs=CAP)
        except Exception as error:
            print(f"  exception: {entry.name} {case}: {error!r}", flush=True)
            yield case.kind, case.begin, "exception"
            continue
        found = outcome(result, case.is_wrong(result))
        if found == "wrong":
            print(f"  wrong: {entry.name} {case}", flush=True)
        yield case.kind, case.begin, found
        called += found in ("complete", "wrong")
        if called >= answers:
            return


def hard(entry: SolverEntry, seeds: int) -> Iterator[tuple[str, str, str]]:
    """Family, end of the spectrum and outcome of each solve of a hard matrix."""
    largest = 1000 if entry.name in FAST else SLOW_SIZE
    for one in hard_solves(entry.which, largest=largest, seeds=seeds):
        try:
            result = one.solve(entry.name, max_matvecs=CAP)
        except Exception as error:
            print(f"  exception: {entry.name} {one}: {error!r}")
            yield one.family, one.which, "exception"
            continue
        found = outcome(result, one.is_wrong(result))
        if found == "wrong":
            print(f"  wrong: {entry.name} {one}: {result.values} instead of {one.wanted}")
        yield one.family, one.which, found


def table(counts: Counter, rows: list[str], column: int) -> None:
    print(f"  {'':22}" + "".join(f"{name:>15}" for name in COLUMNS))
    for row in [*rows, "all"]:
        numbers = Counter()
        for key, count in counts.items():
            if row in (key[column], "all"):
                numbers[key[2]] += count
        numbers["complete"] += numbers["wrong"]
        print(f"  {row:22}" + "".join(f"{numbers[name]:15}" for name in COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--solvers", help="names, separated by commas; default: all")
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--complete", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("error")  # an overflow is an exception, too
    for entry in solvers():
        if options.solvers and entry.name not in options.solvers.split(","):
            continue
        began = time.perf_counter()
        if options.hard:
            counts = Counter(hard(entry, options.seed + 1))
            rows = (sorted({key[0] for key in counts}), list(entry.which))
        else:
            counts = Counter(planted(entry, options.answers, options.complete, options.seed))
            rows = (list(SPECTRA), list(STARTS))
        print(f"{entry.name} ({time.perf_counter() - began:.0f} s)")
        for column, names in enumerate(rows):
            table(counts, names, column)


if __name__ == "__main__":
    main()
