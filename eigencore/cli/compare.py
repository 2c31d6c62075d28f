"""eigen compare: saved runs side by side."""

from __future__ import annotations

import json
import sys

import click

from eigencore.cli.completion import folders
from eigencore.cli.failures import json_flag, verbose, verbose_flag
from eigencore.cli.output import check_csv, csv_option, write_csv, write_csv_file
from eigencore.cli.page import page
from eigencore.cli.report_file import (
    check_plot,
    html_option,
    plot_option,
    plot_options,
    write_html,
    write_plot,
)

FIRST = 12  # rows of the table that the screen shows without --verbose


@click.command()
@click.argument("dirs", metavar="DIR...", nargs=-1, required=True, shell_complete=folders)
@html_option
@plot_option
@plot_options
@csv_option
@json_flag
@verbose_flag
def compare(
    dirs: tuple[str, ...],
    html: str | None,
    plot: str | None,
    plot_settings: dict[str, str],
    csv: str | None,
    as_json: bool,
) -> int:
    """Compare runs that `eigen analyze --out DIR` saved: eigenvalues, numbers, figures, and what differs.

    --csv writes a row for each run, and --html and --plot overlay the figures that the runs have in common.
    """
    from eigencore.runs import compare as compare_runs
    from eigencore.runs import plain

    check_csv(csv, as_json)
    check_plot(plot, plot_settings)
    found = compare_runs(dirs)
    try:
        if as_json:
            columns = {name: plain(column) for name, column in found.columns.items()}
            print(json.dumps({"verdict": found.verdict, "differences": found.differences, "runs": columns}))
        elif csv == "-":
            write_csv(found, sys.stdout)
        else:
            on, part = page(), found.report().parts["comparison"]
            on.line(found.verdict)
            for warning in part.warnings:
                on.line(f"warning: {warning}", "yellow")
            for title, table in part.tables.items():
                rows = table.rows if verbose() else table.rows[:FIRST]
                on.line()
                on.line(f"  {title}")
                on.table(table.columns, rows)
                if len(rows) < len(table.rows):
                    on.line(f"--verbose shows {len(table.rows) - len(rows)} further rows", "dim")
    finally:  # also if the reader of our output has left
        write_csv_file(found, csv)
        write_html(found, html)
        write_plot(found, plot, plot_settings)
    return 0
