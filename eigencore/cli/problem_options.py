"""The arguments and options of every command that computes something of a problem's operator.

They are click decorators, which commands of plugins can use as well, so that the same words mean the same.

Example:
    import click
    from eigencore.cli.problem_options import problem_argument, seed_option

    @click.command()
    @problem_argument
    @seed_option
    def mine(problem: str, seed: int) -> None:
        click.echo(f"{problem} {seed}")
"""

from __future__ import annotations

from typing import Any

import click

from eigencore.cli.completion import folders, names, problem_names, settings
from eigencore.cli.config_file import options_of_file
from eigencore.cli.lists import ListType
from eigencore.entries import (
    DEFAULT_KIND,
    DEFAULT_PROBLEM,
    DEFAULT_SOLVER,
    BackendEntry,
    KindEntry,
    SolverEntry,
)
from eigencore.errors import UsageError
from eigencore.request import WHICH


def _options(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The values of --set ENTRY.OPTION=VALUE, by entry and option, with those of --config FILE."""
    options = options_of_file(ctx)
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


problem_argument = click.argument("problem", default=DEFAULT_PROBLEM, shell_complete=problem_names)
backend_option = click.option(
    "--backend",
    metavar="NAME",
    shell_complete=names(BackendEntry),
    help="Backend that builds the operator.  [default: the problem's own, or that of its model's class]",
)
solver_option = click.option(
    "--solver",
    default=DEFAULT_SOLVER,
    show_default=True,
    metavar="NAME",
    shell_complete=names(SolverEntry),
    help="Eigensolver; see `eigen solvers`.",
)
kind_option = click.option(
    "--kind",
    default=DEFAULT_KIND,
    show_default=True,
    metavar="NAME",
    shell_complete=names(KindEntry),
    help="Kind of operator; see `eigen kinds`.",
)
params_option = click.option(
    "--params",
    type=ListType(),
    metavar="A,B",
    help="Restrict the operator to the parameters whose names match one of the globs, or the regular "
    "expression in re:EXPRESSION.",
)
which_option = click.option(
    "--which",
    type=click.Choice(list(WHICH), case_sensitive=False),
    default="LM",
    show_default=True,
    metavar=f"[{'|'.join(WHICH)}]",
    help="Wanted eigenvalues: " + "; ".join(f"{name} {text}" for name, text in WHICH.items()) + ".",
)
tol_option = click.option(
    "--tol",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="T",
    help="Relative tolerance: a pair has converged when its residual norm is at most T |eigenvalue|, or the "
    "precision floor.",
)
complete_option = click.option(
    "--complete",
    type=click.UNPROCESSED,
    callback=_probability,
    default="0.99",
    show_default=True,
    metavar="P",
    help="Probability at which no eigenvalue beyond the k-th is to be missed; none: not examined.",
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of all random numbers."
)
max_matvecs_option = click.option(
    "--max-matvecs",
    type=float,
    metavar="N",
    help="Maximum number of products, including those of the certificate.",
)
max_seconds_option = click.option(
    "--max-seconds", type=float, metavar="S", help="Maximum time, checked between products."
)
out_option = click.option(
    "--out",
    metavar="DIR",
    shell_complete=folders,
    help="Save the run in this folder; `eigen show DIR` prints it. A finished run in it is only replaced by "
    "a finished one.",
)
certify_option = click.option(
    "--certify",
    type=click.Choice(["none", "sketch", "full"], case_sensitive=False),
    default="sketch",
    show_default=True,
    help="Check of the residuals: none, by three products (sketch), or by one product per pair (full).",
)
samples_option = click.option(
    "--samples",
    type=int,
    metavar="N",
    help="Compute from N random samples of the data, with the intervals for all data that are known.",
)
rtol_option = click.option(
    "--rtol",
    type=float,
    metavar="R",
    help="Find the eigenvalues of all data to the relative accuracy R, by a sample or all data, whichever "
    "costs less.",
)
device_option = click.option("--device", metavar="NAME", help="Device to compute on: cpu, cuda, cuda:1.")
dtype_option = click.option(
    "--dtype", metavar="NAME", help="Data type: float32 or float64.  [default: the model's own]"
)
set_option = click.option(
    "--set",
    "options",
    callback=_options,
    multiple=True,
    metavar="ENTRY.OPTION=VALUE",
    shell_complete=settings,
    help="Set an option of a solver, backend, kind, attack or analysis; problem.NAME=VALUE sets a keyword of "
    "the problem's factory.",
)
