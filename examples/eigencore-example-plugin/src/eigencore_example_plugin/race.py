"""eigen race: which of some solvers takes the fewest products?"""

from __future__ import annotations

import click
import eigencore


@click.command()
@click.argument("problem")
@click.argument("solvers", nargs=-1, required=True)
@click.option("-k", type=int, default=5, show_default=True, metavar="K", help="How many eigenpairs.")
@click.option("--tol", type=float, default=1e-3, show_default=True, metavar="T", help="As in eigen analyze.")
def race(problem: str, solvers: tuple[str, ...], k: int, tol: float) -> None:
    """The products that each of SOLVERS takes for the top eigenpairs of PROBLEM, the fewest first."""
    runs = [
        eigencore.analyze(problem, k, solver=solver, tol=tol, analyses="none").eigen for solver in solvers
    ]
    for eigen in sorted(runs, key=lambda eigen: (eigen.status != "converged", eigen.matvecs)):
        click.echo(f"{eigen.matvecs:8.0f} products   {eigen.solver:20}   {eigen.status}")
