"""What an attack found, as findings: how many samples were fooled, and at which distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from eigencore.figures import Figure, Reference
from eigencore.results import AnalysisResult, AttackResult


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
    if len(found):
        numbers["median distance"] = float(np.median(found))
    return AnalysisResult(
        verdict=f"{result.attack} fooled {len(found)} of {samples - wrong} correctly classified samples"
        f"{radius}; the accuracy under attack is {100 * result.accuracy:.3g} %.",
        title=f"{result.attack}, {result.norm}, seed {result.seed}",
        numbers=numbers,
        columns=result.columns,
        figures=() if len(found) < 2 else (_distances_figure(result, np.sort(found)),),
        seconds=result.seconds,
    )


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
