"""What an attack found, as findings: how many samples were fooled, and at which distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from eigencore.figures import Figure, Reference, Table
from eigencore.results import AnalysisResult, AttackResult

QUANTILES = {"smallest": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "largest": 1.0}


def attacked(result: AttackResult) -> AnalysisResult:
    """What an attack found, as findings: how many samples were fooled, and at which distances."""
    found, samples = result.distance[result.success & result.correct], len(result.labels)
    wrong = int((~result.correct).sum())
    radius = "" if result.eps is None else f" within {result.norm} distance {result.eps:g}"
    numbers: dict[str, float | int | str | bool | None] = {
        "samples": samples,
        "misclassified without a perturbation": wrong,
        "fooled": int((result.success & result.correct).sum()),
        "accuracy under attack": result.accuracy,
        "forward passes": result.forward,
        "backward passes": result.backward,
    }
    return AnalysisResult(
        verdict=f"{result.attack} fooled {len(found)} of {samples - wrong} correctly classified samples"
        f"{radius}; the accuracy under attack is {100 * result.accuracy:.3g} %.",
        title=f"{result.attack}, {result.norm}, seed {result.seed}",
        numbers=numbers,
        tables={"distances": distance_table(result)} if len(found) else {},
        columns=result.columns,
        figures=() if len(found) < 2 else (_distances_figure(result, np.sort(found)),),
        seconds=result.seconds,
    )


def distance_table(result: AttackResult) -> Table:
    """Quantiles of the distances of the correctly classified samples; infinite where none was found.

    They are those of samples in the middle, and not between two of them, because a distance may be infinite.
    """
    distances = np.sort(result.distance[result.correct])
    picked = {name: float(distances[round(q * (len(distances) - 1))]) for name, q in QUANTILES.items()}
    return Table(("distance", *picked), (("of the correct ones", *picked.values()),))


def _distances_figure(result: AttackResult, found: Any) -> Figure:
    samples = len(result.labels)
    wrong = int((~result.correct).sum())
    fooled = wrong + np.arange(1, len(found) + 1)
    x = np.concatenate([[0.0], found])
    share = np.concatenate([[1 - wrong / samples], 1 - fooled / samples])
    return Figure(
        "line",
        "Accuracy within a distance",
        f"{result.norm} distance",
        "accuracy",
        {"x": x, result.attack: share},
        references=() if result.eps is None else (Reference("x", result.eps, "eps"),),
        caption=f"The share of {samples} samples that {result.attack} did not fool within a distance, found "
        "by one attack: the accuracy against the best attack is at most this.",
    )
