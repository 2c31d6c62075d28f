"""The whole spectrum: density, trace, diagonal and norms of an operator, with error bars."""

from __future__ import annotations

from eigencore.entries import AnalysisEntry, Capability, CommandEntry
from eigencore.hookspecs import hookimpl

SUMMARIES = {
    "density": "the spectral density, with an error band; top eigenpairs are atoms",
    "trace": "the trace, with an interval",
    "diagonal": "the diagonal, with an interval for each entry",
    "norms": "Frobenius norm, stable rank, effective dimension and log-determinant, with intervals",
}


@hookimpl
def eigen_analyses() -> list[AnalysisEntry]:
    return [
        AnalysisEntry(
            name=name,
            summary=summary,
            load=f"eigencore_spectrum.{name}:{name}",
            options=f"eigencore_spectrum.options:{name.capitalize()}Options",
            eigenpairs=False,
            by_default=False,
        )
        for name, summary in SUMMARIES.items()
    ] + [
        AnalysisEntry(
            name="batch_sharpness",
            summary="curvature of random minibatches along their gradients, and their largest eigenvalues",
            load="eigencore_spectrum.batch_sharpness:batch_sharpness",
            options="eigencore_spectrum.options:BatchSharpnessOptions",
            needs=frozenset({Capability.MINIBATCHES, Capability.WEIGHT_LOSS}),
            eigenpairs=False,
            by_default=False,
        )
    ]


@hookimpl
def eigen_commands() -> list[CommandEntry]:
    return [
        CommandEntry(name=name, summary=f"Estimate {summary}.", load=f"eigencore_spectrum.commands:{name}")
        for name, summary in SUMMARIES.items()
    ]
