"""eigen show: prints a saved run as `eigen analyze` printed it."""

from __future__ import annotations

import os

import click

from eigencore.cli.completion import run_folders
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.output import check_csv, csv_option, print_result
from eigencore.cli.report_file import (
    check_plot,
    html_option,
    plot_option,
    plot_options,
    write_html,
    write_plot,
)
from eigencore.cli.sweep import is_sweep, show_sweep
from eigencore.errors import UsageError


@click.command()
@click.argument("folder", metavar="DIR", shell_complete=run_folders)
@click.option(
    "--config",
    is_flag=True,
    help="Print the file with which `eigen analyze --config FILE` repeats the run.",
)
@html_option
@plot_option
@plot_options
@csv_option
@json_flag
@verbose_flag
def show(
    folder: str,
    config: bool,
    html: str | None,
    plot: str | None,
    plot_settings: dict[str, str],
    as_json: bool,
    csv: str | None,
) -> int:
    """Print the run, or the rows of several checkpoints, that `eigen analyze --out DIR` saved.

    With --html and --plot, it also writes a page or figures of them.
    """
    from eigencore.pipeline.studies import Study
    from eigencore.pipeline.studies.run_folders import SWEEP_ROWS
    from eigencore.runs import config_text, load

    check_csv(csv, as_json)
    check_plot(plot, plot_settings)
    if config and (as_json or csv is not None):
        raise UsageError(f"--config and {'--json' if as_json else '--csv'} can't be given together")
    if is_sweep(folder):
        if config:
            raise UsageError(f"{folder} holds the rows of several checkpoints, which --config can't repeat")
        rows = Study.read(os.path.join(folder, SWEEP_ROWS))
        show_sweep(rows, as_json=as_json, csv=csv, html=html)
        write_plot(rows, plot, plot_settings)
        return 0
    run = load(folder)
    try:
        if config:
            click.echo(config_text(run), nl=False)
        else:
            print_result(run, as_json, csv)
    finally:
        write_html(run, html)
        write_plot(run, plot, plot_settings)
    return 0
