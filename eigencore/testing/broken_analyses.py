"""Analyses that are wrong, each in one way and named for it: a check that fails none proves nothing."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigencore.interfaces import Analysis, AnalysisContext
from eigencore.results import AnalysisResult, Table

Results = Generator[AnalysisResult, None, None]


@dataclass(frozen=True)
class AnalysisSpecimen:
    """A broken analysis, and the law that catches it."""

    analysis: Analysis
    caught_by: str

    def __str__(self) -> str:
        return getattr(self.analysis, "__name__", "")


def spread(context: AnalysisContext, options: Any, /) -> Results:
    """One that is right: how the eigenvalues lie."""
    values = context.eigen.values
    yield AnalysisResult(verdict="looking", columns={"eigenvalue": values})
    largest = float(np.max(np.abs(values))) if len(values) else None
    table = Table(("rank", "eigenvalue"), tuple((i, float(value)) for i, value in enumerate(values)))
    yield AnalysisResult(
        verdict="seen", numbers={"largest": largest}, tables={"all": table}, columns={"eigenvalue": values}
    )


def says_nothing(context: AnalysisContext, options: Any, /) -> Results:
    yield from ()


def yields_text(context: AnalysisContext, options: Any, /) -> Any:
    yield "seen"


def has_no_verdict(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="")


def tells_arrays_as_numbers(context: AnalysisContext, options: Any, /) -> Results:
    numbers: Any = {"values": context.eigen.values}
    yield AnalysisResult(verdict="seen", numbers=numbers)


def leaves_a_cell_out(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="seen", tables={"all": Table(("rank", "eigenvalue"), ((1, 2.0), (2,)))})


def mixes_lengths(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="seen", columns={"a": np.zeros(3), "b": np.zeros(4)})


def keeps_objects(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="seen", tables={"all": Table(("what",), ((context.problem.__class__,),))})


def tells_infinity(context: AnalysisContext, options: Any, /) -> Results:
    """JSON has no word for it: it comes back as None."""
    yield AnalysisResult(verdict="seen", numbers={"largest": float("inf")})


def writes_into_what_it_told(context: AnalysisContext, options: Any, /) -> Results:
    numbers: dict[str, Any] = {"step": 1}
    yield AnalysisResult(verdict="looking", numbers=numbers)
    numbers["step"] = 2
    yield AnalysisResult(verdict="seen", numbers=numbers)


def will_not_stop(context: AnalysisContext, options: Any, /) -> Results:
    try:
        yield AnalysisResult(verdict="looking")
    finally:
        yield AnalysisResult(verdict="seen")


def needs_converged_pairs(context: AnalysisContext, options: Any, /) -> Results:
    first = int(np.flatnonzero(context.eigen.converged)[0])
    yield AnalysisResult(verdict=f"pair {first} is the first")


def changes_the_eigenpairs(context: AnalysisContext, options: Any, /) -> Results:
    context.eigen.values[:] = np.abs(context.eigen.values) + 1
    yield AnalysisResult(verdict="seen")


def draws_without_a_seed(context: AnalysisContext, options: Any, /) -> Results:
    yield AnalysisResult(verdict="seen", columns={"x": np.random.default_rng().standard_normal(4)})


def moves_the_global_state(context: AnalysisContext, options: Any, /) -> Results:
    random.random()
    yield AnalysisResult(verdict="seen")


def prints(context: AnalysisContext, options: Any, /) -> Results:
    print("seen")
    yield AnalysisResult(verdict="seen")


SPECIMENS = (
    AnalysisSpecimen(says_nothing, "yields_results"),
    AnalysisSpecimen(yields_text, "yields_results"),
    AnalysisSpecimen(has_no_verdict, "tells_a_verdict"),
    AnalysisSpecimen(tells_arrays_as_numbers, "numbers_are_plain"),
    AnalysisSpecimen(leaves_a_cell_out, "tables_are_whole"),
    AnalysisSpecimen(keeps_objects, "tables_are_whole"),
    AnalysisSpecimen(mixes_lengths, "columns_are_of_one_length"),
    AnalysisSpecimen(tells_infinity, "can_be_saved"),
    AnalysisSpecimen(writes_into_what_it_told, "what_was_told_stays"),
    AnalysisSpecimen(will_not_stop, "closes_quietly"),
    AnalysisSpecimen(needs_converged_pairs, "bears_pairs_that_did_not_converge"),
    AnalysisSpecimen(changes_the_eigenpairs, "leaves_the_eigenpairs_alone"),
    AnalysisSpecimen(draws_without_a_seed, "same_seed_same_result"),
    AnalysisSpecimen(moves_the_global_state, "global_randomness_is_left_alone"),
    AnalysisSpecimen(prints, "prints_nothing"),
)
