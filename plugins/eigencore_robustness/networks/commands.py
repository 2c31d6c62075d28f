"""The command `eigen study`: many networks, a row each, and which metrics are associated with robustness."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.output import check_csv, write_csv, write_csv_file
from eigencore.cli.page import page
from eigencore.cli.report_file import html_option, write_html
from eigencore.cli.study_command import (
    print_rows,
    print_study_json,
    rows_csv_option,
    run_study,
    study_options,
)

if TYPE_CHECKING:
    from eigencore_robustness.networks.network_inference import StudyInference

C = TypeVar("C", bound=Callable[..., Any])


def _several(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The names; None if none is given, and () for "none"."""
    return () if values == ("none",) else values or None


def _column_option(name: str, default: str) -> Callable[[C], C]:
    return click.option(
        f"--{name}",
        f"{name}s",
        multiple=True,
        callback=_several,
        metavar="COLUMN",
        help=f"Column of the study that is {default}. Can be given several times.",
    )


@click.command()
@study_options
@_column_option("metric", "tested as a metric; by default eigenvalues, trace, median r1, input curvature")
@_column_option("outcome", "tested as an outcome; by default robust accuracy and loss, median distance")
@_column_option("control", "taken out of both, or none; by default train loss, and the covariate adversarial")
@rows_csv_option
@html_option
@json_flag
@verbose_flag
def study(
    as_json: bool,
    csv: str | None,
    html: str | None,
    metrics: tuple[str, ...] | None,
    outcomes: tuple[str, ...] | None,
    controls: tuple[str, ...] | None,
    **arguments: Any,
) -> int:
    """Analyze many networks, a row each, and test what is associated with their robustness.

    MEMBERS is path/file.py:FACTORY or module:FACTORY, where FACTORY is a function that yields an
    eigencore.Member for each network; or names of problems, each of which is a network.

    Exit codes: 0 done; 1 a row failed; 2 usage error; 3 a pair did not converge; 4 a plugin failed; 130
    interrupted.
    """
    from eigencore_robustness.networks.network_inference import infer_study

    check_csv(csv, as_json)
    members = arguments.pop("members")
    done, code = run_study(members[0] if len(members) == 1 else members, arguments)
    if not done.rows:
        return code
    if not as_json and csv != "-":
        print_rows(done, page())  # first, because a column that is asked for may be unknown
    found = infer_study(
        done.columns, metrics=metrics, outcomes=outcomes, controls=controls, seed=arguments["seed"]
    )
    try:
        if as_json:
            print_study_json(done, inference=found)
        elif csv == "-":
            write_csv(done, sys.stdout)
        else:
            _print(found)
    finally:  # also if the reader of our output has left
        write_csv_file(done, csv)
        if html is not None:
            report = done.report()
            write_html(replace(report, parts={**report.parts, "associations": found.findings}), html)
    return code


def _print(found: StudyInference) -> None:
    on = page()
    on.line()
    if found.found is not None:
        rows = [(*row[:2], *(one and round(one, 4) for one in row[2:])) for row in found.found.table.rows]
        on.table(found.found.table.columns, rows)
        on.line()
    on.line(found.verdict)
