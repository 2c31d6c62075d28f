"""Claim: first order predicts the distances, and no eigenvalue adds more to it than the second-order radius.

    python benchmarks/robustness.py

Runs the analysis `robustness` on the networks that come with eigencore, two of which differ only in
adversarial training, and saves its results, whether they support the claim or not.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from records import machine, save

import eigencore
from eigencore.interfaces import Problem
from eigencore.problems import find_problem
from eigencore.results import AnalysisResult

PROBLEMS = ("demo:digits", "demo:mnist", "demo:mnist-robust")


def study(problem: Problem) -> dict[str, Any]:
    run = eigencore.analyze(problem, k=3, analyses="robustness")
    if run.manifest["failed"]:
        raise SystemExit(f"{problem.name}: {run.manifest['failed']}")
    found = run.analyses["robustness"]
    print(problem.name, "·", found.title, "\n", found.verdict, flush=True)
    return {
        "description": problem.description,
        "title": found.title,
        "verdict": found.verdict,
        "numbers": dict(found.numbers),
        "tables": {
            name: {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
            for name, table in found.tables.items()
        },
        "above the distance": {
            name: share_above(found, name) for name in ("r1", "r1_in_box", "r_cautious", "r2")
        },
    }


def share_above(found: AnalysisResult, radius: str) -> float | None:
    """The fraction of fooled samples whose radius is larger than the distance found by the attack."""
    own, distance = found.columns[radius], found.columns["distance"]
    fooled = found.columns["correct"] & np.isfinite(distance)
    if np.isnan(own[fooled]).any():
        return None
    return round(float(np.mean(own[fooled] > distance[fooled])), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    studies = {name: study(find_problem(name)) for name in PROBLEMS}
    print(save("robustness", {**machine(), "networks": studies}))


if __name__ == "__main__":
    main()
