"""eigen show: prints a saved run as `eigen analyze` printed it."""

from __future__ import annotations

import sys

import click

from eigencore.cli.completion import folders
from eigencore.cli.failures import json_flag, verbose_flag


@click.command()
@click.argument("folder", metavar="DIR", shell_complete=folders)
@json_flag
@verbose_flag
def show(folder: str, as_json: bool) -> int:
    """Print the run that `eigen analyze --out DIR` saved."""
    from eigencore.cli.print_run import print_run
    from eigencore.runs import load, to_json

    run = load(folder)
    if as_json:
        sys.stdout.write(to_json(run))
    else:
        print_run(run)
    return 0
