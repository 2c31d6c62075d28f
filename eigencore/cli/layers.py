"""eigen layers: the diagonal blocks of an operator over the weights, and what they miss of the whole."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from eigencore.cli.config_file import config_option
from eigencore.cli.failures import NOT_CONVERGED, json_flag, verbose_flag
from eigencore.cli.log_file import log_option
from eigencore.cli.output import check_csv, csv_option, write_csv, write_csv_file
from eigencore.cli.page import page
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
from eigencore.cli.progress import progress
from eigencore.cli.report_file import html_option, write_html
from eigencore.cli.sparks import bars, can_draw
from eigencore.errors import UsageError

FIRST = "eigenvalue"  # the column that is drawn as bars, too


def _groups(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """The patterns in --group NAME=A,B, by name."""
    groups: dict[str, str] = {}
    for text in texts:
        name, equals, patterns = text.partition("=")
        if not (equals and name.strip() and patterns.strip()):
            raise UsageError(f"--group {text}; expected NAME=A,B, as in first=conv1.*,conv2.*")
        if name.strip() in groups:
            raise UsageError(f"--group {name.strip()} is given twice; expected one group of each name")
        groups[name.strip()] = patterns.strip()
    return groups


@click.command()
@problem_argument
@backend_option
@solver_option
@click.option(
    "-k", type=int, default=1, show_default=True, metavar="K", help="Number of eigenpairs of each block."
)
@kind_option
@params_option
@click.option(
    "--by",
    type=click.Choice(["parameter", "module"]),
    default="parameter",
    show_default=True,
    help="One block for each parameter, or for each module.",
)
@click.option(
    "--group",
    "groups",
    callback=_groups,
    multiple=True,
    metavar="NAME=A,B",
    help="A block of the parameters whose names match one of the patterns, in place of --by.",
)
@click.option(
    "--probes",
    type=int,
    default=8,
    show_default=True,
    metavar="M",
    help="Random vectors for the traces and norms; 0: none.",
)
@which_option
@tol_option
@complete_option
@seed_option
@certify_option
@device_option
@dtype_option
@set_option
@config_option
@csv_option
@html_option
@log_option
@json_flag
@verbose_flag
def layers(
    problem: str,
    by: str,
    groups: dict[str, str],
    as_json: bool,
    csv: str | None,
    html: str | None,
    **arguments: Any,
) -> int:
    """Compute the top eigenvalues, trace and norm of every layer of PROBLEM.

    PROBLEM is as for `eigen analyze`. A layer is a parameter, a module or a group of parameters: a diagonal
    block of the operator. The eigenvalues of the whole operator, and the couplings of the layers along its
    first eigenvector, show what the blocks alone miss.

    Exit codes: as for `eigen analyze`.
    """
    from eigencore.analyses.layer_blocks import layers as compute

    check_csv(csv, as_json)
    source = click.get_current_context().get_parameter_source
    if source("by") is ParameterSource.COMMANDLINE and source("groups") is not ParameterSource.COMMANDLINE:
        groups = {}  # those of the file, which the command line replaces
    # What a model or a data loader prints must not mix with our output.
    with contextlib.redirect_stdout(sys.stderr), progress(arguments["k"]) as draw:
        result = compute(problem, by=groups or by, progress=draw, **arguments)
    try:
        if as_json:
            print(json.dumps({"problem": problem, "kind": arguments["kind"], **result.as_data()}))
        elif csv == "-":
            write_csv(result, sys.stdout)
        else:
            on, table = page(), result.table
            names, rows = list(table.columns), [list(row) for row in table.rows]
            if can_draw():
                beside = names.index(FIRST if FIRST in names else f"{FIRST} 1") + 1
                names.insert(beside, "")
                for row, bar in zip(rows, bars(result.values[:, 0].tolist()), strict=True):
                    row.insert(beside, bar)
            on.table(names, rows)
            on.line()
            on.line(result.verdict)
    finally:  # also if the reader of our output has left
        write_csv_file(result, csv)
        if html is not None:
            write_html(replace(result.report(), title=f"Layers of {problem}"), html)
    whole = result.whole is None or result.whole.converged.all()
    return 0 if whole and not result.unconverged else NOT_CONVERGED
