"""The function `report`: a Report of a run, of eigenpairs, of an analysis, or of an attack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import UsageError
from eigencore.figures import Figure, Reference, fitting_scale
from eigencore.findings import Report
from eigencore.results import AnalysisResult, AttackResult, EigenResult, Run, Status
from eigencore.runs.config_text import config_text
from eigencore.runs.eigen_text import certificate_lines, cost, eigenvalue_table, header
from eigencore.runs.sampling_text import sampling_lines

if TYPE_CHECKING:
    from collections.abc import Sequence


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


# -- eigenpairs --------------------------------------------------------------------------------------------


def eigenvalues(eigen: EigenResult, exact: Sequence[float] | None = None) -> AnalysisResult:
    """The eigenpairs as findings: their status, table, certificate and figures.

    Args:
        exact: the exact eigenvalues, if they are known.
    """
    lines = [cost(eigen), *certificate_lines(eigen), *sampling_lines(eigen.sampling)]
    ended = eigen.status is Status.CONVERGED
    return AnalysisResult(
        verdict=_verdict(eigen),
        tables={"eigenvalues": eigenvalue_table(eigen, exact)},
        columns=eigen.columns,
        figures=tuple(filter(None, (_values_figure(eigen), _history_figure(eigen)))),
        warnings=() if ended else (_sentence(eigen.advice),),
        remarks=tuple(map(_sentence, (*lines, *eigen.notes))),
        matvecs=eigen.matvecs,
        seconds=eigen.seconds,
    )


def _verdict(eigen: EigenResult) -> str:
    """The eigenvalues in a sentence, how the solve ended, and whether one was missed."""
    values, complete = eigen.values, eigen.complete
    if not len(values):
        return "There are no eigenvalues."
    first, last = float(values[0]), float(values[-1])
    found = (
        f"The eigenvalue is {first:.6g}"
        if len(values) == 1
        else f"The eigenvalues are {first:.6g} to {last:.6g}"
    )
    ended = f"{found}; {eigen.advice}" if eigen.status is Status.CONVERGED else found
    missed = {True: "none was missed", False: "one may have been missed"}
    if complete is None:
        return _sentence(ended)
    probability = eigen.certificate.complete_confidence
    at = "" if probability is None or not complete else f", at {100 * probability:.4g} %"
    return f"{_sentence(ended)} {_sentence(missed[complete] + at)}"


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}{'' if line.endswith('.') else '.'}"


def _values_figure(eigen: EigenResult) -> Figure | None:
    """The eigenvalues by rank, with the interval that the certificate proves."""
    values, proved = eigen.values, eigen.certificate
    if not len(values):
        return None
    bands = {} if proved.bound is None else {"eigenvalue": (values - proved.bound, values + proved.bound)}
    scale = fitting_scale(values)
    references: tuple[Reference, ...] = () if scale == "log" else (Reference("y", 0.0),)
    above = proved.complete_above
    if proved.complete and above is not None and (bool((values > 0).all()) or eigen.which != "LM"):
        references += (Reference("y", above, "none above it was missed"),)
    text = "The eigenvalues by rank"
    if proved.bound is not None:
        text += f", with the distance {proved.bound:.2g} within which the certificate places them"
    return Figure(
        "scatter",
        "Eigenvalues",
        "rank",
        "eigenvalue",
        {"x": np.arange(1, len(values) + 1), "eigenvalue": values},
        bands=bands,
        references=references,
        y_scale=scale,
        caption=f"{text}.",
    )


def _history_figure(eigen: EigenResult) -> Figure | None:
    """The largest ratio of an estimated residual to its threshold, over the products."""
    steps = [step for step in eigen.history if step.worst is not None and step.worst > 0]
    if len(steps) < 2:
        return None
    return Figure(
        "line",
        "Convergence",
        "products",
        "residual / threshold",
        {
            "x": np.array([step.matvecs for step in steps]),
            "worst pair": np.array([step.worst for step in steps]),
        },
        references=(Reference("y", 1.0, "converged"),),
        y_scale="log",
        caption="The largest ratio of an estimated residual norm to its threshold among the requested pairs, "
        "over the number of products. All pairs have converged once it is below 1.",
    )


# -- attacks -----------------------------------------------------------------------------------------------


def attacked(result: AttackResult) -> AnalysisResult:
    """What an attack found, as findings: how many samples were fooled, and at which distances."""
    found, samples = result.distance[result.success & result.correct], len(result.labels)
    wrong = int((~result.correct).sum())
    radius = "" if result.eps is None else f" within {result.norm} distance {result.eps:g}"
    numbers: dict[str, float | int | str | bool | None] = {
        "samples": samples,
        "misclassified without a perturbation": wrong,
        "fooled": int((result.success & result.correct).sum()),
        "accuracy under attack": result.accuracy,
        "forward passes": result.forward,
        "backward passes": result.backward,
    }
    if len(found):
        numbers["median distance"] = float(np.median(found))
    return AnalysisResult(
        verdict=f"{result.attack} fooled {len(found)} of {samples - wrong} correctly classified samples"
        f"{radius}; the accuracy under attack is {100 * result.accuracy:.3g} %.",
        title=f"{result.attack}, {result.norm}, seed {result.seed}",
        numbers=numbers,
        columns=result.columns,
        figures=() if len(found) < 2 else (_distances_figure(result, np.sort(found)),),
        seconds=result.seconds,
    )


def _distances_figure(result: AttackResult, found: Any) -> Figure:
    samples = len(result.labels)
    wrong = int((~result.correct).sum())
    fooled = wrong + np.arange(1, len(found) + 1)
    x = np.concatenate([[0.0], found])
    share = np.concatenate([[1 - wrong / samples], 1 - fooled / samples])
    return Figure(
        "line",
        "Accuracy within a distance",
        f"{result.norm} distance",
        "accuracy",
        {"x": x, result.attack: share},
        references=() if result.eps is None else (Reference("x", result.eps, "eps"),),
        caption=f"The share of {samples} samples that {result.attack} did not fool within a distance, found "
        "by one attack: the accuracy against the best attack is at most this.",
    )
