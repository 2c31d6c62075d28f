"""The report of an attack at several radii: one table and one figure in place of one for each radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eigencore.errors import UsageError
from eigencore.figures import Figure, Table
from eigencore.findings import AnalysisResult, Report
from eigencore.runs.reports import report

if TYPE_CHECKING:
    from eigencore.results import AttackResult


def attack_report(results: Sequence[AttackResult]) -> Report:
    """The report of what `attack` returned for several radii.

    Args:
        results: the results of one attack on the same samples, one for each radius; a single one, of any
            attack, is reported as `eigencore.report` does.

    Raises:
        UsageError: there is none, or they are not those of one attack on the same samples.

    Example:
        import eigencore
        from eigencore.attacks import attack_report

        found = eigencore.attack("demo:digits-numpy", "fgsm", eps=[0.05, 0.1], images=50)
        print(attack_report(found).parts["attack"].tables["accuracy by radius"].rows)
    """
    if not results:
        raise UsageError("there is no result of an attack to report; expected at least one")
    if len(results) == 1:
        return report(results[0])
    first = results[0]
    for other in results:
        if other.eps is None or (other.attack, other.norm) != (first.attack, first.norm):
            raise UsageError(
                "the results are not those of one attack at several radii",
                hint="Report each of them by eigencore.report.",
            )
        if not np.array_equal(other.labels, first.labels):
            raise UsageError("the results are not those of the same samples: their labels differ")
    return Report(f"Attack {first.attack}", (), {"attack": _findings(results)})


def _findings(results: Sequence[AttackResult]) -> AnalysisResult:
    ordered = sorted(results, key=lambda one: one.eps or 0.0)
    first, samples = ordered[0], len(ordered[0].labels)
    correct = int(first.correct.sum())
    passes = [round((one.forward + one.backward) / samples) for one in ordered]
    fooled = [int((one.success & one.correct).sum()) for one in ordered]
    listed = ", ".join(f"{100 * one.accuracy:.3g} % at {one.eps:g}" for one in ordered)
    rows = tuple(
        (one.eps, round(100 * one.accuracy, 2), count, own)
        for one, count, own in zip(ordered, fooled, passes, strict=True)
    )
    return AnalysisResult(
        verdict=f"Of {samples} samples, {correct} are classified correctly without a perturbation. The "
        f"accuracy under {first.attack} ({first.norm}) is {listed}.",
        title=f"{first.attack}, {first.norm}, seed {first.seed}",
        numbers={"samples": samples, "misclassified without a perturbation": samples - correct},
        tables={
            "accuracy by radius": Table(("eps", "accuracy %", "fooled", "passes per sample"), rows),
        },
        figures=(_accuracy_figure(ordered),),
        seconds=sum(one.seconds for one in ordered),
    )


def _accuracy_figure(ordered: Sequence[AttackResult]) -> Figure:
    first = ordered[0]
    # At radius zero, no attack is needed to know the accuracy.
    start = [] if first.eps == 0 else [(0.0, float(first.correct.mean()))]
    x, accuracy = np.array([*start, *((one.eps, one.accuracy) for one in ordered)]).T
    return Figure(
        "line",
        "Accuracy against eps",
        f"eps, {first.norm}",
        "accuracy",
        {"x": x, first.attack: accuracy},
        caption=f"The share of {len(first.labels)} samples that {first.attack} did not fool within each eps, "
        "found by one attack: the accuracy against the best attack is at most this.",
    )
