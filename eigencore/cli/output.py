"""What is printed of a result: text or JSON; and its table as CSV, in a file or in place of the text."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from eigencore.cli.completion import files
from eigencore.cli.failures import verbose
from eigencore.errors import ResultError, UsageError
from eigencore.processes import is_first

if TYPE_CHECKING:
    from eigencore.display import HasColumns
    from eigencore.results import Run

_FILES = "eigencore.files"  # of `Context.meta`: the option that names each file


def named_once(ctx: click.Context, parameter: click.Parameter, place: str | None) -> str | None:
    """A callback for options that name a file to write: raises UsageError if two name the same one."""
    if place not in (None, "", "-"):
        known, path = ctx.meta.setdefault(_FILES, {}), os.path.realpath(place)
        other = known.setdefault(path, parameter.opts[0])
        if other != parameter.opts[0]:
            raise UsageError(f"{other} and {parameter.opts[0]} name the same file, {place}")
    return place


csv_option = click.option(
    "--csv",
    metavar="FILE",
    callback=named_once,
    shell_complete=files,
    help="Write the table of eigenvalues, or without any that of the analysis or the attack, or the rows of "
    "several checkpoints, to this file as CSV, with all digits; -: print it in place of the text.",
)


def check_csv(place: str | None, as_json: bool) -> None:
    """Raises UsageError if the table can't be written there, before any work is done."""
    if place is None:
        return
    if place == "-":
        if as_json:
            raise UsageError("--csv - and --json both print on stdout", hint="Give --csv a file.")
        return
    folder = os.path.dirname(place) or "."
    if not place or os.path.isdir(place):
        raise UsageError(f"--csv is {place!r}; expected the name of a file, or - for stdout")
    if not os.path.isdir(folder):
        raise UsageError(f"--csv {place}: there is no folder {folder}")
    if not os.access(place if os.path.exists(place) else folder, os.W_OK):
        raise UsageError(f"--csv {place} can't be written to")


def print_result(run: Run, as_json: bool, csv_place: str | None) -> None:
    """Prints a run, and writes its table of eigenvalues if there is a place for it.

    Raises:
        ResultError: the file can't be written.
    """
    try:
        if as_json:
            from eigencore.runs import to_json

            sys.stdout.write(to_json(run))
        elif csv_place == "-":
            write_csv(_table_of(run), sys.stdout)
        else:
            from eigencore.cli.print_run import print_run

            print_run(run, everything=verbose())
        sys.stdout.flush()
    finally:  # also if the reader of our output has left, as `head` does
        if csv_place is not None:
            write_csv_file(_table_of(run), csv_place)


def _table_of(run: Run) -> HasColumns:
    """The eigenpairs, or the first analysis of a run that has none."""
    return run.pairs if run.pairs is not None else next(iter(run.analyses.values()))


def write_csv_file(table: HasColumns, place: str | None) -> None:
    """Writes a table to a file; nothing for None, or for "-", which is stdout.

    Raises:
        ResultError: the file can't be written.
    """
    if place in (None, "-") or not is_first():
        return
    try:
        with Path(place).open("w", encoding="utf-8", newline="") as file:
            write_csv(table, file)
    except (OSError, ValueError) as error:
        raise ResultError(f"the table can't be written to {place}: {error}") from error


def write_csv(table: HasColumns, file: IO[str]) -> None:
    """All digits of each number: read again, it is the same."""
    columns = {name: column.tolist() for name, column in table.columns.items()}
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
