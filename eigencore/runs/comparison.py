"""The function `compare`: several runs side by side, and what differs between them."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from eigencore.display import Reported, Tabular
from eigencore.errors import UsageError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult, Report
from eigencore.number_text import as_text
from eigencore.results import Run
from eigencore.runs.agreement import agreement, of_one_operator
from eigencore.runs.folder import load
from eigencore.runs.overlay import overlaid
from eigencore.runs.reports import report

Runs: TypeAlias = "Mapping[str, Run] | Iterable[Run | str | os.PathLike[str]]"
# Arguments that do not describe what was computed.
_IGNORED = {"out", "progress"}


@dataclass(frozen=True, repr=False)
class Comparison(Tabular, Reported):
    """Several runs side by side.

    Attributes:
        runs: the runs by name, in the order in which they were given.

    Example:
        import eigencore

        runs = {name: eigencore.analyze("demo:quadratic", solver=name) for name in ("lanczos", "arpack")}
        comparison = eigencore.compare(runs)
        print(comparison.verdict)
        print(comparison.columns["lambda_1"], comparison.differences)
    """

    runs: Mapping[str, Run]

    def __repr__(self) -> str:
        return f"Comparison of {', '.join(self.runs)}\n{self.verdict}"

    @property
    def columns(self) -> dict[str, Any]:
        """Each run (r,): name, lambda_1 to lambda_k, products, seconds, complete, and ANALYSIS.NUMBER.

        What a run does not have is NaN, and an empty text in a column of text.
        """
        rows = [_cells(name, run) for name, run in self.runs.items()]
        names = dict.fromkeys(column for row in rows for column in row)
        return {column: _column([row.get(column) for row in rows]) for column in names}

    @property
    def differences(self) -> dict[str, tuple[str, ...]]:
        """The arguments, options and versions that differ, each with its value in every run."""
        entries = [set(run.manifest.get("options", {})) for run in self.runs.values()]
        # The options of an entry that only some of the runs used follow from the choice of that entry.
        shared = set.intersection(*entries)
        settings = [_settings(run, shared) for run in self.runs.values()]
        names = dict.fromkeys(name for one in settings for name in one)
        found = {name: tuple(one.get(name, "-") for one in settings) for name in names}
        return {name: values for name, values in found.items() if len(set(values)) > 1}

    @property
    def same_operator(self) -> bool | None:
        """Whether all runs are of one operator; None if that is not known.

        The kind with its options, the parameters and the size are compared, and what the problem is: by the
        digest of its weights and data, which a saved run has, otherwise by its registered name and keywords.
        """
        return of_one_operator(self.runs)

    @property
    def verdict(self) -> str:
        """What differs between the runs, and whether their eigenvalues agree within their certificates."""
        differing = [name for name in self.differences if not name.startswith("version of ")]
        listed = f"differ in {', '.join(differing)}" if differing else "have the same arguments and options"
        return " ".join(filter(None, (f"{len(self.runs)} runs {listed}.", agreement(self.runs))))

    def report(self) -> Report:
        """The report of the comparison: tables with a column for each run, and overlaid figures."""
        names = tuple(self.runs)
        columns = {name: column for name, column in self.columns.items() if name != "run"}
        rows = tuple((name, *map(_cell, column.tolist())) for name, column in columns.items())
        tables = {"eigenvalues, cost and numbers": Table(("", *names), rows)}
        if self.differences:
            differing = tuple((name, *values) for name, values in self.differences.items())
            tables["what differs"] = Table(("", *names), differing)
        figures, left_out = overlaid({name: report(run).figures for name, run in self.runs.items()})
        notes = (f"Not overlaid, because they would have too many series: {', '.join(left_out)}.",)
        unfinished = [name for name, run in self.runs.items() if not run.manifest.get("finished", True)]
        found = AnalysisResult(
            verdict=self.verdict,
            tables=tables,
            columns=self.columns,
            figures=figures,
            remarks=notes if left_out else (),
            warnings=tuple(
                f"{name} is not finished: some pairs or analyses are missing" for name in unfinished
            ),
        )
        return Report(f"{len(names)} runs compared", (" · ".join(names),), {"comparison": found})


def compare(runs: Runs) -> Comparison:
    """Several runs side by side: their eigenvalues, numbers and figures, and what differs between them.

    Args:
        runs: runs by name; or runs and folders of saved runs, which are named by their folders.

    Raises:
        UsageError: there are fewer than two runs, or two have the same name.
        ResultError: a folder does not hold a run.

    Example:
        import eigencore

        runs = {f"seed {seed}": eigencore.analyze("demo:quadratic", k=3, seed=seed) for seed in (0, 1)}
        print(eigencore.compare(runs).verdict)
    """
    if isinstance(runs, Run | str | os.PathLike):
        raise UsageError("compare was given a single run; expected at least two")
    named = dict(runs) if isinstance(runs, Mapping) else _named(list(runs))
    if len(named) < 2:
        raise UsageError(
            f"compare was given {len(named)} run{'s' * (len(named) != 1)}; expected at least two"
        )
    for name, run in named.items():
        if not isinstance(run, Run):
            raise UsageError(f"{name} is of type {type(run).__name__}; expected a Run or the folder of one")
    return Comparison(named)


def _named(runs: Sequence[Run | str | os.PathLike[str]]) -> dict[str, Run]:
    loaded = [load(one) if isinstance(one, str | os.PathLike) else one for one in runs]
    places = [getattr(run, "folder", None) for run in loaded]
    short = [
        f"run {i}" if place is None else Path(os.path.abspath(place)).name
        for i, place in enumerate(places, 1)
    ]
    names = [
        str(place) if place is not None and short.count(name) > 1 else name
        for name, place in zip(short, places, strict=True)
    ]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(
            f"two runs are named {min(repeated)}", hint="Give runs by name: compare({'first': run, ...})."
        )
    return dict(zip(names, loaded, strict=True))


def _cells(name: str, run: Run) -> dict[str, Any]:
    eigen, cells = run.pairs, {"run": name}
    found: dict[str, Any] = dict(cells)
    if eigen is not None:
        found |= {f"lambda_{i}": float(value) for i, value in enumerate(eigen.values, start=1)}
        found["pairs converged"] = int(eigen.converged.sum())
        found["certificate bound"] = eigen.certificate.bound
        found["complete"] = "" if eigen.complete is None else as_text(eigen.complete)
        found |= {"products": eigen.matvecs, "seconds": eigen.seconds}
    for analysis, result in run.analyses.items():
        found |= {f"{analysis}.{number}": value for number, value in result.numbers.items()}
    return found


def _column(cells: Sequence[Any]) -> Any:
    if any(isinstance(cell, str) for cell in cells):
        return np.array(["" if cell is None else str(cell) for cell in cells])
    return np.array([math.nan if cell is None else float(cell) for cell in cells])


def _cell(value: Any) -> str:
    """Rows hold numbers of different size, so each is text of its own."""
    return as_text(None if isinstance(value, float) and math.isnan(value) else value)


def _settings(run: Run, entries: Container[str]) -> dict[str, str]:
    """The arguments, versions and options of these entries, as text by name."""
    manifest, eigen = run.manifest, run.pairs
    arguments = {**manifest.get("arguments", {})}
    if not arguments and eigen is not None:
        arguments = {name: getattr(eigen, name) for name in ("solver", "k", "which", "tol", "seed")}
    if "analyses" in arguments:  # what was used, where nothing was given
        used = manifest.get("unasked") if arguments["analyses"] is None else arguments["analyses"]
        arguments |= {"analyses": ", ".join(used or ()) or "none", "backend": manifest.get("backend")}
    found = {name: as_text(value) for name, value in arguments.items() if name not in (*_IGNORED, "options")}
    for entry, options in manifest.get("options", {}).items():
        if entry in entries:
            found |= {f"{entry}.{name}": as_text(value) for name, value in (options or {}).items()}
    found |= {name: as_text(manifest[name]) for name in ("device", "dtype", "digest") if manifest.get(name)}
    found |= {f"version of {name}": as_text(one) for name, one in manifest.get("versions", {}).items()}
    return found
