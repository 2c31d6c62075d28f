"""Claim: the eigenvalues of all layers take less than solving layer by layer.

    python benchmarks/layers.py [--rounds 3]

CPU time in one process and thread, on demo:digits, for the largest eigenvalue of each of its eight
parameters: `eigencore.layers` without traces and without the whole operator, and one `solve` after another,
each of a problem that is bound anew, as `eigen analyze --params` does. With gradient graphs kept, and without
(torch.memory=none). The values agree to the tolerance. The median of the ratios is printed, with the lowest
and highest.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np
import torch
from records import keep_freed_memory, seconds_of

import eigencore
from eigencore import Problem
from eigencore.problems import find_problem

TOL = 1e-3


def together(problem: Problem, memory: str) -> list[float]:
    options = {"torch": {"memory": memory}}
    result = eigencore.layers(problem, tol=TOL, probes=0, whole=False, options=options)
    return result.values[:, 0].tolist()


def one_by_one(problem: Problem, memory: str) -> list[float]:
    found = []
    for name, _, _ in eigencore.bind(problem).layout():
        operator = eigencore.bind(problem, memory=memory).operator(params=name)
        found.append(float(eigencore.solve(operator, 1, tol=TOL).values[0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    problem = find_problem("demo:digits")
    for memory in ("auto", "none"):
        ratios = []
        for _ in range(arguments.rounds):
            ours, found = seconds_of(partial(together, problem, memory))
            theirs, expected = seconds_of(partial(one_by_one, problem, memory))
            np.testing.assert_allclose(found, expected, rtol=2 * TOL)
            ratios.append(ours / theirs)
        print(f"torch.memory={memory}: layers / one by one {statistics.median(ratios):.2f}", end=" ")
        print(f"({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
