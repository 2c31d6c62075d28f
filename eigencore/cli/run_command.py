"""Runs `analyze` for a command: progress, what is printed, and the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from eigencore.cli.failures import INTERRUPTED, NOT_CONVERGED, verbose
from eigencore.cli.output import check_csv, print_result
from eigencore.cli.report_file import write_html
from eigencore.cli.resume import begun, resumed_folder
from eigencore.errors import PluginError
from eigencore.processes import is_first


def run_and_print(arguments: dict[str, Any], as_json: bool, csv: str | None, html: str | None) -> int:
    """Runs `eigencore.analyze` with these arguments and prints the run. Returns the exit code."""
    check_csv(csv, as_json)
    out, resumed = arguments["out"], resumed_folder()
    if resumed is not None and out is None:  # it has ended
        return _print_ended(resumed, as_json, csv, html)
    code = None
    out = out if is_first() else None  # what is said about the folder
    replaces = out and not resumed and os.path.exists(os.path.join(out, "result.json"))
    with begun(arguments) as resume:
        from eigencore import pipeline
        from eigencore.cli.progress import progress

        try:
            # What a model or a data loader prints must not mix with our output.
            with contextlib.redirect_stdout(sys.stderr), progress(arguments["k"]) as draw:
                run = pipeline.analyze(**arguments, resume=resume, progress=draw)
        except pipeline.RunInterrupted as interrupted:
            run, code = interrupted.run, INTERRUPTED
    try:
        print_result(run, as_json, csv)
    finally:
        write_html(run, html)
    if verbose() and is_first():
        for failure in run.failed.values():
            click.echo(failure.traceback, err=True, nl=False)
    if out and run.folder != Path(out):
        click.echo(
            f"{out} holds a finished run, which was kept; this unfinished run is saved in {run.folder}",
            err=True,
        )
    elif replaces and code is None:
        click.echo(f"replaced the earlier run in {out}", err=True)
    for remark in run.manifest.get("resumption", ()) if is_first() else ():
        click.echo(remark, err=True)
    if code is not None:
        if out and not as_json:
            click.echo(f"`eigen analyze --resume {out}` continues the run", err=True)
        return code
    if run.failed:
        return max(failure.exit_code for failure in run.failed.values())
    return 0 if run.manifest["finished"] else NOT_CONVERGED


def _print_ended(folder: str, as_json: bool, csv: str | None, html: str | None) -> int:
    """Prints a run that has ended, as it was saved. Returns the exit code."""
    from eigencore.runs import load

    run = load(folder)
    try:
        print_result(run, as_json, csv)
    finally:
        write_html(run, html)
    if run.manifest["failed"]:
        return PluginError.exit_code
    return 0 if run.manifest["finished"] else NOT_CONVERGED
