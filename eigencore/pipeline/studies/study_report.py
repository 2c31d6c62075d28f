"""The rows of a study as findings: a table of a few columns, what failed, and figures across networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.figures import Figure, Reference, Table, fitting_scale
from eigencore.findings import AnalysisResult
from eigencore.pipeline.studies.checkpoints import DIGEST, NUMBER

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.pipeline.studies.rows import StudyRow

# The columns that are shown first, if a study has them.
COLUMNS = (
    *("network.clean_accuracy", "network.robust_accuracy", "network.median_distance"),
    *("network.median_r1", "network.lambda_clean", "network.train_loss"),
)
LABELS = {
    "network.lambda_clean": "largest eigenvalue over the weights",
    "network.robust_accuracy": "accuracy under attack",
    "network.median_distance": "median distance (L2)",
    "network.median_r1": "median r1 (L2)",
}
# The horizontal and the vertical axis of each figure.
FIGURES = (
    ("network.lambda_clean", "network.robust_accuracy"),
    ("network.lambda_clean", "network.median_distance"),
    ("network.median_r1", "network.median_distance"),
)
PREDICTS = ("network.median_r1", "network.median_distance")  # in the same unit
MOST_GROUPS = 8  # that colours tell apart
MOST_BARS = 30
_EIGENVALUE = re.compile(r"lambda_\d+")


def study_findings(rows: Sequence[StudyRow], columns: Mapping[str, Any]) -> AnalysisResult:
    """The rows of a study as findings.

    Args:
        rows: the rows that are done.
        columns: their columns (rows,), those of `Study`.
    """
    failed = [row for row in rows if not row.complete]
    failures = "none of them failed" if not failed else f"{len(failed)} of them failed, in whole or in part"
    return AnalysisResult(
        verdict=f"The study has the rows of {_count(len(rows))}; {failures}.",
        numbers={"networks": len(rows), "failed": len(failed)},
        tables={"networks": shown_rows(rows, columns)},
        columns=columns,
        figures=_figures(columns),
        warnings=tuple(f"{row.name} failed: {failure(row)}" for row in failed),
    )


def shown_rows(rows: Sequence[StudyRow], columns: Mapping[str, Any]) -> Table:
    """The name and a few columns of the rows that have results, to four digits."""
    shown = [name for name in COLUMNS if name in columns]
    shown = shown or [name for name in columns if name.startswith("lambda_") or "." in name][: len(COLUMNS)]
    return Table(
        ("name", *(name.rpartition(".")[2] for name in shown)),
        tuple(
            (row.name, *(_cell(columns[name][i]) for name in shown))
            for i, row in enumerate(rows)
            if row.error is None
        ),
    )


def failure(row: StudyRow) -> str:
    """Why a row has no results, or which of its analyses failed."""
    return row.error or "; ".join(f"{name} failed with {text}" for name, text in row.failed.items())


def _cell(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return value
    return None if np.isnan(value) else float(f"{value:.4g}")


def _count(networks: int) -> str:
    return f"{networks} network{'s' * (networks != 1)}"


def _figures(columns: Mapping[str, Any]) -> tuple[Figure, ...]:
    along = _along_numbers(columns)
    if along is not None:
        return (along,)
    pairs = [pair for pair in FIGURES if all(name in columns for name in pair)]
    found = [_scatter(columns, *pair) for pair in pairs]
    figures = tuple(figure for figure in found if figure is not None)
    if figures:
        return figures
    eigenvalues = _eigenvalues(columns)
    return () if eigenvalues is None else (eigenvalues,)


def _scatter(columns: Mapping[str, Any], across: str, up: str) -> Figure | None:
    """One column against another, with a series for each group; None below two networks with both."""
    known = np.isfinite(columns[across]) & np.isfinite(columns[up])
    count, left_out = int(known.sum()), int((~known).sum())
    if count < 2:
        return None
    x, y = columns[across][known], columns[up][known]
    groups = _groups(columns, known, LABELS[up])
    title = f"{_capital(LABELS[up])} against {LABELS[across]}"
    text = f"{title}, of {_count(count)}{f' in {len(groups)} groups' if len(groups) > 1 else ''}"
    low, high = (columns.get(f"{up}_{end}") for end in ("low", "high"))
    bands = {}
    if low is not None and high is not None:
        bands = {
            name: (np.where(own, low[known], np.nan), np.where(own, high[known], np.nan))
            for name, own in groups.items()
        }
        text += ", with the 95 % interval over the samples of each"
    sentences = [text]
    if (across, up) == PREDICTS:
        sentences.append("On the line, r1 predicts the median exactly")
    if left_out:
        lacking = "lacks one of them is" if left_out == 1 else "lack one of them are"
        sentences.append(f"{_count(left_out)} that {lacking} left out")
    return Figure(
        "scatter",
        title,
        LABELS[across],
        LABELS[up],
        {"x": x, **{name: np.where(own, y, np.nan) for name, own in groups.items()}},
        bands=bands,
        references=(Reference("diagonal", 1.0, "y = x"),) if (across, up) == PREDICTS else (),
        x_scale=fitting_scale(x),
        y_scale="linear" if up.endswith("accuracy") else fitting_scale(y),
        caption=f"{'. '.join(sentences)}.",
    )


def _groups(
    columns: Mapping[str, Any], known: npt.NDArray[np.bool_], otherwise: str
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which of the known rows (m,) belong to each group, by its name.

    Args:
        otherwise: the name of a single group of all rows, if there are no groups, or too many.
    """
    if "group" in columns and columns["group"].dtype == object:
        # The series "x" of a figure is its horizontal axis.
        names = {None: "no group", "x": "group x"}
        of = np.array([names.get(one, one) for one in columns["group"][known]])
        if 1 < len(set(of)) <= MOST_GROUPS:
            return {str(name): of == name for name in dict.fromkeys(of)}
    return {otherwise: np.ones(int(known.sum()), dtype=bool)}


def _along_numbers(columns: Mapping[str, Any]) -> Figure | None:
    """The eigenvalues against the numbers of checkpoints; None unless they are checkpoints with numbers.

    Of the checkpoints of several folders, it is the first eigenvalue, with a series of points for each one,
    because lines would be interrupted where two folders have other numbers.
    """
    numbers, values = columns.get(NUMBER), columns.get("lambda_1")
    if numbers is None or values is None or DIGEST not in columns or not np.isfinite(values).any():
        return None
    order = np.argsort(numbers, kind="stable")
    x = numbers[order]
    known = np.isfinite(x)
    if len(np.unique(x[known])) < 2:
        return None
    groups = _groups(columns, np.isfinite(numbers), "lambda_1")
    if len(groups) > 1:
        series = {name: np.where(own[order], values[order], np.nan) for name, own in groups.items()}
    else:
        names = [name for name in columns if _EIGENVALUE.fullmatch(name) and np.isfinite(columns[name]).any()]
        series = {name: columns[name][order] for name in names}
    every = np.concatenate(list(series.values()))
    what = "The first eigenvalue" if len(groups) > 1 or len(series) == 1 else f"{len(series)} eigenvalues"
    missing = int(np.isnan(values).sum())
    text = f"{what} of {len(x)} checkpoints, by the number in the name of each"
    return Figure(
        "scatter" if len(groups) > 1 else "line",
        "Eigenvalues along the checkpoints",
        "checkpoint",
        "eigenvalue",
        {"x": x, **series},
        y_scale=fitting_scale(every),
        caption=f"{text}; {missing} without a converged one." if missing else f"{text}.",
    )


def _eigenvalues(columns: Mapping[str, Any]) -> Figure | None:
    """The first eigenvalue of each network as a bar; None if there is none, or if there are too many."""
    values = columns.get("lambda_1")
    if values is None or not np.isfinite(values).any() or len(values) > MOST_BARS:
        return None
    missing = int(np.isnan(values).sum())
    text = f"The first eigenvalue of {_count(len(values))}"
    return Figure(
        "bar",
        "First eigenvalue by network",
        "eigenvalue",
        "",
        {"eigenvalue": values},
        labels=tuple(columns["name"]),
        caption=f"{text}; {missing} without a converged one." if missing else f"{text}.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
