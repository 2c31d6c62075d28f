"""Options that write a report of what a command computed: a page, and figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from eigencore.cli.completion import files


def _prepared(name: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Refuses, before anything is computed, a file that the renderer of this name could not write."""

    def prepare(ctx: click.Context, parameter: click.Parameter, file: str | None) -> str | None:
        if file is not None and not ctx.resilient_parsing:
            from eigencore.runs import prepare_rendering

            prepare_rendering(name, file)
        return file

    return prepare


html_option = click.option(
    "--html",
    metavar="FILE",
    callback=_prepared("html"),
    shell_complete=files,
    help="Write a report to this file: one page that opens offline, with every figure and its numbers.",
)
plot_option = click.option(
    "--plot",
    metavar="FILE",
    callback=_prepared("plot"),
    shell_complete=files,
    help="Write the figures to this file, .pdf, .svg or .png; `eigen renderers plot` lists options for --set.",
)


def write_html(result: Any, file: str | None) -> None:
    """Writes the page of a result, if there is a file for it.

    Raises:
        EigencoreError: as for `eigencore.render`.
    """
    if file is not None:
        from eigencore.runs import render

        render(result, "html", file)
        click.echo(f"the report is in {file}", err=True)
