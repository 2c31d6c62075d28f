"""eigen show: prints a saved run as `eigen analyze` printed it."""

from __future__ import annotations

import click

from eigencore.cli.completion import folders
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.output import check_csv, csv_option, print_result


@click.command()
@click.argument("folder", metavar="DIR", shell_complete=folders)
@csv_option
@json_flag
@verbose_flag
def show(folder: str, as_json: bool, csv: str | None) -> int:
    """Print the run that `eigen analyze --out DIR` saved."""
    from eigencore.runs import load

    check_csv(csv, as_json)
    print_result(load(folder), as_json, csv)
    return 0
