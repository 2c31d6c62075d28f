"""eigen analyze: the eigenpairs of a problem, and the analyses."""

from __future__ import annotations

from typing import Any

import click

from eigencore.cli.completion import lists_of
from eigencore.cli.config_file import config_option
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.lists import ListType, names_in
from eigencore.cli.log_file import log_option
from eigencore.cli.output import csv_option
from eigencore.cli.problem_options import (
    backend_option,
    certify_option,
    complete_option,
    device_option,
    dtype_option,
    kind_option,
    max_matvecs_option,
    max_seconds_option,
    out_option,
    params_option,
    problem_argument,
    rtol_option,
    samples_option,
    seed_option,
    set_option,
    solver_option,
    tol_option,
    which_option,
)
from eigencore.cli.report_file import html_option
from eigencore.cli.resume import resume_option, save_every_option
from eigencore.cli.run_command import run_and_print
from eigencore.cli.sweep import checkpoints_argument, refuse_sweep_options, run_sweep, sweep_options
from eigencore.entries import DEFAULT_K, AnalysisEntry


@click.command()
@problem_argument
@checkpoints_argument
@backend_option
@solver_option
@click.option(
    "-k",
    type=int,
    default=DEFAULT_K,
    show_default=True,
    metavar="K",
    help="Number of eigenpairs; 0: none, for analyses that need none.",
)
@kind_option
@params_option
@which_option
@tol_option
@complete_option
@seed_option
@max_matvecs_option
@max_seconds_option
@certify_option
@samples_option
@rtol_option
@device_option
@dtype_option
@click.option(
    "--analyses",
    type=ListType(),
    callback=names_in,
    metavar="A,B",
    shell_complete=lists_of(AnalysisEntry),
    help="Analyses to run, or none.  [default: those that run by default, if the problem allows them]",
)
@set_option
@sweep_options
@config_option
@out_option
@resume_option
@save_every_option
@csv_option
@html_option
@log_option
@json_flag
@verbose_flag
def analyze(
    checkpoints: tuple[str, ...],
    jobs: int | str,
    retry: bool,
    as_json: bool,
    csv: str | None,
    html: str | None,
    **arguments: Any,
) -> int:
    """Compute the top eigenpairs of PROBLEM with a certificate, and run the analyses.

    PROBLEM is a name (see `eigen problems`; by default demo:digits), path/file.py:FACTORY, module:FACTORY, or
    a symmetric matrix in a file .npy, .npz or .mtx. FACTORY is a function that returns an eigencore.Problem,
    a tuple (model, data, loss), or a matrix.

    CHECKPOINTS are files of weights. Each becomes a row of a table, computed as the problem at its weights,
    by as many processes as --jobs says; the same command continues where a sweep was stopped, from the rows
    in --out DIR, which also has a folder for the run of each one.

    Exit codes: 0 done; 1 failed; 2 usage error; 3 a pair did not converge, or a limit ended an analysis; 4 a
    plugin failed; 130 interrupted, 143 by SIGTERM.
    """
    if checkpoints:
        problem, own = arguments.pop("problem"), {"jobs": jobs, "retry": retry}
        return run_sweep(problem, checkpoints, {**arguments, **own}, as_json=as_json, csv=csv, html=html)
    refuse_sweep_options(jobs, retry)
    return run_and_print(arguments, as_json, csv, html)
