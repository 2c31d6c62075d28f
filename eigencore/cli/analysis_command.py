"""A command for one analysis: `eigen NAME PROBLEM`, with the words of `eigen analyze` and its own options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from eigencore.cli.config_file import config_option
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.log_file import log_option
from eigencore.cli.output import csv_option
from eigencore.cli.problem_options import (
    backend_option,
    certify_option,
    complete_option,
    device_option,
    dtype_option,
    kind_option,
    max_matvecs_option,
    max_seconds_option,
    out_option,
    params_option,
    problem_argument,
    samples_option,
    seed_option,
    set_option,
    solver_option,
    tol_option,
    which_option,
)
from eigencore.cli.report_file import html_option
from eigencore.cli.run_command import run_and_print
from eigencore.entries import AnalysisEntry
from eigencore.options import OptionSpec, describe
from eigencore.registry import load_options, registry


def analysis_command(name: str, *, k: int, help: str) -> click.Command:
    """A click command that runs the registered analysis of this name on a problem.

    Every option of the analysis is one of the command: `probes` is --probes. An option `samples` is that of
    the run.

    Args:
        name: the name of the analysis and of the command; its entry needs no eigenpairs.
        k: the default number of eigenpairs that are computed first, for the analysis to use.
        help: the help text of the command.

    Example:
        from eigencore import CommandEntry
        from eigencore.cli.analysis_command import analysis_command

        command = analysis_command("trace", k=0, help="Estimate the trace of an operator of PROBLEM.")
        entry = CommandEntry(name="trace", summary="the trace", load="my_package.commands:command")
        print([one.name for one in command.params])
    """
    declared = load_options(registry().find(AnalysisEntry, name))
    every = () if declared is None else describe(declared)
    # The sample is that of the eigenpairs, too.
    specs = tuple(spec for spec in every if spec.name != "samples")

    def command(
        as_json: bool,
        csv: str | None,
        html: str | None,
        options: dict[str, dict[str, Any]],
        **arguments: Any,
    ) -> int:
        given = {spec.name: arguments.pop(spec.name) for spec in specs}
        own = {**options.get(name, {}), **{one: value for one, value in given.items() if value is not None}}
        options = {**options, **({name: own} if own else {})}
        arguments |= {"options": options, "analyses": [name]}
        return run_and_print(arguments, as_json, csv, html)

    decorators: list[Callable[[Any], Any]] = [
        click.command(name, help=help),
        problem_argument,
        *(_option(spec) for spec in specs),
        *([samples_option] if len(specs) < len(every) else []),
        backend_option,
        kind_option,
        params_option,
        click.option(
            "-k",
            type=int,
            default=k,
            show_default=True,
            metavar="K",
            help="Number of eigenpairs that are computed first and taken out; 0: none.",
        ),
        *(solver_option, which_option, tol_option, complete_option, certify_option),
        *(seed_option, max_matvecs_option, max_seconds_option, device_option, dtype_option),
        *(
            set_option,
            config_option,
            out_option,
            csv_option,
            html_option,
            log_option,
            json_flag,
            verbose_flag,
        ),
    ]
    made: Any = command
    for decorator in reversed(decorators):
        made = decorator(made)
    result: click.Command = made
    return result


def _option(spec: OptionSpec) -> Callable[[Any], Any]:
    """The option of the command for an option of the analysis, whose value the registry parses."""
    default = "none" if spec.default is None else str(spec.default).lower()
    text = f"{spec.help[0].upper()}{spec.help[1:]}: {spec.range}.  [default: {default}]"
    flag = f"--{spec.name.replace('_', '-')}"
    return click.option(flag, spec.name, type=click.UNPROCESSED, metavar="VALUE", help=text)
