"""eigen analyze: the eigenpairs of a problem, and the analyses."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from eigencore.cli.completion import folders, lists_of
from eigencore.cli.failures import INTERRUPTED, NOT_CONVERGED, json_flag, verbose, verbose_flag
from eigencore.cli.output import check_csv, csv_option, print_result
from eigencore.cli.problem_options import (
    backend_option,
    certify_option,
    complete_option,
    device_option,
    dtype_option,
    kind_option,
    params_option,
    problem_argument,
    seed_option,
    set_option,
    solver_option,
    tol_option,
    which_option,
)
from eigencore.entries import DEFAULT_K, AnalysisEntry
from eigencore.results import Status


def _names(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    """The names in "A,B"; an empty list for "none"."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    return [] if names == ["none"] else names


@click.command()
@problem_argument
@backend_option
@solver_option
@click.option("-k", type=int, default=DEFAULT_K, show_default=True, metavar="K", help="Number of eigenpairs.")
@kind_option
@params_option
@which_option
@tol_option
@complete_option
@seed_option
@click.option(
    "--max-matvecs",
    type=float,
    metavar="N",
    help="Maximum number of products, including those of the certificate.",
)
@click.option("--max-seconds", type=float, metavar="S", help="Maximum time, checked between products.")
@certify_option
@device_option
@dtype_option
@click.option(
    "--analyses",
    callback=_names,
    metavar="A,B",
    shell_complete=lists_of(AnalysisEntry),
    help="Analyses to run, or none.  [default: all that the problem allows]",
)
@set_option
@click.option(
    "--out",
    metavar="DIR",
    shell_complete=folders,
    help="Save the run in this folder; `eigen show DIR` prints it. A finished run in it is only replaced by "
    "a finished one.",
)
@csv_option
@json_flag
@verbose_flag
def analyze(as_json: bool, csv: str | None, **arguments: Any) -> int:
    """Compute the top eigenpairs of PROBLEM with a certificate, and run the analyses.

    PROBLEM is a name (see `eigen problems`; by default demo:digits), path/file.py:FACTORY, module:FACTORY, or
    a symmetric matrix in a file .npy, .npz or .mtx. FACTORY is a function that returns an eigencore.Problem,
    a tuple (model, data, loss), or a matrix.

    Exit codes: 0 done; 1 failed; 2 usage error; 3 a pair did not converge; 4 a plugin failed; 130
    interrupted.
    """
    from eigencore import pipeline
    from eigencore.cli.progress import progress

    check_csv(csv, as_json)
    code = None
    out = arguments["out"]
    replaces = out and os.path.exists(os.path.join(out, "result.json"))
    try:
        # What a model or a data loader prints must not mix with our output.
        with contextlib.redirect_stdout(sys.stderr), progress(arguments["k"]) as draw:
            run = pipeline.analyze(**arguments, progress=draw)
    except pipeline.RunInterrupted as interrupted:
        run, code = interrupted.run, INTERRUPTED
    print_result(run, as_json, csv)
    if verbose():
        for failure in run.failed.values():
            click.echo(failure.traceback, err=True, nl=False)
    if out and run.folder != Path(out):
        click.echo(
            f"{out} holds a finished run, which was kept; this unfinished run is saved in {run.folder}",
            err=True,
        )
    elif replaces and code is None:
        click.echo(f"replaced the earlier run in {out}", err=True)
    if code is not None:
        return code
    if run.failed:
        return max(failure.exit_code for failure in run.failed.values())
    return 0 if run.eigen.status is Status.CONVERGED else NOT_CONVERGED
