"""Runs `study` for a command: its options, progress on stderr, and what is printed of the rows."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eigencore.cli.completion import files, lists_of, problem_names
from eigencore.cli.config_file import config_option
from eigencore.cli.failures import INTERRUPTED, NOT_CONVERGED
from eigencore.cli.lists import ListType, names_in
from eigencore.cli.log_file import log_option
from eigencore.cli.output import named_once
from eigencore.cli.problem_options import (
    backend_option,
    device_option,
    dtype_option,
    kind_option,
    max_matvecs_option,
    max_seconds_option,
    params_option,
    seed_option,
    set_option,
    tol_option,
    which_option,
)
from eigencore.entries import AnalysisEntry
from eigencore.errors import EigencoreError, Interrupted

if TYPE_CHECKING:
    from eigencore.cli.page import Page
    from eigencore.pipeline.studies import Study

C = TypeVar("C", bound=Callable[..., Any])


def _jobs(ctx: click.Context, parameter: click.Parameter, value: Any) -> int | str:
    """A number of processes, or the address of a cluster as text; `study` refuses what is neither."""
    try:
        return int(value)
    except ValueError:
        return str(value)


def jobs_option(default: int) -> Callable[[C], C]:
    """A click decorator: the option --jobs."""
    return click.option(
        "--jobs",
        type=click.UNPROCESSED,
        callback=_jobs,
        default=default,
        show_default=True,
        metavar="N|dask://HOST:PORT",
        help="Number of worker processes, -1: one for each core; or the address of a Dask cluster.",
    )


retry_option = click.option("--retry", is_flag=True, help="Compute rows again in which something failed.")

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("members", nargs=-1, required=True, shell_complete=problem_names),
    click.option(
        "--out",
        metavar="FILE",
        callback=named_once,
        shell_complete=files,
        help="File for the rows, of JSON lines; the rows of this study that it holds are not computed again.",
    ),
    jobs_option(-1),
    click.option(
        "--threads",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Number of threads of each worker; results depend on it by rounding.",
    ),
    retry_option,
    click.option(
        "--analyses",
        type=ListType(),
        callback=names_in,
        default="network,trace",
        show_default=True,
        metavar="A,B",
        shell_complete=lists_of(AnalysisEntry),
        help="Analyses of each network, or none.",
    ),
    click.option("-k", type=int, default=1, show_default=True, metavar="K", help="Number of eigenpairs."),
    *(backend_option, kind_option, params_option, which_option, tol_option, seed_option),
    *(max_matvecs_option, max_seconds_option, device_option, dtype_option, set_option),
    *(config_option, log_option),
)


def study_options(command: C) -> C:
    """A click decorator: the argument and the options of `run_study`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


rows_csv_option = click.option(
    "--csv",
    metavar="FILE",
    callback=named_once,
    shell_complete=files,
    help="Write all columns of the rows to this file as CSV, with all digits; -: print them in place of the "
    "text.",
)


def run_study(members: Any, arguments: Mapping[str, Any]) -> tuple[Study, int]:
    """Runs `eigencore.study` with these members and arguments. Returns the study and the exit code."""
    from eigencore.cli.progress import progress
    from eigencore.pipeline.studies.study import study

    try:
        # What a function of the user prints must not mix with our output.
        with contextlib.redirect_stdout(sys.stderr), progress(arguments["k"]) as draw:
            done = study(members, **arguments, progress=draw)
    except EigencoreError as error:
        error.partial = None  # the rows that are done, which are in the file if there is one
        raise
    except Interrupted as interrupted:
        done = interrupted.result
        kept = "the same command continues" if done.file else "without --out, they are not kept"
        click.echo(f"interrupted: {len(done.rows)} rows are done; {kept}", err=True)
        return done, INTERRUPTED
    if done.failed:
        return done, 1
    unconverged = any(not all(row.converged) for row in done.rows)
    return done, NOT_CONVERGED if unconverged else 0


def print_rows(done: Study, on: Page, called: str = "network") -> None:
    """Prints how many rows there are, a few columns of them, and what failed.

    Args:
        called: what each row is.
    """
    from eigencore.pipeline.studies.study_report import failure, shown_rows

    place = f" · {done.file}" if done.file else ""
    on.line(f"{len(done.rows)} {called}{'s' * (len(done.rows) != 1)}{place}", "bold")
    table = shown_rows(done.rows, done.columns)
    if table.rows:
        on.line()
        on.table(table.columns, table.rows)
    for row in done.failed:
        on.line(f"failed: {row.name}: {failure(row)}", "yellow")


def print_study_json(done: Study, **more: Any) -> None:
    """Prints the settings, the rows, and what else is named, as one JSON object."""
    from eigencore.runs import plain

    rows = [row.as_data() for row in done.rows]
    print(
        json.dumps(
            {"settings": done.settings, "rows": rows, **{name: plain(one) for name, one in more.items()}}
        )
    )
