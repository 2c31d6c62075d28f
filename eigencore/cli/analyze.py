"""eigen analyze: the main job."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from eigencore import errors
from eigencore.cli.completion import folders, lists_of, names
from eigencore.cli.failures import INTERRUPTED, json_flag, verbose_flag
from eigencore.entries import (
    DEFAULT_BACKEND,
    DEFAULT_KIND,
    DEFAULT_PROBLEM,
    DEFAULT_SOLVER,
    AnalysisEntry,
    BackendEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.errors import PluginError, UsageError
from eigencore.request import WHICH
from eigencore.results import Status

NOT_CONVERGED = 3


def _options(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    """ENTRY.OPTION=VALUE, by entry and option."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        entry, _, option = place.strip().rpartition(".")
        if not (equals and entry and option):
            raise UsageError(
                f"--set {text}; expected ENTRY.OPTION=VALUE, as in accel_power.momentum=auto",
                hint="`eigen solvers NAME` and `eigen backends NAME` show what options there are.",
            )
        options.setdefault(entry, {})[option] = value
    return options


def _names(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
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
    help=f"What makes the operator.  [default: the problem's own, or {DEFAULT_BACKEND}]",
)
@click.option(
    "--solver",
    default=DEFAULT_SOLVER,
    show_default=True,
    metavar="NAME",
    shell_complete=names(SolverEntry),
    help="What finds the eigenpairs; see `eigen solvers`.",
)
@click.option("-k", type=int, default=5, show_default=True, metavar="K", help="How many eigenpairs.")
@click.option(
    "--kind",
    default=DEFAULT_KIND,
    show_default=True,
    metavar="NAME",
    help="Which operator; see `eigen backends NAME`.",
)
@click.option("--params", metavar="GLOB", help="Only over the parameters whose names match.")
@click.option(
    "--which",
    type=click.Choice(list(WHICH), case_sensitive=False),
    default="LM",
    show_default=True,
    metavar=f"[{'|'.join(WHICH)}]",
    help="; ".join(f"{name} {text}" for name, text in WHICH.items()) + ".",
)
@click.option(
    "--tol",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="T",
    help="A pair has converged when its residual norm is at most T |eigenvalue|.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Fixes all random numbers.")
@click.option("--max-matvecs", type=float, metavar="N", help="Products at most, those to certify included.")
@click.option("--max-seconds", type=float, metavar="S", help="Time at most, looked at between products.")
@click.option(
    "--certify",
    type=click.Choice(["none", "sketch", "full"], case_sensitive=False),
    default="sketch",
    show_default=True,
    help="How residuals are checked: not at all, by three products, or by one for each pair.",
)
@click.option("--device", metavar="NAME", help="Where to work: cpu, cuda, cuda:1.")
@click.option("--dtype", metavar="NAME", help="float32 or float64.  [default: the model's own]")
@click.option(
    "--analyses",
    callback=_names,
    metavar="A,B",
    shell_complete=lists_of(AnalysisEntry),
    help="Which analyses to run, or none.  [default: all possible]",
)
@click.option(
    "--set",
    "options",
    callback=_options,
    multiple=True,
    metavar="ENTRY.OPTION=VALUE",
    help="An option of a solver, backend or analysis; problem.NAME=VALUE for one of the problem's own.",
)
@click.option(
    "--out",
    metavar="DIR",
    shell_complete=folders,
    help="Save the run there; `eigen show DIR` prints it again.",
)
@json_flag
@verbose_flag
def analyze(as_json: bool, **asked: Any) -> int:
    """Top eigenpairs of PROBLEM, with their certificate, and what the analyses say of them.

    PROBLEM is a name (see `eigen problems`; demo:digits where it is left out), path/file.py:FACTORY, or
    module:FACTORY, where FACTORY is a function that returns an eigencore.Problem, a tuple (model, data,
    loss), or a matrix.

    Exit codes: 0 done; 1 failed; 2 usage; 3 something did not converge; 4 a plugin failed; 130 interrupted.
    """
    from eigencore import pipeline
    from eigencore.cli.progress import progress

    code = None
    replaces = asked["out"] and os.path.exists(os.path.join(asked["out"], "result.json"))
    try:
        # What a model or a loader prints must not mix with the data.
        with contextlib.redirect_stdout(sys.stderr), progress(asked["k"]) as draw:
            run = pipeline.analyze(**asked, progress=draw)
    except pipeline.RunInterrupted as interrupted:
        run, code = interrupted.run, INTERRUPTED
    if as_json:
        from eigencore.runs import to_json

        sys.stdout.write(to_json(run))
    else:
        from eigencore.cli.screen import print_run

        print_run(run)
    if code is not None:
        return code
    if replaces:
        click.echo(f"the run that was in {asked['out']} is replaced by this one", err=True)
    if run.manifest["failed"]:
        return max(map(_exit_code, run.manifest["failed"].values()))
    return 0 if run.eigen.status is Status.CONVERGED else NOT_CONVERGED


def _exit_code(failure: str) -> int:
    """Of an analysis that failed: what it says of the problem or the options is no fault of the plugin."""
    told = getattr(errors, failure.partition(":")[0], PluginError)
    return int(getattr(told, "exit_code", PluginError.exit_code))
