"""`analyze` with `samples` or `rtol`: which analyses may run, and what they are given.

An analysis that can be computed from a sample of the data has an option `samples`, the number of samples, and
one that computes a number to an accuracy also an option `rtol`. Its operator is a MeanOperator, if the data
can be sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from eigencore.entries import AnalysisEntry
from eigencore.errors import UsageError
from eigencore.options import describe
from eigencore.pipeline.setup import names_of
from eigencore.registry import load_options, registry

if TYPE_CHECKING:
    from eigencore.pipeline.setup import Options


def give_samples(
    analyses: str | Iterable[str] | None, options: Options, samples: int | None, rtol: float | None
) -> tuple[tuple[str, ...], Options]:
    """The analyses to run, and the options with `samples` and `rtol` for each of them.

    Analyses that run by default are left out, since they need all data. Options that the caller gives to an
    analysis take precedence.

    Raises:
        UsageError: an analysis that is named can't be computed from a sample, or to an accuracy.
        UnknownNameError: no analysis has that name.
    """
    given = {"samples": samples, "rtol": rtol}
    given = {option: value for option, value in given.items() if value is not None}
    names = () if analyses is None else names_of(analyses)
    merged: dict[str, Mapping[str, Any]] = dict(options)
    for name in names:
        entry = registry().find(AnalysisEntry, name)
        declared = options_of(entry)
        if "samples" not in declared:
            raise UsageError(
                f"{' and '.join(given)} can't be given with the analysis {name}, which needs all data",
                hint=f"Run {name} without {' and '.join(given)}.",
            )
        if "rtol" in given and "rtol" not in declared:
            raise UsageError(
                f"rtol can't be given with the analysis {name}, which computes no number to an accuracy",
                hint=f"Give samples, the number of samples, or run {name} without rtol.",
            )
        merged[entry.name] = {**given, **merged.get(entry.name, {})}
    return names, merged


def options_of(entry: AnalysisEntry) -> frozenset[str]:
    """The names of the options that an analysis declares."""
    declared = load_options(entry)
    return frozenset() if declared is None else frozenset(one.name for one in describe(declared))
