"""eigen analyze: the eigenpairs of a problem, and the analyses."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from eigencore.cli.completion import folders, lists_of, names
from eigencore.cli.failures import INTERRUPTED, json_flag, verbose, verbose_flag
from eigencore.cli.output import check_csv, csv_option, print_result
from eigencore.entries import (
    DEFAULT_BACKEND,
    DEFAULT_K,
    DEFAULT_KIND,
    DEFAULT_PROBLEM,
    DEFAULT_SOLVER,
    AnalysisEntry,
    BackendEntry,
    KindEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.errors import UsageError
from eigencore.request import WHICH
from eigencore.results import Status

NOT_CONVERGED = 3


def _options(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    """The values of --set ENTRY.OPTION=VALUE, by entry and option."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        entry, _, option = place.strip().rpartition(".")
        if not (equals and entry and option):
            raise UsageError(
                f"--set {text}; expected ENTRY.OPTION=VALUE, as in accel_power.momentum=auto",
                hint="`eigen solvers NAME`, `eigen backends NAME` and the like list the options.",
            )
        options.setdefault(entry, {})[option] = value
    return options


def _probability(ctx: click.Context, parameter: click.Parameter, text: str) -> float | None:
    """The number, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--complete is {text}; expected a probability above 0 and below 1, such as 0.99, or none"
        ) from None


def _names(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    """The names in "A,B"; an empty list for "none"."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    return [] if names == ["none"] else names


@click.command()
@click.argument("problem", default=DEFAULT_PROBLEM, shell_complete=names(ProblemEntry))
@click.option(
    "--backend",
    metavar="NAME",
    shell_complete=names(BackendEntry),
    help=f"Backend that builds the operator.  [default: the problem's own, or {DEFAULT_BACKEND}]",
)
@click.option(
    "--solver",
    default=DEFAULT_SOLVER,
    show_default=True,
    metavar="NAME",
    shell_complete=names(SolverEntry),
    help="Eigensolver; see `eigen solvers`.",
)
@click.option("-k", type=int, default=DEFAULT_K, show_default=True, metavar="K", help="Number of eigenpairs.")
@click.option(
    "--kind",
    default=DEFAULT_KIND,
    show_default=True,
    metavar="NAME",
    shell_complete=names(KindEntry),
    help="Kind of operator; see `eigen kinds`.",
)
@click.option(
    "--params",
    metavar="A,B",
    help="Restrict the operator to the parameters whose names match one of the globs, or the regular "
    "expression in re:EXPRESSION.",
)
@click.option(
    "--which",
    type=click.Choice(list(WHICH), case_sensitive=False),
    default="LM",
    show_default=True,
    metavar=f"[{'|'.join(WHICH)}]",
    help="Wanted eigenvalues: " + "; ".join(f"{name} {text}" for name, text in WHICH.items()) + ".",
)
@click.option(
    "--tol",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="T",
    help="Relative tolerance: a pair has converged when its residual norm is at most T |eigenvalue|, or the "
    "precision floor.",
)
@click.option(
    "--complete",
    callback=_probability,
    default="0.99",
    show_default=True,
    metavar="P",
    help="Probability at which no eigenvalue beyond the k-th is to be missed; none: not examined.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of all random numbers."
)
@click.option(
    "--max-matvecs",
    type=float,
    metavar="N",
    help="Maximum number of products, including those of the certificate.",
)
@click.option("--max-seconds", type=float, metavar="S", help="Maximum time, checked between products.")
@click.option(
    "--certify",
    type=click.Choice(["none", "sketch", "full"], case_sensitive=False),
    default="sketch",
    show_default=True,
    help="Check of the residuals: none, by three products (sketch), or by one product per pair (full).",
)
@click.option("--device", metavar="NAME", help="Device to compute on: cpu, cuda, cuda:1.")
@click.option("--dtype", metavar="NAME", help="Data type: float32 or float64.  [default: the model's own]")
@click.option(
    "--analyses",
    callback=_names,
    metavar="A,B",
    shell_complete=lists_of(AnalysisEntry),
    help="Analyses to run, or none.  [default: all that the problem allows]",
)
@click.option(
    "--set",
    "options",
    callback=_options,
    multiple=True,
    metavar="ENTRY.OPTION=VALUE",
    help="Set an option of a solver, backend, attack or analysis; problem.NAME=VALUE sets a keyword of the "
    "problem's factory.",
)
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
