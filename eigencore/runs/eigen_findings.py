"""Eigenpairs as findings: the verdict, the table, what is proved of them, and their figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore.figures import Figure, Reference, fitting_scale
from eigencore.results import AnalysisResult, EigenResult, Status
from eigencore.runs.eigen_text import (
    CONTRADICTION,
    certificate_lines,
    cost,
    eigenvalue_table,
    of_a_sample,
)
from eigencore.runs.sampling_text import sampling_lines

if TYPE_CHECKING:
    from collections.abc import Sequence


def eigenvalues(eigen: EigenResult, exact: Sequence[float] | None = None) -> AnalysisResult:
    """The eigenpairs as findings: their status, table, certificate and figures.

    Args:
        exact: the exact eigenvalues, if they are known.
    """
    lines = [cost(eigen), *certificate_lines(eigen), *sampling_lines(eigen.sampling)]
    ended = eigen.status is Status.CONVERGED
    contradictions = [line for line in lines if line == CONTRADICTION]
    return AnalysisResult(
        verdict=_verdict(eigen),
        tables={"eigenvalues": eigenvalue_table(eigen, exact)},
        columns=eigen.columns,
        figures=tuple(filter(None, (_values_figure(eigen), _history_figure(eigen)))),
        warnings=tuple(map(_sentence, (*([] if ended else [eigen.advice]), *contradictions))),
        remarks=tuple(map(_sentence, (*(line for line in lines if line != CONTRADICTION), *eigen.notes))),
        matvecs=eigen.matvecs,
        seconds=eigen.seconds,
    )


def _verdict(eigen: EigenResult) -> str:
    """The eigenvalues in a sentence, how the solve ended, and whether one was missed."""
    values, complete = eigen.values, eigen.complete
    if not len(values):
        return "There are no eigenvalues."
    of_sample = " of the sample" if of_a_sample(eigen) else ""
    if len(values) == 1:
        found = f"The eigenvalue{of_sample} is {values[0]:.6g}"
    elif (np.diff(values) <= 0).all() or (np.diff(values) >= 0).all():
        found = f"The eigenvalues{of_sample} are {values[0]:.6g} to {values[-1]:.6g}"
    else:  # of both signs, in the order of their magnitudes
        found = f"The eigenvalues{of_sample} lie between {values.min():.6g} and {values.max():.6g}"
    ended = f"{found}; {eigen.advice}" if eigen.status is Status.CONVERGED else found
    missed = {True: "none was missed", False: "one may have been missed"}
    if complete is None:
        return _sentence(ended)
    probability = eigen.certificate.complete_confidence
    at = "" if probability is None or not complete else f", at {100 * probability:.4g} %"
    return f"{_sentence(ended)} {_sentence(missed[complete] + at)}"


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}{'' if line.endswith('.') else '.'}"


def _values_figure(eigen: EigenResult) -> Figure | None:
    """The eigenvalues by rank, with the interval that the certificate proves."""
    values, proved = eigen.values, eigen.certificate
    if not len(values):
        return None
    name = "eigenvalue of the sample" if of_a_sample(eigen) else "eigenvalue"
    series, bands = {"x": np.arange(1, len(values) + 1), name: values}, {}
    if proved.bound is not None:
        bands[name] = (values - proved.bound, values + proved.bound)
    columns = eigen.columns
    if "estimate" in columns:
        series["eigenvalue of all data"] = columns["estimate"]
        bands["eigenvalue of all data"] = (columns["low"], columns["high"])
    scale = fitting_scale(values)
    references: tuple[Reference, ...] = () if scale == "log" else (Reference("y", 0.0),)
    above = proved.complete_above
    if proved.complete and above is not None and (bool((values > 0).all()) or eigen.which != "LM"):
        references += (Reference("y", above, "none above it was missed"),)
    if proved.complete and proved.complete_below is not None:
        references += (Reference("y", proved.complete_below, "none below it was missed"),)
    text = "The eigenvalues by rank"
    if proved.bound is not None:
        text += f", with the distance {proved.bound:.2g} within which the certificate places them"
    if "estimate" in columns:
        text += "; those of all data are estimates, with their intervals where these are known"
    return Figure(
        "scatter",
        "Eigenvalues",
        "rank",
        "eigenvalue",
        series,
        bands=bands,
        references=references,
        y_scale=scale,
        caption=f"{text}.",
    )


def _history_figure(eigen: EigenResult) -> Figure | None:
    """The largest ratio of an estimated residual to its threshold, over the products."""
    steps = [step for step in eigen.history if step.worst is not None and step.worst > 0]
    if len({step.worst for step in steps}) < 2:  # some solvers report no residuals on the way
        return None
    return Figure(
        "line",
        "Convergence",
        "products",
        "residual / threshold",
        {
            "x": np.array([step.matvecs for step in steps]),
            "worst pair": np.array([step.worst for step in steps]),
        },
        references=(Reference("y", 1.0, "converged"),),
        y_scale="log",
        caption="The largest ratio of an estimated residual norm to its threshold among the requested pairs, "
        "over the number of products. All pairs have converged once it is below 1.",
    )
