"""The rows of a monitor as findings: a verdict, a table, and figures over the steps of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eigencore.figures import Figure, Table, fitting_scale
from eigencore.findings import AnalysisResult
from eigencore.pipeline.monitoring.look_rows import LookRow

# A figure for each of these: what it shows, how the names of its quantities begin, and the line above which
# steps are not stable.
SHARPNESS = (
    ("Largest eigenvalues", ("lambda_", "batch_sharpness"), "threshold"),
    ("Preconditioned sharpness", ("preconditioned_",), "preconditioned_threshold"),
    ("Critical sharpness", ("critical_sharpness",), "critical_threshold"),
)
ALIGNMENT = {"alignment": "with the first eigenvector", "gradient_share": "share in the top space"}
LABELS = {
    "lambda_max": "largest eigenvalue",
    "critical_sharpness": "2 / critical step",
    "preconditioned_sharpness": "largest eigenvalue",
    "batch_sharpness": "minibatches along their gradients",
}
THRESHOLD = "stability threshold"
ASIDE = ("step", "certificate", "complete", "matvecs", "seconds", "failed", "learning_rate", "loss")
DETAILS = ("_residual", "_low", "_high", "_passes", "threshold")
SHOWN_COLUMNS = 7


def monitor_findings(rows: Sequence[LookRow], columns: Mapping[str, Any], cost: str) -> AnalysisResult:
    """The rows as findings.

    Args:
        columns: their columns, those of `Monitor`.
        cost: a sentence without a full stop, such as "12 looks took 3 s".
    """
    failed = [row for row in rows if row.failed]
    looks = f"{len(rows)} look{'s' * (len(rows) != 1)}"
    complete = sum(row.complete is True for row in rows)
    verdict = f"{cost[0].upper()}{cost[1:]}."
    compared = _comparison(columns)
    return AnalysisResult(
        verdict=" ".join(filter(None, (compared, verdict))),
        title=looks,
        numbers={"looks": len(rows), "complete": complete, "failed": len(failed)},
        tables={"looks": look_table(columns)} if rows else {},
        columns=columns,
        figures=_figures(columns) if rows else (),
        warnings=_warnings(failed, len(rows)),
    )


def look_table(columns: Mapping[str, Any]) -> Table:
    """The step, the quantities themselves, and what proves them."""
    own = [name for name in columns if name not in ASIDE and _is_quantity(name)]
    own = [name for name in own if not name.startswith(("lambda_", "preconditioned_")) or name in LABELS]
    shown = [name for name in ("threshold", "preconditioned_threshold") if name in columns][:1]
    names = [*shown, *own][:SHOWN_COLUMNS]
    cells = [[_rounded(x) for x in columns[name]] for name in names]
    complete = [None if np.isnan(x) else bool(x) for x in columns["complete"]]
    steps = [int(x) for x in columns["step"]]
    return Table(
        ("step", *names, "complete", "products"),
        tuple(zip(steps, *cells, complete, map(_rounded, columns["matvecs"]), strict=True)),
    )


def _warnings(failed: Sequence[LookRow], looks: int) -> tuple[str, ...]:
    if not failed:
        return ()
    name, why = next(iter(failed[0].failed.items()))
    count = f"{len(failed)} of {looks} look{'s' * (looks != 1)} failed in whole or in part"
    return (f"{count}; first at step {failed[0].step}, {name}: {why}",)


def _comparison(columns: Mapping[str, Any]) -> str:
    """The last largest eigenvalue relative to its threshold, in a sentence; empty if there is no such row."""
    for name, threshold in (
        ("preconditioned_sharpness", "preconditioned_threshold"),
        ("lambda_max", "threshold"),
    ):
        if name in columns and threshold in columns:
            ratio = columns[name] / columns[threshold]
            known = np.flatnonzero(np.isfinite(ratio))
            if len(known):
                at = known[-1]
                named = "preconditioned sharpness" if name.startswith("pre") else "largest eigenvalue"
                return (
                    f"At step {columns['step'][at]}, the {named} is {columns[name][at]:.4g}, "
                    f"{ratio[at]:.3g} times the threshold of stability."
                )
    return ""


def _is_quantity(name: str) -> bool:
    """Whether a column is a quantity itself, and not what belongs to one, such as its residual."""
    return "." not in name and not name.endswith(DETAILS)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")


def _figures(columns: Mapping[str, Any]) -> tuple[Figure, ...]:
    drawn: list[Figure | None] = []
    used: set[str] = set()
    for title, start, threshold in SHARPNESS:
        names = [name for name in columns if name.startswith(start) and _is_quantity(name)]
        used |= {*names, threshold}
        series = {LABELS.get(name, name.replace("_", " ")): columns[name] for name in names}
        drawn.append(_figure(title, "curvature", series, columns, columns.get(threshold)))
    series = {label: columns[name] for name, label in ALIGNMENT.items() if name in columns}
    drawn.append(_figure("Alignment of the gradient", "alignment", series, columns, None))
    others = set(columns) - used - set(ALIGNMENT) - set(ASIDE)
    drawn += [
        _figure(name, name, {name: columns[name]}, columns, None)
        for name in columns
        if name in others and _is_quantity(name)
    ]
    return tuple(figure for figure in drawn if figure is not None)


def _figure(
    title: str, label: str, series: Mapping[str, Any], columns: Mapping[str, Any], threshold: Any
) -> Figure | None:
    """Quantities over the steps, with the threshold as a line that follows the learning rate."""
    finite = {name: np.where(np.isfinite(x), x, np.nan) for name, x in series.items()}
    finite = {name: x for name, x in finite.items() if not np.isnan(x).all()}
    if not finite:
        return None
    caption = f"{title} at {len(columns['step'])} steps of the training"
    if threshold is not None and not np.isnan(threshold).all():
        finite[THRESHOLD] = threshold
        caption += "; above the threshold, steps grow on a quadratic with this curvature"
    return Figure(
        "line",
        title,
        "step",
        label,
        {"x": columns["step"], **finite},
        y_scale=fitting_scale(np.concatenate(list(finite.values()))),
        caption=f"{caption}.",
    )
