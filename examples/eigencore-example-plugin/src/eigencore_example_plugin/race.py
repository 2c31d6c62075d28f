"""The command `eigen race`, which compares solvers by the number of products they need."""

from __future__ import annotations

import click
import eigencore
from eigencore.cli.config_file import config_option


@click.command()
@click.argument("problem")
@click.argument("solvers", nargs=-1, required=True)
@click.option("-k", type=int, default=5, show_default=True, metavar="K", help="Number of eigenpairs.")
@click.option(
    "--tol",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="T",
    help="Relative tolerance, as in eigen analyze.",
)
@config_option
def race(problem: str, solvers: tuple[str, ...], k: int, tol: float) -> None:
    """Print the number of products that each of SOLVERS needs for the top eigenpairs of PROBLEM.

    The solver with the fewest products comes first, and solvers that did not converge come last.
    """
    runs = [
        eigencore.analyze(problem, k, solver=solver, tol=tol, analyses="none").eigen for solver in solvers
    ]
    for eigen in sorted(runs, key=lambda eigen: (eigen.status != "converged", eigen.matvecs)):
        click.echo(f"{eigen.matvecs:8.0f} products   {eigen.solver:20}   {eigen.status}")
