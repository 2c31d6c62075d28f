"""Analyses that are broken on purpose, each in one way and named after it, and the law that detects each."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigencore.figures import Figure, Table
from eigencore.interfaces import Analysis, AnalysisContext
from eigencore.results import AnalysisResult

Results = Generator[AnalysisResult, None, None]


@dataclass(frozen=True)
class AnalysisSpecimen:
    """A broken analysis, and the law that detects it."""

    analysis: Analysis
    caught_by: str
    eigenpairs: bool = True  # what its entry declares

    def __str__(self) -> str:
        return getattr(self.analysis, "__name__", "")


def eigenvalue_table(context: AnalysisContext, options: Any, /) -> Results:
    """A correct analysis: a table of the eigenvalues."""
    values = context.eigen.values
    yield AnalysisResult(verdict="in progress", columns={"eigenvalue": values})
    largest = float(np.max(np.abs(values))) if len(values) else None
    table = Table(("rank", "eigenvalue"), tuple((i, float(value)) for i, value in enumerate(values)))
    yield AnalysisResult(
        verdict="done", numbers={"largest": largest}, tables={"all": table}, columns={"eigenvalue": values}
    )


def yields_nothing(context: AnalysisContext, options: Any, /) -> Results:
    yield from ()


def yields_text(context: AnalysisContext, options: Any, /) -> Any:
    yield "done"


def has_no_verdict(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="")


def returns_arrays_as_numbers(context: AnalysisContext, options: Any, /) -> Results:
    numbers: Any = {"values": context.eigen.values}
    yield AnalysisResult(verdict="done", numbers=numbers)


def omits_a_cell(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="done", tables={"all": Table(("rank", "eigenvalue"), ((1, 2.0), (2,)))})


def mixes_column_lengths(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="done", columns={"a": np.zeros(3), "b": np.zeros(4)})


def omits_a_number_of_a_figure(context: AnalysisContext, options: Any, /) -> Results:
    series = {"x": np.arange(4.0), "loss": np.arange(3.0)}
    yield AnalysisResult(verdict="done", figures=(Figure("line", "loss", "step", "loss", series),))


def omits_the_label_of_a_bar(context: AnalysisContext, options: Any, /) -> Results:
    figure = Figure("bar", "traces", "trace", "", {"trace": np.arange(3.0)}, labels=("conv1", "conv2"))
    yield AnalysisResult(verdict="done", figures=(figure,))


def puts_a_class_into_a_table(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="done", tables={"all": Table(("what",), ((context.problem.__class__,),))})


def returns_infinity(context: AnalysisContext, options: Any, /) -> Results:
    """JSON has no infinity: the number is None after it was loaded."""
    yield AnalysisResult(verdict="done", numbers={"largest": float("inf")})


def modifies_a_yielded_result(context: AnalysisContext, options: Any, /) -> Results:
    numbers: dict[str, Any] = {"step": 1}
    yield AnalysisResult(verdict="in progress", numbers=numbers)
    numbers["step"] = 2
    yield AnalysisResult(verdict="done", numbers=numbers)


def continues_when_closed(context: AnalysisContext, options: Any, /) -> Results:
    try:
        yield AnalysisResult(verdict="in progress")
    finally:
        yield AnalysisResult(verdict="done")


def needs_converged_pairs(context: AnalysisContext, options: Any, /) -> Results:
    first = int(np.flatnonzero(context.eigen.converged)[0])
    yield AnalysisResult(verdict=f"pair {first} is the first")


def modifies_the_eigenpairs(context: AnalysisContext, options: Any, /) -> Results:
    context.eigen.values[:] = np.abs(context.eigen.values) + 1
    yield AnalysisResult(verdict="done")


def ignores_the_seed(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="done", columns={"x": np.random.default_rng().standard_normal(4)})


def draws_from_the_global_generator(context: AnalysisContext, options: Any, /) -> Results:
    random.random()
    yield AnalysisResult(verdict="done")


def catches_the_end_of_the_budget(context: AnalysisContext, options: Any, /) -> Results:
    ones = context.operator.xp.ones(context.operator.shape[0], dtype=context.operator.dtype)
    with contextlib.suppress(BaseException):
        for _ in range(4):
            context.operator.matvec(ones)
    yield AnalysisResult(verdict="done")


def uses_pairs_that_its_entry_does_not_need(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict=f"{len(context.eigen.values)} pairs")


def prints(context: AnalysisContext, options: Any, /) -> Results:
    print("done")
    yield AnalysisResult(verdict="done")


SPECIMENS = (
    AnalysisSpecimen(yields_nothing, "yields_results"),
    AnalysisSpecimen(yields_text, "yields_results"),
    AnalysisSpecimen(has_no_verdict, "has_a_verdict"),
    AnalysisSpecimen(returns_arrays_as_numbers, "numbers_are_plain"),
    AnalysisSpecimen(omits_a_cell, "tables_are_complete"),
    AnalysisSpecimen(puts_a_class_into_a_table, "tables_are_complete"),
    AnalysisSpecimen(mixes_column_lengths, "columns_have_equal_lengths"),
    AnalysisSpecimen(omits_a_number_of_a_figure, "figures_can_be_drawn"),
    AnalysisSpecimen(omits_the_label_of_a_bar, "figures_can_be_drawn"),
    AnalysisSpecimen(returns_infinity, "can_be_saved"),
    AnalysisSpecimen(modifies_a_yielded_result, "yielded_results_do_not_change"),
    AnalysisSpecimen(continues_when_closed, "can_be_closed_after_any_result"),
    AnalysisSpecimen(needs_converged_pairs, "accepts_pairs_that_did_not_converge"),
    AnalysisSpecimen(modifies_the_eigenpairs, "eigenpairs_are_not_modified"),
    AnalysisSpecimen(ignores_the_seed, "same_seed_same_result"),
    AnalysisSpecimen(draws_from_the_global_generator, "global_random_state_is_unchanged"),
    AnalysisSpecimen(prints, "prints_nothing"),
    AnalysisSpecimen(catches_the_end_of_the_budget, "ends_with_the_products"),
    AnalysisSpecimen(uses_pairs_that_its_entry_does_not_need, "runs_without_eigenpairs", eigenpairs=False),
)
