"""The function `study`: many networks, a row each, computed by worker processes and kept in a file."""

from __future__ import annotations

import inspect
import json
import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from eigencore.display import Reported, Tabular
from eigencore.entries import AnalysisEntry
from eigencore.errors import Interrupted, UsageError, attach
from eigencore.findings import Report
from eigencore.news import Progress, counter
from eigencore.pipeline.run import analyze
from eigencore.pipeline.setup import Options, names_of
from eigencore.pipeline.studies.engines import check_jobs
from eigencore.pipeline.studies.members import Member, find_members
from eigencore.pipeline.studies.rows import StudyRow
from eigencore.pipeline.studies.run_folders import run_folders
from eigencore.pipeline.studies.study_file import StudyFile, parse, read
from eigencore.pipeline.studies.study_report import failure, study_findings
from eigencore.pipeline.studies.workers import rows as computed_rows
from eigencore.processes import launched_process
from eigencore.registry import load, registry, resolve_options
from eigencore.request import Request
from eigencore.runs import plain
from eigencore.solving import interruption

DEFAULT_ANALYSES = ("network", "trace")
# The arguments of `analyze` that every network has in common.
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(analyze).parameters.items()
    if name not in ("problem", "data", "loss", "eigen", "out", "progress")
}
OWN_COLUMNS = ("name", "group", "seed", "seconds", "error")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study(Tabular, Reported):
    """The rows of a study, one for each network, in the order of the members.

    Attributes:
        rows: the rows that are done.
        settings: the arguments and versions that they were computed with.
        file: the file that holds them, or None.

    Example:
        import numpy as np
        import eigencore

        members = [eigencore.Member(f"{n}", np.diag(np.arange(1.0, n)), {"size": n}) for n in (30, 60)]
        study = eigencore.study(members, analyses="trace", k=1, jobs=1)
        print(study.columns["lambda_1"], study.columns["trace.trace"])
    """

    rows: tuple[StudyRow, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None

    @property
    def failed(self) -> tuple[StudyRow, ...]:
        """The rows in which something failed."""
        return tuple(row for row in self.rows if not row.complete)

    @property
    def columns(self) -> dict[str, Any]:
        """Each column (rows,): name, group, covariates, lambda_1 to lambda_k, and ANALYSIS.NUMBER.

        A number that is missing, or an eigenvalue that did not converge, is NaN; True and False are 1 and 0.
        A column with text is one of objects, None where the text is missing.
        """
        cells = [_cells(row) for row in self.rows]
        names = dict.fromkeys(name for row in cells for name in row)
        return {name: _column([row.get(name) for row in cells]) for name in names}

    def report(self) -> Report:
        """The report of the rows, with figures across the networks.

        Example:
            import numpy as np
            import eigencore

            members = [eigencore.Member(f"{n}", np.diag(np.arange(1.0, n))) for n in (30, 60)]
            report = eigencore.study(members, analyses="none", k=1, jobs=1).report()
            print(report.parts["networks"].tables["networks"].rows, len(report.figures))
        """
        count = f"{len(self.rows)} network{'s' * (len(self.rows) != 1)}"
        versions = ", ".join(f"{name} {one}" for name, one in self.settings.get("versions", {}).items())
        return Report(
            f"A study of {count}",
            () if self.file is None else (str(self.file),),
            {"networks": study_findings(self.rows, self.columns)},
            {"versions": versions} if versions else {},
        )

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> Study:
        """The study in a file that `study(out=...)` wrote. Raises ResultError if there is none.

        Example:
            import numpy as np
            import eigencore

            members = [eigencore.Member("a", np.diag([3.0, 1.0]))]
            eigencore.study(members, analyses="none", jobs=1, out="rows.jsonl")
            print(eigencore.Study.read("rows.jsonl").rows[0].eigenvalues)
        """
        path = Path(file)
        settings, rows = parse(read(path), path)
        return cls(tuple(rows.values()), settings, path)


def study(
    members: str | Member | Callable[..., Iterable[Member]] | Iterable[Member | str],
    *,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] | None = None,
    analyses: str | Iterable[str] | None = DEFAULT_ANALYSES,
    k: int = 1,
    seed: int = 0,
    jobs: int | str = -1,
    threads: int | None = 1,
    retry: bool = False,
    options: Options | None = None,
    progress: Progress | None = None,
    **keywords: Any,
) -> Study:
    """Analyses many networks in worker processes, a row each; a second start continues where one stopped.

    The file is written a row at a time. If the study is killed, the rows that are done remain, and the same
    call computes the others. With the same members, seed and number of threads, on the same type of
    processor, the finished file is the same however often the study was stopped, but for `seconds`.

    Args:
        members: a function that yields a Member for each network, or its name, "path/file.py:function" or
            "module:function"; the members themselves; or names of registered problems.
        out: a file for the rows, of JSON lines; None: they are only returned, and can't be continued.
        runs: a folder in which the run of each network is saved, too, as `analyze(out=...)` saves it, in a
            folder of its name; None: only the rows are kept.
        analyses: the analyses of each network, as for `analyze`; "none" or an empty list: only eigenvalues.
            By default `network`, which has the numbers that networks are compared by, and `trace`. None:
            those that run by default.
        k, seed: as for `analyze`, for every network.
        jobs: the number of worker processes; -1: one for each core. With 1, everything is computed in this
            process. "dask://HOST:PORT" is the address of a Dask cluster, whose workers have the same packages
            installed; rows of a worker that dies are computed again by another one. A backend that
            `joblib.parallel_config` selects, such as "ray", is used in place of processes.
        threads: the number of threads of a worker; None: as many as the process has.
        retry: whether rows in which something failed are computed again; otherwise they are kept.
        options: options by the name of their entry, as for `analyze`; those under "problem" are keywords of
            the function that yields the members.
        progress: called with a WorkDone before the first row and after every row, and with a line of text if
            rows are done already.
        **keywords: further arguments of `analyze`, such as kind, tol or max_seconds, for every network.

    Returns:
        The rows. An error of one network raises nothing: its row has the message.

    Raises:
        UsageError: an argument is invalid, or `out` was begun with other settings or members.
        PluginError: a package is missing that studies need; pip install "eigencore[study]".
        EigencoreError: the members can't be found or made, the file can't be used, or a worker process died.
            Its `.partial` is the Study with the rows that are done, if there are any.
        Interrupted: Ctrl-C was pressed; `.result` is the Study with the rows that are done.

    Example:
        import numpy as np
        import eigencore

        def networks():
            for scale in (1.0, 2.0):
                yield eigencore.Member(f"scale {scale:g}", lambda s=scale: s * np.diag([3.0, 1.0]))

        print(eigencore.study(networks, analyses="none", k=1, jobs=1).columns["lambda_1"])
    """
    names, given = None if analyses is None else list(names_of(analyses)), dict(options or {})
    own = given.pop("problem", {})
    arguments = {"k": k, "seed": seed, "analyses": names, "options": given, **keywords}
    check_jobs(jobs)
    _refuse_launched()
    resolved = _refuse_invalid(arguments, threads)
    found = find_members(members, own)
    _refuse_shared_columns(found, k)
    folders = {} if runs is None else run_folders(found, Path(runs).absolute())
    settings = _settings({**arguments, "options": {**given, **resolved}}, threads)
    file = None if out is None else StudyFile(Path(out), settings)
    done: dict[str, StudyRow] = {}
    try:
        if file is not None:
            file.refuse_other_members(found, retry=retry)
            named = {member.name for member in found}
            done = {
                name: row for name, row in file.rows.items() if name in named and (row.complete or not retry)
            }
        missing = [member for member in found if member.name not in done]
        computed = computed_rows(missing, arguments, jobs, threads, folders) if missing else ()
        _collect(computed, len(missing), done, file, progress)
        if file is not None:
            file.finish(found)
    except KeyboardInterrupt:
        raise Interrupted(_study(found, done, settings, file)) from None
    except BaseException as error:
        attach(error, partial=_study(found, done, settings, file) if done else None)
        raise
    finally:
        if file is not None:
            file.close()
    return _study(found, done, settings, file)


def _collect(
    found: Iterable[tuple[StudyRow, str]],
    count: int,
    done: dict[str, StudyRow],
    file: StudyFile | None,
    progress: Progress | None,
) -> None:
    """Puts each of so many rows into `done` and the file as soon as it is there."""
    if done and count and progress is not None:
        progress(f"{len(done)} of {len(done) + count} rows are done already")
    finished = counter(progress, "study", count, "rows")
    for computed, (row, details) in enumerate(found, start=1):
        with interruption() as stopped:  # Ctrl-C must not leave half a line
            done[row.name] = row
            if file is not None:
                file.append(row)
        log.info("row %s: %s", row.name, failure(row) or f"{row.seconds:.1f} s")
        if details:
            log.info("%s", details)
        finished(computed, f"{row.name}, {failure(row) or f'{row.seconds:.1f} s'}")
        if stopped.pressed:
            raise KeyboardInterrupt


def _study(
    members: Iterable[Member],
    done: Mapping[str, StudyRow],
    settings: Mapping[str, Any],
    file: StudyFile | None,
) -> Study:
    rows = tuple(done[member.name] for member in members if member.name in done)
    return Study(rows, settings, None if file is None else file.path)


def _refuse_launched() -> None:
    process = launched_process()
    if process is not None:
        raise UsageError(
            f"a launcher started {process.count} processes for this command, and each would compute all rows",
            hint="Start the command once, with --jobs N for processes that each compute other rows.",
        )


def _refuse_invalid(arguments: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """Raises an error for what would fail in every row; returns the resolved options of the analyses."""
    for name in arguments.keys() - DEFAULTS.keys():
        raise UsageError(
            f"study has no argument {name!r}", hint=f"It has those of analyze: {', '.join(sorted(DEFAULTS))}."
        )
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and not (whole and threads >= 1):
        raise UsageError(f"threads is {threads!r}; expected a whole number of at least 1, or None")
    names, options = arguments["analyses"], arguments["options"]
    if arguments["k"] != 0:
        Request(arguments["k"], arguments.get("which", "LM"), arguments.get("tol", 1e-3), arguments["seed"])
    elif names == []:
        raise UsageError("k is 0 and there is no analysis to run; expected at least 1, or an analysis")
    resolved = {}
    for name in names or ():
        entry = registry().find(AnalysisEntry, name)
        load(entry)
        resolved[entry.name] = resolve_options(entry, options.get(entry.name, {}))
        if entry.eigenpairs and arguments["k"] == 0:
            raise UsageError(f"k is 0, but the analysis {name} needs eigenpairs; expected at least 1")
    return resolved


def _refuse_shared_columns(members: Iterable[Member], k: int) -> None:
    own = {*OWN_COLUMNS, *(f"lambda_{i + 1}" for i in range(k))}
    for member in members:
        for name in member.covariates:
            if name in own:
                raise UsageError(
                    f"the covariate {name} of member {member.name} has the name of a column that every study "
                    "has",
                    hint="Give the covariate another name.",
                )


def _settings(arguments: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """What rows must have in common to be comparable, as JSON holds it."""
    versions = {name: metadata.version(name) for name in ("eigencore", "numpy", "scipy")}
    python = ".".join(platform.python_version_tuple()[:2])
    data = {
        "arguments": {**DEFAULTS, **arguments, "threads": threads},
        "versions": {"python": python, **versions},
    }
    settings: dict[str, Any] = json.loads(json.dumps(plain(data)))
    return settings


# -- columns -----------------------------------------------------------------------------------------------


def _cells(row: StudyRow) -> dict[str, Any]:
    values = {
        f"lambda_{i}": value if converged else None
        for i, (value, converged) in enumerate(zip(row.eigenvalues, row.converged, strict=True), 1)
    }
    numbers = {
        f"{analysis}.{name}": value for analysis, own in row.numbers.items() for name, value in own.items()
    }
    own = {"name": row.name, "group": row.group, "seed": row.seed}
    return {**own, **row.covariates, **values, **numbers, "seconds": row.seconds, "error": row.error or ""}


def _column(values: list[Any]) -> Any:
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
