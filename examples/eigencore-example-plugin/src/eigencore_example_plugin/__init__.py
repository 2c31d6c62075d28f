"""A solver, a backend with a problem, an analysis and a command.

eigencore imports this module to list what there is; the modules named here are imported when they are used.
"""

from __future__ import annotations

from eigencore.entries import (
    AnalysisEntry,
    BackendEntry,
    Capability,
    CommandEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    return [
        SolverEntry(
            name="davidson",
            summary="block Davidson: the basis grows by the residuals of the pairs that are not there yet",
            load="eigencore_example_plugin.davidson:davidson",
            options="eigencore_example_plugin.davidson:DavidsonOptions",
        )
    ]


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="softmax",
            summary="softmax regression in NumPy, derivatives by hand",
            load="eigencore_example_plugin.backend:bind",
            kinds=("hessian",),
        )
    ]


@hookimpl
def eigen_problems() -> list[ProblemEntry]:
    return [
        ProblemEntry(
            name="example:clusters",
            summary="softmax regression on three clusters of points",
            load="eigencore_example_plugin.clusters:make",
        )
    ]


@hookimpl
def eigen_analyses() -> list[AnalysisEntry]:
    return [
        AnalysisEntry(
            name="explained",
            summary="how much of the operator do the eigenpairs explain?",
            load="eigencore_example_plugin.explained:explained",
            options="eigencore_example_plugin.explained:ExplainedOptions",
            needs=frozenset({Capability.PRODUCTS}),
        )
    ]


@hookimpl
def eigen_commands() -> list[CommandEntry]:
    return [
        CommandEntry(
            name="race",
            summary="which of some solvers takes the fewest products",
            load="eigencore_example_plugin.race:race",
        )
    ]
