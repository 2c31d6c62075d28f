"""What must hold of an analysis: each law is a function of it, and raises where it fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.errors import EigencoreError
from eigencore.results import AnalysisResult, Run
from eigencore.runs import host, load, save
from eigencore.testing.analysis_subject import AnalysisSubject
from eigencore.testing.laws import demand
from eigencore.testing.traces import refuse_global_randomness, refuse_printing

AnalysisLaw = Callable[[AnalysisSubject], None]

PLAIN = (bool, int, float, str, type(None))


def yields_results(subject: AnalysisSubject) -> None:
    """One at least; the last counts."""
    found = list(subject.results())
    demand(found, "it yielded nothing")
    for result in found:
        demand(isinstance(result, AnalysisResult), f"it yielded a {type(result).__name__}")


def tells_a_verdict(subject: AnalysisSubject) -> None:
    for result in subject.results():
        demand(isinstance(result.verdict, str) and result.verdict.strip(), "a result has no verdict")


def numbers_are_plain(subject: AnalysisSubject) -> None:
    """Numbers of the host, text or None: they are printed, and written as JSON."""
    for name, value in subject.last().numbers.items():
        demand(isinstance(value, PLAIN), f"the number {name!r} is a {type(value).__name__}")


def tables_are_whole(subject: AnalysisSubject) -> None:
    for name, table in subject.last().tables.items():
        for row in table.rows:
            told = f"the table {name!r} has {len(table.columns)} columns, and a row of {len(row)}"
            demand(len(row) == len(table.columns), told)
            odd = [type(cell).__name__ for cell in row if not isinstance(cell, PLAIN)]
            demand(not odd, f"the table {name!r} holds a {odd[:1]}; expected numbers, text or None")


def columns_are_of_one_length(subject: AnalysisSubject) -> None:
    """A value a sample, in arrays of any library."""
    lengths = {name: len(host(column)) for name, column in subject.last().columns.items()}
    demand(len(set(lengths.values())) <= 1, f"columns differ in length: {lengths}")


def can_be_saved(subject: AnalysisSubject) -> None:
    """And is the same when it is read again."""
    result = subject.last()
    with tempfile.TemporaryDirectory() as folder:
        save(Run(subject.context.eigen, {"analysis": _hosted(result)}), Path(folder) / "run")
        again = load(Path(folder) / "run").analyses["analysis"]
    demand(_told(again) == _told(result), "it is another after it was saved and read")


def what_was_told_stays(subject: AnalysisSubject) -> None:
    """A result that was yielded is not written into later: it may be all there is when a run is stopped."""
    before, results = [], []
    for result in subject.results():
        results.append(result)
        before.append(_told(result))
    demand([_told(result) for result in results] == before, "a result changed after it was yielded")


def closes_quietly(subject: AnalysisSubject) -> None:
    """It may be stopped after any result."""
    for stop in range(1, len(list(subject.results())) + 1):
        results = subject.results()
        for _ in range(stop):
            next(results)
        results.close()


def bears_pairs_that_did_not_converge(subject: AnalysisSubject) -> None:
    """A run may have been stopped: it says what it can, or in an EigencoreError that it can't."""
    try:
        found = list(subject.results(subject.unfinished))
    except EigencoreError:
        return
    demand(found, "it yielded nothing for a run that was stopped")


def leaves_the_eigenpairs_alone(subject: AnalysisSubject) -> None:
    eigen = subject.context.eigen
    before = [np.array(eigen.values), arrays.to_host(eigen.vectors), np.array(eigen.converged)]
    subject.last()
    after = [eigen.values, arrays.to_host(eigen.vectors), eigen.converged]
    same = all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    demand(same, "it changed the eigenpairs that it was given")


def same_seed_same_result(subject: AnalysisSubject) -> None:
    demand(_told(subject.last()) == _told(subject.last()), "two runs of a seed differ")


def global_randomness_is_left_alone(subject: AnalysisSubject) -> None:
    """It draws from generators of its own, seeded by the context."""
    subject.last()  # what is done once may import things
    refuse_global_randomness(subject.last)


def prints_nothing(subject: AnalysisSubject) -> None:
    """What is to be told goes into the result, or to the context's `progress`."""
    subject.last()
    refuse_printing(subject.last)


def _hosted(result: AnalysisResult) -> AnalysisResult:
    columns = {name: host(column) for name, column in result.columns.items()}
    return AnalysisResult(**{**vars(result), "columns": columns})


def _told(result: AnalysisResult) -> tuple[Any, ...]:
    """All that a reader can see of it, and compare: NaN equals NaN."""
    series = [
        (figure.kind, figure.title, [(name, host(x).tobytes()) for name, x in figure.series.items()])
        for figure in result.figures
    ]
    columns = [(name, host(column).tobytes()) for name, column in result.columns.items()]
    tables = [(name, table.columns, repr(table.rows)) for name, table in result.tables.items()]
    return (
        result.verdict,
        result.title,
        repr(dict(result.numbers)),
        tables,
        columns,
        series,
        tuple(result.warnings),
    )
