"""A run as text: its problem, the eigenpairs, their cost and certificate, and the results of the analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eigencore.cli.page import NO_BREAK, Page, page
from eigencore.cli.sparks import can_draw, curve
from eigencore.cli.wording import for_command
from eigencore.number_text import as_text
from eigencore.results import Status
from eigencore.runs.eigen_text import certificate_lines, cost, eigenvalue_table, header, spent
from eigencore.runs.sampling_text import sampling_lines

if TYPE_CHECKING:
    from eigencore.figures import Figure
    from eigencore.results import AnalysisResult, EigenResult, Run

LONGEST_KEPT = 40  # characters of a number with its name that stay on one line


def print_run(run: Run, on: Page | None = None, *, everything: bool = False) -> None:
    """Prints a run on a page; None: on stdout.

    Args:
        everything: whether all tables and remarks of the analyses are printed.
    """
    on = on or page()
    eigen = run.pairs
    problem, setting = header(run)
    on.line(problem, "bold")
    on.line(setting, "dim")
    if eigen is not None:
        on.line()
        print_pairs(eigen, run.manifest.get("exact"), on)
        on.line(for_command(eigen.advice), "" if eigen.status is Status.CONVERGED else "bold yellow")
        on.line(cost(eigen))
        for line in certificate_lines(eigen):
            on.line(line)
        for line in sampling_lines(eigen.sampling):
            on.line(line)
        for note in eigen.notes:
            on.line(f"note: {note}", "dim")
    for name, result in run.analyses.items():
        on.line()
        # An analysis on its own has room for a curve.
        print_analysis(
            name, result, on, everything, curve_too=len(run.analyses) == 1 and result.shown is None
        )
    skipped, unasked = run.manifest.get("skipped", {}), run.manifest.get("unasked", [])
    if skipped or unasked:
        on.line()
    for name, reason in skipped.items():
        on.line(f"{name} was not run: {reason}", "dim")
    if unasked:
        on.line(f"run by default: {', '.join(unasked)}; --analyses none turns this off", "dim")


def print_pairs(eigen: EigenResult, exact: Sequence[float] | None = None, on: Page | None = None) -> None:
    """Prints the table of eigenvalues, with the exact ones if they are known."""
    on = on or page()
    if len(eigen.values):
        table = eigenvalue_table(eigen, exact)
        on.table(table.columns, table.rows)
    else:
        on.line("  no eigenpairs")
    on.line()


def print_analysis(
    name: str, result: AnalysisResult, on: Page, everything: bool = False, curve_too: bool = False
) -> None:
    """Prints the result of an analysis: its verdict, then tables, numbers and warnings.

    Args:
        everything: whether all tables and remarks are printed, and a curve.
        curve_too: whether the first figure of many points is printed as a curve.
    """
    on.line(" · ".join(filter(None, (name, result.title))), "bold")
    on.line()
    on.line(" ".join((result.verdict, *(result.remarks if everything else ()))))
    shown = result.tables if everything or result.shown is None else result.shown
    for title in (title for title in result.tables if title in shown):
        on.line()
        on.line(f"  {title}")
        on.table(result.tables[title].columns, result.tables[title].rows)
    if result.numbers:
        on.line()
        on.line(f"  {_listed(result.numbers)}")
    if everything or curve_too:
        _print_curve(result, on)
    if result.matvecs or result.warnings:
        on.line()
    if result.matvecs:
        on.line(spent(result.matvecs, result.seconds))
    for warning in result.warnings:
        on.line(f"warning: {warning}", "yellow")
    hidden = 0 if everything else len(result.tables) - len([*shown])
    if hidden:
        tables = f"{hidden} further table{'s' * (hidden > 1)}"
        on.line(f"--verbose shows {tables}{' and remarks' * bool(result.remarks)}", "dim")


def _print_curve(result: AnalysisResult, on: Page) -> None:
    """Prints the first figure of many points as a curve of characters, with the ends of its axis."""
    drawn = [(figure, line) for figure in result.figures if (line := curve(figure)) is not None]
    if not drawn or not can_draw():
        return
    figure, line = drawn[0]
    x = figure.series["x"]
    left, right = as_text(float(f"{x[0]:.3g}")), as_text(float(f"{x[-1]:.3g}"))
    scales = [f"{axis} on a {scale} axis" for axis, scale in _scales(figure) if scale != "linear"]
    on.line()
    on.line(f"  {', '.join((figure.title, *scales))}")
    on.line(f"  {line.rstrip()}")
    on.line(f"  {left}{right.rjust(len(line) - len(left))}", "dim")


def _scales(figure: Figure) -> tuple[tuple[str, str], ...]:
    return ((figure.y_label, figure.y_scale), (figure.x_label, figure.x_scale))


def _listed(numbers: Mapping[str, object]) -> str:
    """The numbers with their names, which a line break does not separate unless both are long."""
    texts = [f"{name}: {as_text(value)}" for name, value in numbers.items()]
    kept = [text.replace(" ", NO_BREAK) if len(text) <= LONGEST_KEPT else text for text in texts]
    return f"{NO_BREAK}· ".join(kept)
