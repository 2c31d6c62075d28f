"""The function `report`: a Report of a run, of eigenpairs, of an analysis, or of an attack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eigencore.errors import UsageError
from eigencore.findings import Report
from eigencore.results import AnalysisResult, AttackResult, EigenResult, Run
from eigencore.runs.attack_findings import attacked
from eigencore.runs.config_text import config_text
from eigencore.runs.eigen_findings import eigenvalues
from eigencore.runs.eigen_text import header


def report(result: Any) -> Report:
    """The report of a result: what `plot`, `to_html` and any other renderer draw.

    Args:
        result: a Run, EigenResult, AnalysisResult, AttackResult, or any object with a method `report()`, such
            as what `layers`, `study` and `compare` return. A Report is returned unchanged.

    Raises:
        UsageError: it is something else.

    Example:
        import eigencore

        run = eigencore.analyze("demo:quadratic", k=3)
        report = eigencore.report(run)
        print(report.title, list(report.parts), [figure.title for figure in report.figures])
    """
    if isinstance(result, Report):
        return result
    if isinstance(result, Run):
        return _of_run(result)
    if isinstance(result, EigenResult):
        return Report("Eigenvalues", (), {"eigenvalues": eigenvalues(result)})
    if isinstance(result, AnalysisResult):
        # "Density" for a DensityResult; the title of the result says what was analysed.
        name = type(result).__name__.removesuffix("Result")
        return Report(name, tuple(filter(None, (result.title,))), {"findings": replace(result, title="")})
    if isinstance(result, AttackResult):
        return Report(f"Attack {result.attack}", (), {"attack": attacked(result)})
    own = getattr(result, "report", None)
    made = own() if callable(own) else None
    if not isinstance(made, Report):
        raise UsageError(
            f"there is no report of an object of type {type(result).__name__}",
            hint="Give a run, eigenpairs, the result of an analysis or attack, or what `layers`, `study` or "
            "`compare` returned.",
        )
    return made


def _of_run(run: Run) -> Report:
    manifest, eigen = run.manifest, run.pairs
    parts = {} if eigen is None else {"eigenvalues": eigenvalues(eigen, manifest.get("exact"))}
    # The name of a problem is the title; its description and the setting are the lines below it.
    problem, setting = header(run) if manifest else ("Eigenvalues", "")
    title, _, described = problem.partition(" · ")
    failed = {**manifest.get("failed", {}), **{name: one.message for name, one in run.failed.items()}}
    return Report(
        title,
        tuple(filter(None, (described, setting))),
        {**parts, **run.analyses},
        _details(run),
        (
            *(f"{name} failed: {message}" for name, message in failed.items()),
            *(f"{name} was not run: {reason}" for name, reason in manifest.get("skipped", {}).items()),
        ),
    )


def _details(run: Run) -> dict[str, str]:
    """How the run was made, and how to repeat it, as far as its manifest says so."""
    if "arguments" not in run.manifest:
        return {}
    digest = run.manifest.get("digest")
    return {
        "eigen analyze --config run.toml, where run.toml is": config_text(run),
        **({"digest of the weights and data": digest} if digest else {}),
    }
