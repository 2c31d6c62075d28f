"""Options that write a report of what a command computed: a page, and figures."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import click

from eigencore.cli.completion import files
from eigencore.cli.failures import ARGUMENTS
from eigencore.cli.output import named_once
from eigencore.errors import UsageError
from eigencore.processes import is_first


def versions() -> str:
    """The versions of Python, of eigencore and of the array libraries, as far as they are loaded."""
    loaded = [name for name in ("eigencore", "numpy", "torch") if name in sys.modules]
    found = [f"python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in loaded)]
    return ", ".join(found)


def _prepared(name: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Refuses, before anything is computed, a file that the renderer of this name could not write."""

    def prepare(ctx: click.Context, parameter: click.Parameter, file: str | None) -> str | None:
        if file is not None and not ctx.resilient_parsing:
            from eigencore.runs import prepare_rendering

            prepare_rendering(name, file)
        return named_once(ctx, parameter, file)

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
    help="Write the figures to this file, whose name ends in .pdf, .svg or .png.",
)


def _settings(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """The values of --set plot.OPTION=VALUE, by option."""
    settings = {}
    for text in texts:
        place, equals, value = text.partition("=")
        entry, _, option = place.strip().rpartition(".")
        if entry != "plot" or not (equals and option):
            raise UsageError(
                f"--set {text}; expected plot.OPTION=VALUE, as in plot.width=6.8",
                hint="`eigen renderers plot` lists the options.",
            )
        settings[option] = value
    return settings


plot_options = click.option(
    "--set",
    "plot_settings",
    callback=_settings,
    multiple=True,
    metavar="plot.OPTION=VALUE",
    help="Set an option of the figures, such as plot.width=6.8; see `eigen renderers plot`.",
)


def check_plot(file: str | None, settings: Mapping[str, str]) -> None:
    """Raises UsageError if options of the figures are given and no file for them."""
    if settings and file is None:
        raise UsageError("--set is given without --plot FILE, for which it sets options")


def write_plot(result: Any, file: str | None, settings: Mapping[str, str]) -> None:
    """Writes the figures of a result, if there is a file for them.

    Raises:
        EigencoreError: as for `eigencore.render`.
    """
    if file is not None and is_first():
        from eigencore.runs import render

        figures = render(result, "plot", file, **settings)
        several = len(figures) > 1 and not file.lower().endswith(".pdf")
        where = f"{len(figures)} files beside {file}, numbered from 1" if several else file
        click.echo(f"the figures are in {where}", err=True)


def write_html(result: Any, file: str | None) -> None:
    """Writes the page of a result, if there is a file for it.

    Raises:
        EigencoreError: as for `eigencore.render`.
    """
    if file is not None and is_first():
        from eigencore.runs import render, report

        made = report(result)
        if not made.details:  # of a result that keeps no arguments
            command = shlex.join(["eigen", *click.get_current_context().meta[ARGUMENTS]])
            made = replace(made, details={"command": command, "versions": versions()})
        render(made, "html", file)
        click.echo(f"the report is in {file}", err=True)
