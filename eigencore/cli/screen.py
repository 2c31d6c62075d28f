"""A run as text: what it is about, the pairs, what they cost and are worth, and what the analyses say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eigencore.cli.tables import cell, print_table

if TYPE_CHECKING:
    from eigencore.results import AnalysisResult, Certificate, EigenResult, Run


def print_run(run: Run) -> None:
    for line in head(run):
        print(line)
    print()
    print_pairs(run.eigen, run.manifest.get("exact"))
    print(cost(run.eigen))
    print(worth(run.eigen.certificate, len(run.eigen.values)))
    print(run.eigen.advice)
    for note in run.eigen.notes:
        print(f"note: {note}")
    for name, result in run.analyses.items():
        print()
        print_analysis(name, result)


def head(run: Run) -> list[str]:
    """Two lines: the problem, and how it was run."""
    eigen, manifest = run.eigen, run.manifest
    size = f"{eigen.n:,} x {eigen.n:,}"
    problem = [manifest.get("problem") or "an operator", manifest.get("problem_description") or size]
    setting = [manifest.get("backend_description") or f"{eigen.device} {eigen.dtype}"]
    if manifest.get("backend"):
        operator = manifest["operator"]
        setting.append(" of ".join(filter(None, (operator["kind"], operator["params"]))))
    given = manifest.get("arguments", {}).get("options") or {}
    options = [f"{name} {cell(value)}" for name, value in given.get(eigen.solver, {}).items()]
    setting += [", ".join([eigen.solver, *options]), f"seed {eigen.seed}"]
    return [" · ".join(problem), " · ".join(setting)]


def print_pairs(eigen: EigenResult, exact: Sequence[float] | None = None) -> None:
    """The table of eigenvalues. Residuals are norms of fresh products only where the certificate says so."""
    if not len(eigen.values):
        print("  no eigenpair yet")
        return
    columns = {
        "#": range(1, len(eigen.values) + 1),
        "eigenvalue": eigen.values.tolist(),
        **({} if exact is None else {"exact": exact[: len(eigen.values)]}),
        "residual" if eigen.certificate.exact else "residual (estimate)": [
            float(f"{residual:.2g}") for residual in eigen.residuals
        ],
        "converged": eigen.converged.tolist(),
    }
    print_table(list(columns), list(zip(*columns.values(), strict=True)))
    print()


def cost(eigen: EigenResult) -> str:
    products = f"{_amount(eigen.matvecs)} product{'s' * (eigen.matvecs != 1)} in {_seconds(eigen.seconds)}"
    spent = eigen.certificate.matvecs
    return f"{products}, {_amount(spent)} of them to certify" if spent else products


def worth(certificate: Certificate, k: int) -> str:
    """What the certificate says and, always, what it does not."""
    said = []
    if certificate.contradicted:
        said.append("fresh products contradicted the solver's estimates.")
    if certificate.bound is not None:
        sure = "" if certificate.confidence in (None, 1.0) else f" at {100 * certificate.confidence:.3g} %"
        eigenvalues = "an eigenvalue" if k == 1 else f"{k} eigenvalues"
        together = "this is" if k == 1 else "together these are"
        said.append(f"certified{sure}: {together} within {certificate.bound:.2g} of {eigenvalues}.")
    else:
        said.append("not certified.")
    if certificate.not_proved:
        said.append(f"Not proved: {certificate.not_proved}.")
    return " ".join(said)


def print_analysis(name: str, result: AnalysisResult) -> None:
    print(name)
    for title, table in result.tables.items():
        print(f"  {title}")
        print_table(table.columns, table.rows)
    for number, value in result.numbers.items():
        print(f"  {number}: {cell(value)}")
    print(result.verdict)
    for warning in result.warnings:
        print(f"warning: {warning}")


def _amount(products: float) -> str:
    return f"{products:,.2f}".rstrip("0").rstrip(".")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
