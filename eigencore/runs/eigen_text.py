"""Eigenpairs as text: what was computed, the table of eigenvalues, their cost, and what is proved of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eigencore.figures import Table
from eigencore.number_text import aligned, as_text
from eigencore.runs.sampling_text import interval_columns

if TYPE_CHECKING:
    from eigencore.results import EigenResult, Run

VALUE_DIGITS, RESIDUAL_DIGITS = 6, 2
CONTRADICTION = "fresh products contradict the solver's estimated residuals"


def header(run: Run) -> tuple[str, str]:
    """Two lines: the problem, and the backend, operator, solver and seed of the run."""
    eigen, manifest = run.pairs, run.manifest
    operator = manifest.get("operator") or {}
    n = operator["n"] if eigen is None else eigen.n
    size = f"{n:,} x {n:,}"
    problem = [manifest.get("problem") or "an operator", manifest.get("problem_description") or size]
    described = operator if eigen is None else {"device": eigen.device, "dtype": eigen.dtype}
    setting = [manifest.get("backend_description") or "{device} {dtype}".format(**described)]
    if manifest.get("backend"):
        setting.append(" of parameters ".join(filter(None, (operator["kind"], operator["params"]))))
    arguments = manifest.get("arguments", {})
    if eigen is None:
        return " · ".join(problem), " · ".join([*setting, f"seed {arguments['seed']}"])
    given = (arguments.get("options") or {}).get(eigen.solver, {})
    # Text options select the solver's method, so they are shown unless they are "auto"; others only if set.
    chosen = {name for name, value in eigen.options.items() if isinstance(value, str) and value != "auto"}
    asked = {name for name in given if eigen.options.get(name) is not None}
    shown = [name for name in eigen.options if name in asked or name in chosen]
    options = [f"{name} {as_text(eigen.options[name])}" for name in shown]
    setting += [", ".join([eigen.solver, *options]), f"seed {eigen.seed}"]
    return " · ".join(problem), " · ".join(setting)


def of_a_sample(eigen: EigenResult) -> bool:
    """Whether the eigenvalues are those of a sample of the data."""
    return eigen.sampling is not None and eigen.sampling.method != "full"


def eigenvalue_table(eigen: EigenResult, exact: Sequence[float] | None = None) -> Table:
    """The table of eigenvalues, with the exact ones if they are known; without a row if there is none."""
    k = len(eigen.values)
    values = aligned([*eigen.values.tolist(), *(exact or ())[:k]], VALUE_DIGITS)
    sampled = of_a_sample(eigen)
    columns = {
        "#": range(1, k + 1),
        "of the sample" if sampled else "eigenvalue": values[:k],
        **({"exact": values[k:]} if exact else {}),
        **(interval_columns(eigen.sampling) if k and eigen.sampling is not None else {}),
        "residual norm" if eigen.certificate.exact else "estimated residual": residuals(eigen),
        "converged": eigen.converged.tolist(),
    }
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def residuals(eigen: EigenResult) -> list[str]:
    """The column of residuals. Those that the result gives as the precision floor may be less than that."""
    floor = eigen.certificate.floor or 0.0
    texts = aligned([max(float(residual), floor) for residual in eigen.residuals], RESIDUAL_DIGITS)
    below = [residual <= floor and floor > 0 for residual in eigen.residuals]
    return [f"<{text}" if is_below else text for text, is_below in zip(texts, below, strict=True)]


def cost(eigen: EigenResult) -> str:
    """The products and seconds of a solve, on one line, and what the products were for."""
    searching, certifying = eigen.certificate.complete_matvecs, eigen.certificate.matvecs
    purposes = {"to search for missed eigenvalues": searching, "to certify": certifying}
    parts = [f"{_amount(spent)} {purpose}" for purpose, spent in purposes.items() if spent]
    return spent(eigen.matvecs, eigen.seconds) + (f" ({', '.join(parts)})" if parts else "")


def certificate_lines(eigen: EigenResult) -> list[str]:
    """Lines that say what the certificate of a result proves, and what it does not prove."""
    certificate, k, lines = eigen.certificate, len(eigen.values), []
    sampled = of_a_sample(eigen)
    of_sample = " of the sample" if sampled else ""
    if certificate.contradicted:
        lines.append(CONTRADICTION)
    if certificate.bound is None:
        lines.append("no certificate")
    else:
        confidence = certificate.confidence
        title = "certificate" if confidence in (None, 1.0) else f"certificate ({100 * confidence:.3g} %)"
        values, eigenvalues = (
            ("this value is", "an eigenvalue")
            if k == 1
            else (f"the {k} values are together", f"{k} eigenvalues")
        )
        lines.append(f"{title}: {values} within {certificate.bound:.2g} of {eigenvalues}{of_sample}")
    if certificate.complete and (beyond := _beyond(eigen)):
        probability = 100 * (certificate.complete_confidence or 0.0)
        lines.append(f"complete ({probability:.4g} %): none{of_sample} {beyond} was missed")
    if certificate.not_proved:
        lines.append(f"not proved: {certificate.not_proved}")
    return lines


def _beyond(eigen: EigenResult) -> str:
    """The values beyond which nothing was missed, in words; empty if all eigenvalues are known."""
    above, below = eigen.certificate.complete_above, eigen.certificate.complete_below
    if eigen.k == eigen.n:
        return ""
    parts = []
    if above is not None:
        size = "larger in magnitude than" if eigen.which == "LM" else "above"
        parts.append(f"{size} {as_text(above)}")
    if below is not None:
        parts.append(f"below {as_text(below)}")
    return " or ".join(parts)


def spent(matvecs: float, seconds: float) -> str:
    """Products and the time that they took, as in "22 products in 1.4 s"."""
    return f"{_amount(matvecs)} product{'s' * (matvecs != 1)} in {_seconds(seconds)}"


def _amount(products: float) -> str:
    return f"{products:,.2f}".rstrip("0").rstrip(".")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
