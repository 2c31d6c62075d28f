"""A run as text: what it is about, the pairs, what they cost and are worth, and what the analyses say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eigencore.cli.tables import Page, aligned, cell, page
from eigencore.results import Status

if TYPE_CHECKING:
    from eigencore.results import AnalysisResult, Certificate, EigenResult, Run

VALUE_DIGITS, RESIDUAL_DIGITS = 6, 2


def print_run(run: Run, on: Page | None = None) -> None:
    """Prints it on stdout, or on another page."""
    on = on or page()
    eigen = run.eigen
    problem, setting = head(run)
    on.line(problem, "bold")
    on.line(setting, "dim")
    on.line()
    print_pairs(eigen, run.manifest.get("exact"), on)
    on.line(eigen.advice, "" if eigen.status is Status.CONVERGED else "bold yellow")
    on.line(cost(eigen))
    for line in worth(eigen.certificate, len(eigen.values)):
        on.line(line)
    for note in eigen.notes:
        on.line(f"note: {note}", "dim")
    for name, result in run.analyses.items():
        on.line()
        print_analysis(name, result, on)


def head(run: Run) -> tuple[str, str]:
    """Two lines: the problem, and how it was run."""
    eigen, manifest = run.eigen, run.manifest
    size = f"{eigen.n:,} x {eigen.n:,}"
    problem = [manifest.get("problem") or "an operator", manifest.get("problem_description") or size]
    setting = [manifest.get("backend_description") or f"{eigen.device} {eigen.dtype}"]
    if manifest.get("backend"):
        operator = manifest["operator"]
        setting.append(" of ".join(filter(None, (operator["kind"], operator["params"]))))
    given = (manifest.get("arguments", {}).get("options") or {}).get(eigen.solver, {})
    # A word is a rule that the solver goes by; numbers and switches are told where somebody set them.
    told = [name for name, value in eigen.options.items() if name in given or isinstance(value, str)]
    options = [f"{name} {cell(eigen.options[name])}" for name in told]
    setting += [", ".join([eigen.solver, *options]), f"seed {eigen.seed}"]
    return " · ".join(problem), " · ".join(setting)


def print_pairs(eigen: EigenResult, exact: Sequence[float] | None = None, on: Page | None = None) -> None:
    """The table of eigenvalues. Residuals are norms of fresh products only where the certificate says so."""
    on, k = on or page(), len(eigen.values)
    if not k:
        on.line("  no eigenpair yet")
        on.line()
        return
    values = aligned([*eigen.values.tolist(), *(exact or ())[:k]], VALUE_DIGITS)
    columns = {
        "#": range(1, k + 1),
        "eigenvalue": values[:k],
        **({"exact": values[k:]} if exact else {}),
        "residual" if eigen.certificate.exact else "residual (estimate)": residuals(eigen),
        "converged": eigen.converged.tolist(),
    }
    on.table(list(columns), list(zip(*columns.values(), strict=True)))
    on.line()


def residuals(eigen: EigenResult) -> list[str]:
    """A column of text. Of an estimate below what products of this precision can show, only that is told."""
    least = 0.0 if eigen.certificate.exact else eigen.certificate.floor or 0.0
    texts = aligned([max(float(residual), least) for residual in eigen.residuals], RESIDUAL_DIGITS)
    below = [residual < least for residual in eigen.residuals]
    return [f"<{text}" if under else text for text, under in zip(texts, below, strict=True)]


def cost(eigen: EigenResult) -> str:
    products = f"{_amount(eigen.matvecs)} product{'s' * (eigen.matvecs != 1)} in {_seconds(eigen.seconds)}"
    spent = eigen.certificate.matvecs
    return f"{products}, {_amount(spent)} of them to certify" if spent else products


def worth(certificate: Certificate, k: int) -> list[str]:
    """What the certificate says and, always, what it does not."""
    said = ["fresh products contradicted the solver's estimates"] if certificate.contradicted else []
    if certificate.bound is None:
        return [*said, f"not certified. Not proved: {certificate.not_proved}"]
    sure = "" if certificate.confidence in (None, 1.0) else f" at {100 * certificate.confidence:.3g} %"
    together, eigenvalues = (
        ("this is", "an eigenvalue") if k == 1 else ("together these are", f"{k} eigenvalues")
    )
    said.append(f"certified{sure}: {together} within {certificate.bound:.2g} of {eigenvalues}")
    if certificate.not_proved:
        said.append(f"not proved: {certificate.not_proved}")
    return said


def print_analysis(name: str, result: AnalysisResult, on: Page) -> None:
    on.line(" · ".join(filter(None, (name, result.title))), "bold")
    for title, table in result.tables.items():
        on.line()
        on.line(f"  {title}")
        on.table(table.columns, table.rows)
    if result.numbers:
        on.line()
        on.line("  " + " · ".join(f"{number}: {cell(value)}" for number, value in result.numbers.items()))
    on.line()
    on.line(result.verdict)
    for warning in result.warnings:
        on.line(f"warning: {warning}", "yellow")


def _amount(products: float) -> str:
    return f"{products:,.2f}".rstrip("0").rstrip(".")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
