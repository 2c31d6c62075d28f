"""The example plugin: hooks that register a solver, a backend, kinds of operator, a problem, and so on.

eigencore imports this module to list the entries, so the module imports nothing heavy. The modules that the
entries name are imported only when they are used.
"""

from __future__ import annotations

from eigencore.entries import (
    AnalysisEntry,
    BackendEntry,
    Capability,
    CommandEntry,
    KindEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    return [
        SolverEntry(
            name="davidson",
            summary="block Davidson: expands the basis by the residuals of unconverged pairs",
            load="eigencore_example_plugin.davidson:davidson",
            options="eigencore_example_plugin.davidson:DavidsonOptions",
        )
    ]


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="softmax",
            summary="softmax regression in NumPy, with analytic derivatives",
            load="eigencore_example_plugin.backend:bind",
        )
    ]


@hookimpl
def eigen_kinds() -> list[KindEntry]:
    return [
        KindEntry(
            backend="softmax",
            name="hessian",
            summary="the Hessian of the loss",
            load="eigencore_example_plugin.backend:hessian",
        ),
        # A kind on a backend of another package.
        KindEntry(
            backend="torch",
            name="uncoupled",
            summary="the Hessian without the blocks that couple two parameters",
            load="eigencore_example_plugin.uncoupled:uncoupled",
            options="eigencore.problems.sharing:CurvatureOptions",
            extra="torch",
        ),
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
            summary="compares solvers by the number of products they need",
            load="eigencore_example_plugin.race:race",
        )
    ]
