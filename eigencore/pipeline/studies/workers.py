"""Computes the rows of a study in worker processes, through joblib.

A member reaches its worker as bytes that cloudpickle wrote. joblib's own backend starts the processes, unless
the study is given the address of a cluster, or `joblib.parallel_config` chooses another backend.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from eigencore.errors import EigencoreError
from eigencore.interfaces import Problem
from eigencore.pipeline.run import analyze
from eigencore.pipeline.studies.engines import engine
from eigencore.pipeline.studies.members import Member
from eigencore.pipeline.studies.orphans import end_with
from eigencore.pipeline.studies.rows import StudyRow, failed_row, row_of
from eigencore.pipeline.studies.threads import limited
from eigencore.problems.sharing import requires_extras
from eigencore.runs.unfinished import is_unfinished, wait_until_free

WAIT = 10.0  # seconds, in which a worker of a study that was killed has noticed it


@dataclass(frozen=True)
class RowTask:
    """What a worker gets: a member without its problem, the problem as bytes, and how to analyse it.

    Attributes:
        folder: a folder to save the run in, or None.
        study: the process of the study. A worker that it started ends with it.
    """

    member: Member
    problem: bytes | Exception
    arguments: Mapping[str, Any]
    threads: int | None
    path: Sequence[str]
    folder: Path | None = None
    study: int = 0


def rows(
    members: Iterable[Member],
    arguments: Mapping[str, Any],
    jobs: int | str,
    threads: int | None,
    folders: Mapping[str, Path],
) -> Iterator[tuple[StudyRow, str]]:
    """The row of each member as soon as it is done, and the traceback of an error.

    Args:
        arguments: those of `analyze`.
        jobs: as for `study`; with 1, rows are computed in this process.
        threads: the number of threads of each; None: as many as the process has.
        folders: the folders that runs are saved in, by the name of the member.

    Raises:
        PluginError: a package is missing that studies need.
        EigencoreError: a worker process died.
    """
    joblib = _joblib()
    tasks = (
        joblib.delayed(compute_row)(
            RowTask(
                replace(member, problem=None),
                _pickled(member.problem),
                arguments,
                threads,
                tuple(sys.path),
                folders.get(member.name),
                os.getpid(),
            )
        )
        for member in members
    )
    # A task at a time: a row that is done is written, and a worker never waits for a share of its own.
    try:
        with engine(joblib, jobs) as processes:
            parallel = joblib.Parallel(n_jobs=processes, batch_size=1, return_as="generator_unordered")
            with contextlib.closing(parallel(tasks)) as found:
                yield from found
    except EigencoreError:
        raise
    except Exception as error:
        if type(error).__name__ not in ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker"):
            raise
        raise EigencoreError(
            f"a worker process of the study died: {type(error).__name__}",
            hint="Perhaps the memory was not enough: start the study again with fewer jobs. The rows that "
            "are done are kept.",
        ) from error


def compute_row(task: RowTask) -> tuple[StudyRow, str]:
    """The row of one member, and the traceback if it failed. Runs in the worker."""
    # The file of the members, and what it imports, are found where the study found them.
    end_with(task.study)
    sys.path[:0] = [place for place in task.path if place not in sys.path and os.path.isdir(place)]
    began, member = time.monotonic(), task.member
    # What a training loop prints must not mix with the output of the study.
    with limited(task.threads), contextlib.redirect_stdout(sys.stderr):
        try:
            if task.folder is not None:
                wait_until_free(task.folder, WAIT)
            resume = task.folder is not None and is_unfinished(task.folder)  # its worker died
            run = analyze(_problem(task), **task.arguments, out=task.folder, resume=resume)
        except (Exception, SystemExit) as error:
            row = failed_row(member, task.arguments["seed"], error, _since(began))
            return row, "".join(traceback.format_exception(error))
    details = "".join(failure.traceback for failure in run.failed.values())
    return row_of(member, run, _since(began)), details


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def _problem(task: RowTask) -> Any:
    if isinstance(task.problem, Exception):
        raise task.problem
    import cloudpickle

    problem = cloudpickle.loads(task.problem)
    made = callable(problem) and not isinstance(problem, Problem) and not hasattr(problem, "shape")
    return problem() if made else problem


def _pickled(problem: Any) -> bytes | Exception:
    """The problem as bytes, or why it has none, which becomes the error of its row."""
    import cloudpickle

    try:
        with _by_value(problem, cloudpickle):
            pickled: bytes = cloudpickle.dumps(problem)
            return pickled
    except Exception as error:
        return EigencoreError(
            f"the problem can't be sent to a worker process: {type(error).__name__}: {error}",
            hint="Give the member a function that makes the problem there.",
        )


@contextlib.contextmanager
def _by_value(problem: Any, cloudpickle: Any) -> Iterator[None]:
    """Functions of the module of the problem travel by value, if a worker can't import it by its name."""
    function = getattr(problem, "func", problem)  # of functools.partial
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = "" if module is None else module.__name__.partition(".")[0]
    if module is None or name in sys.builtin_module_names or PathFinder.find_spec(name) is not None:
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _joblib() -> Any:
    with requires_extras("a study", "study"):
        import cloudpickle  # noqa: F401 - used here later, and in the workers
        import joblib
        import threadpoolctl  # noqa: F401 - used in the workers
    return joblib
