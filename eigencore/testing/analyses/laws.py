"""The laws of an analysis: well-formed results, repeatability, and no side effects."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.errors import EigencoreError
from eigencore.figures import check_figure
from eigencore.operators.counting import counting
from eigencore.results import AnalysisResult, Run
from eigencore.runs import host, load, save
from eigencore.solving import Budget, Halt, Interruption
from eigencore.testing.analyses.subject import AnalysisSubject
from eigencore.testing.checks import demand
from eigencore.testing.side_effects import refuse_global_randomness, refuse_printing

PLAIN = (bool, int, float, str, type(None))


def yields_results(subject: AnalysisSubject) -> None:
    """The analysis yields at least one AnalysisResult, and nothing else."""
    found = list(subject.results())
    demand(found, "it yielded nothing")
    for result in found:
        demand(
            isinstance(result, AnalysisResult),
            f"it yielded a {type(result).__name__}; expected an AnalysisResult",
        )


def has_a_verdict(subject: AnalysisSubject) -> None:
    """Every result has a sentence that sums it up."""
    for result in subject.results():
        demand(isinstance(result.verdict, str) and result.verdict.strip(), "a result has no verdict")


def numbers_are_plain(subject: AnalysisSubject) -> None:
    """The numbers are Python numbers, text or None, because they are printed and written as JSON."""
    for name, value in subject.last().numbers.items():
        demand(
            isinstance(value, PLAIN),
            f"the number {name!r} is a {type(value).__name__}; expected a Python number, text or None",
        )


def tables_are_complete(subject: AnalysisSubject) -> None:
    """Every row of a table has a plain value for each column."""
    for name, table in subject.last().tables.items():
        for row in table.rows:
            width = len(table.columns)
            demand(
                len(row) == width,
                f"the table {name!r} has a row of {len(row)} cells; expected one for each of {width} columns",
            )
            odd = [type(cell).__name__ for cell in row if not isinstance(cell, PLAIN)]
            demand(
                not odd, f"the table {name!r} has a cell of type {odd[:1]}; expected numbers, text or None"
            )


def columns_have_equal_lengths(subject: AnalysisSubject) -> None:
    """Each column has one value per sample, in an array of any library."""
    lengths = {name: len(host(column)) for name, column in subject.last().columns.items()}
    demand(len(set(lengths.values())) <= 1, f"the columns differ in length: {lengths}")


def can_be_saved(subject: AnalysisSubject) -> None:
    """The result is the same after it was saved and loaded."""
    result = subject.last()
    with tempfile.TemporaryDirectory() as folder:
        save(Run(subject.context.eigen, {"analysis": _on_host(result)}), Path(folder) / "run")
        again = load(Path(folder) / "run").analyses["analysis"]
    demand(_contents(again) == _contents(result), "the result differs after it was saved and loaded")


def figures_can_be_drawn(subject: AnalysisSubject) -> None:
    """The series, bands and labels of a figure fit its kind."""
    for figure in subject.last().figures:
        try:
            check_figure(figure)
        except ValueError as error:
            demand(False, str(error))


def yielded_results_do_not_change(subject: AnalysisSubject) -> None:
    """A result is not modified after it was yielded, because it remains if the run is stopped."""
    before, results = [], []
    for result in subject.results():
        results.append(result)
        before.append(_contents(result))
    demand([_contents(result) for result in results] == before, "a result was modified after it was yielded")


def can_be_closed_after_any_result(subject: AnalysisSubject) -> None:
    """The generator ends when it is closed, after any of its results."""
    for stop in range(1, len(list(subject.results())) + 1):
        results = subject.results()
        for _ in range(stop):
            next(results)
        results.close()


def accepts_pairs_that_did_not_converge(subject: AnalysisSubject) -> None:
    """For a run that was stopped, the analysis yields a result or raises an EigencoreError."""
    try:
        found = list(subject.results(subject.unfinished))
    except EigencoreError:
        return
    demand(found, "it yielded nothing and raised no EigencoreError for a run that was stopped")


def eigenpairs_are_not_modified(subject: AnalysisSubject) -> None:
    """The eigenpairs belong to the run and are not written to."""
    eigen = subject.context.eigen
    before = [np.array(eigen.values), arrays.to_host(eigen.vectors), np.array(eigen.converged)]
    subject.last()
    after = [eigen.values, arrays.to_host(eigen.vectors), eigen.converged]
    same = all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    demand(same, "it modified the eigenpairs of the run")


def same_seed_same_result(subject: AnalysisSubject) -> None:
    """Two runs with the same seed give the same result."""
    demand(_contents(subject.last()) == _contents(subject.last()), "two runs with the same seed differ")


def global_random_state_is_unchanged(subject: AnalysisSubject) -> None:
    """The analysis uses its own random generators, seeded by the context."""
    subject.last()  # the first run may import modules that draw numbers
    refuse_global_randomness(subject.last)


def prints_nothing(subject: AnalysisSubject) -> None:
    """An analysis prints nothing; it reports through its results and the `progress` of its context."""
    subject.last()
    refuse_printing(subject.last)


def ends_with_the_products(subject: AnalysisSubject) -> None:
    """If a product is refused, because the run's limit is reached, the analysis ends and catches nothing."""
    for most in (0, 1, 3):
        refused: list[float] = []
        budget = Budget(most, None, 0, Interruption())

        def before(cost: float, budget: Budget = budget, refused: list[float] = refused) -> None:
            if budget.refusal(cost) is not None:
                refused.append(cost)
                demand(len(refused) < 3, "it requested further products after one was refused")
            budget.before_product(cost)

        operator = counting(subject.context.operator, before=before)
        try:
            list(subject.results(replace(subject.context, operator=operator)))
        except Halt:
            continue
        demand(not refused, "a product was refused, and the analysis caught what was raised")


def runs_without_eigenpairs(subject: AnalysisSubject) -> None:
    """An analysis whose entry needs no eigenpairs yields a result without any."""
    found = list(subject.results(replace(subject.context, pairs=None)))
    demand(found, "it yielded nothing without eigenpairs")


def _on_host(result: AnalysisResult) -> AnalysisResult:
    columns = {name: host(column) for name, column in result.columns.items()}
    return AnalysisResult(**{**vars(result), "columns": columns})


def _contents(result: AnalysisResult) -> tuple[Any, ...]:
    """Everything that a reader sees of a result, in a form that can be compared: NaN equals NaN."""
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
