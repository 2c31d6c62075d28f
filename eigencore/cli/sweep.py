"""`eigen analyze PROBLEM CHECKPOINTS...`: a network at the weights of several files, a row each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eigencore.cli.completion import files
from eigencore.cli.output import check_csv, write_csv, write_csv_file
from eigencore.cli.page import page
from eigencore.cli.report_file import write_html
from eigencore.cli.study_command import jobs_option, print_rows, print_study_json, retry_option, run_study
from eigencore.errors import UsageError

if TYPE_CHECKING:
    from eigencore.pipeline.studies import Study

C = TypeVar("C", bound=Callable[..., Any])

checkpoints_argument = click.argument("checkpoints", nargs=-1, shell_complete=files)


def sweep_options(command: C) -> C:
    """A click decorator: the options of a sweep over checkpoints."""
    return jobs_option(1)(retry_option(command))


def refuse_sweep_options(jobs: int | str, retry: bool) -> None:
    """Raises UsageError if options of a sweep are given without checkpoints."""
    given = ["--jobs"] * (jobs != 1) + ["--retry"] * retry
    if given:
        raise UsageError(
            f"{given[0]} is given without checkpoints, of which it is an option",
            hint="Name the files of weights after the problem: eigen analyze FILE.py:FUNCTION *.pt",
        )


def run_sweep(
    problem: str,
    files_of_weights: tuple[str, ...],
    arguments: Mapping[str, Any],
    *,
    as_json: bool,
    csv: str | None,
    html: str | None,
) -> int:
    """Analyzes a problem at the weights of each file, and prints the rows. Returns the exit code.

    Args:
        arguments: those of `eigencore.study`, with options of the problem's factory under "problem".
    """
    from eigencore.pipeline.studies.checkpoints import checkpoints
    from eigencore.pipeline.studies.run_folders import sweep_places

    check_csv(csv, as_json)
    arguments, options = dict(arguments), dict(arguments["options"])
    members = checkpoints(problem, files_of_weights, options.pop("problem", {}))
    folder = arguments.pop("out")
    if folder is not None:
        arguments["out"], arguments["runs"] = sweep_places(folder)
    # A single process has all threads; several would take them from each other.
    threads = None if arguments["jobs"] == 1 else 1
    done, code = run_study(members, {**arguments, "options": options, "threads": threads})
    show_sweep(done, as_json=as_json, csv=csv, html=html)
    return code


def is_sweep(folder: str) -> bool:
    """Whether a folder holds the rows of a sweep."""
    from eigencore.pipeline.studies.run_folders import SWEEP_ROWS

    return os.path.isfile(os.path.join(folder, SWEEP_ROWS))


def show_sweep(done: Study, *, as_json: bool, csv: str | None, html: str | None) -> None:
    """Prints the rows, and writes their table and their page if there are files for them."""
    if not done.rows and not as_json:
        click.echo("no checkpoint is done yet", err=True)
        return
    try:
        if as_json:
            print_study_json(done)
        elif csv == "-":
            write_csv(done, sys.stdout)
        else:
            print_rows(done, page(), "checkpoint")
        sys.stdout.flush()
    finally:  # also if the reader of our output has left
        write_csv_file(done, csv)
        write_html(done, html)
