"""eigen attack: adversarial inputs for the samples of a problem, at several radii or at the smallest ones."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from eigencore.cli.completion import names
from eigencore.cli.config_file import config_option
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.lists import ListType, parts
from eigencore.cli.log_file import log_option
from eigencore.cli.output import check_csv, csv_option, write_csv, write_csv_file
from eigencore.cli.page import page
from eigencore.cli.problem_options import (
    backend_option,
    device_option,
    dtype_option,
    problem_argument,
    seed_option,
    set_option,
)
from eigencore.cli.progress import progress
from eigencore.cli.report_file import html_option, write_html
from eigencore.entries import AttackEntry
from eigencore.errors import UsageError
from eigencore.news import reported_to

if TYPE_CHECKING:
    from eigencore.cli.page import Page
    from eigencore.results import AttackResult


def _radii(ctx: click.Context, parameter: click.Parameter, given: Any) -> list[float] | None:
    """The numbers in "A,B" or in a list, each of which may be a fraction."""
    if given is None:
        return None
    try:
        return [float(Fraction(part)) for part in parts(given)]
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"--eps is {','.join(parts(given))}; expected numbers or fractions separated by commas, such as "
            "0.05,0.1 or 8/255"
        ) from None


@click.command()
@problem_argument
@click.option(
    "--attack",
    "name",
    default="pgd",
    show_default=True,
    metavar="NAME",
    shell_complete=names(AttackEntry),
    help="Attack; see `eigen attacks`.",
)
@click.option(
    "--eps",
    type=ListType(str, int, float),
    callback=_radii,
    metavar="A,B",
    help="Radii of the balls around the samples, in the units of the inputs; 8/255 is a number, too. An "
    "attack that searches for the smallest perturbation takes none.",
)
@click.option("--images", type=int, metavar="N", help="Attack the first N samples.  [default: all of them]")
@click.option(
    "--batch",
    type=int,
    default=256,
    show_default=True,
    metavar="N",
    help="Number of samples that are attacked at once.",
)
@backend_option
@device_option
@dtype_option
@seed_option
@set_option
@config_option
@csv_option
@html_option
@log_option
@json_flag
@verbose_flag
def attack(
    problem: str,
    name: str,
    eps: list[float] | None,
    backend: str | None,
    device: str | None,
    dtype: str | None,
    options: Mapping[str, Mapping[str, Any]],
    as_json: bool,
    csv: str | None,
    html: str | None,
    **arguments: Any,
) -> int:
    """Search for adversarial inputs near the samples of PROBLEM.

    PROBLEM is as for `eigen analyze`; its samples are those of the validation data, or else of the data. The
    share of samples that are still classified correctly is printed for each radius. For an attack that
    searches for the smallest perturbation, it is the distribution of the distances. --csv writes a row for
    each sample, and --json has the same numbers.

    Exit codes: 0 done; 1 failed; 2 usage error; 4 a plugin failed; 130 interrupted.
    """
    from eigencore.attacks import attack_report
    from eigencore.attacks.attack import attack as compute

    check_csv(csv, as_json)
    # What a model or a data loader prints must not mix with our output.
    with contextlib.redirect_stdout(sys.stderr), progress(0) as draw:
        _check_attack(name, eps, options.get(name, {}))
        with reported_to(draw):
            bound = _bound(problem, name, backend, device, dtype, options)
        found = compute(bound, name, eps=eps, progress=draw, **arguments, **options.get(name, {}))
    results = found if isinstance(found, tuple) else (found,)
    try:
        if as_json:
            data = [result.as_data() for result in results]
            print(json.dumps({"problem": problem, "attack": name, "results": data}))
        elif csv == "-":
            write_csv(_Samples(results), sys.stdout)
        else:
            _print(page(), problem, results)
    finally:  # also if the reader of our output has left
        write_csv_file(_Samples(results), csv)
        if html is not None:
            write_html(replace(attack_report(results), title=f"Attack {name} on {problem}"), html)
    return 0


def _check_attack(name: str, eps: list[float] | None, options: Mapping[str, Any]) -> None:
    """Checks names and options first, because binding a problem may take long."""
    from eigencore.registry import registry, resolve_options

    entry = registry().find(AttackEntry, name)
    resolve_options(entry, options)
    if entry.goal == "fixed_eps" and eps is None:
        raise UsageError(
            f"--eps is missing; {name} attacks within a radius",
            hint="Give one or several in the units of the inputs, such as --eps 0.05,0.1 or --eps 8/255.",
        )


def _bound(
    problem: str,
    name: str,
    backend: str | None,
    device: str | None,
    dtype: str | None,
    options: Mapping[str, Mapping[str, Any]],
) -> Any:
    """The problem on its backend."""
    from eigencore.problems import backend_of, bind_with, find_problem

    found = find_problem(problem, options.get("problem", {}))
    entry = backend_of(found, backend)
    used = {"problem", name, *([] if entry is None else [entry.name])}
    for other in options:
        if other not in used:
            raise UsageError(
                f"options are given for {other}, which is not used here",
                hint=f"This command uses: {', '.join(sorted(used))}.",
            )
    own = {} if entry is None else options.get(entry.name, {})
    return bind_with(found, own, backend=backend, device=device, dtype=dtype)


class _Samples:
    """The table of the samples: one row for each sample and radius."""

    def __init__(self, results: Sequence[AttackResult]):
        self._results = results

    @property
    def columns(self) -> Mapping[str, Any]:
        import numpy as np

        each = [result.columns for result in self._results]
        counts = [len(result.labels) for result in self._results]
        found = {"sample": np.concatenate([np.arange(count) for count in counts])}
        if self._results[0].eps is not None:
            radii = [result.eps for result in self._results]
            found["eps"] = np.repeat(np.array(radii, dtype=float), counts)
        return found | {name: np.concatenate([columns[name] for columns in each]) for name in each[0]}


def _print(on: Page, problem: str, results: Sequence[AttackResult]) -> None:
    from eigencore.runs import distance_table

    first = results[0]
    total, correct = len(first.labels), int(first.correct.sum())
    what = f"{problem} · {first.attack} · {first.norm}"
    on.line(f"{what} · {total:,} samples, {correct:,} of them classified correctly")
    if first.eps is not None:
        on.table(
            ["eps", "accuracy %", "fooled", "passes per sample"],
            [
                (r.eps, round(100 * r.accuracy, 2), int((r.success & r.correct).sum()), _passes(r))
                for r in results
            ],
        )
        return
    fooled = first.distance[first.success & first.correct]
    if len(fooled):
        table = distance_table(first)
        on.table(table.columns, table.rows)
    on.line(f"{len(fooled):,} of {correct:,} samples fooled, with {_passes(first)} passes per sample")
    on.line("the distances are upper bounds of those to the nearest misclassified inputs")


def _passes(result: AttackResult) -> int:
    return round((result.forward + result.backward) / len(result.labels))
