"""The hooks of eigencore. A plugin implements the hooks it needs; each returns a list of entries.

A plugin is a module, or an object, to which an entry point of the group "eigencore" refers. Its hooks are
marked with `hookimpl`, take no arguments and have the names of the functions below.

Example:
    from eigencore.hookspecs import hookimpl
    from eigencore.interfaces import SolverEntry

    @hookimpl
    def eigen_solvers():
        return [SolverEntry(name="mine", summary="my method", load="my_package.solver:solve")]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from eigencore import entries, interfaces

PROJECT = "eigencore"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def eigen_problems() -> list[interfaces.ProblemEntry]:  # type: ignore[empty-body]
    """Problems that can be used by name."""


@hookspec
def eigen_backends() -> list[interfaces.BackendEntry]:  # type: ignore[empty-body]
    """Backends."""


@hookspec
def eigen_kinds() -> list[interfaces.KindEntry]:  # type: ignore[empty-body]
    """Kinds of operator, each on a backend, which may be that of another package."""


@hookspec
def eigen_solvers() -> list[interfaces.SolverEntry]:  # type: ignore[empty-body]
    """Eigensolvers."""


@hookspec
def eigen_attacks() -> list[interfaces.AttackEntry]:  # type: ignore[empty-body]
    """Adversarial attacks."""


@hookspec
def eigen_analyses() -> list[interfaces.AnalysisEntry]:  # type: ignore[empty-body]
    """Analyses of a problem and its eigenpairs."""


@hookspec
def eigen_commands() -> list[interfaces.CommandEntry]:  # type: ignore[empty-body]
    """Subcommands of `eigen`."""


@hookspec
def eigen_renderers() -> list[interfaces.RendererEntry]:  # type: ignore[empty-body]
    """Renderers, which draw a report of any result."""


@hookspec
def eigen_monitors() -> list[entries.MonitorEntry]:  # type: ignore[empty-body]
    """What backends offer for monitoring a training run."""
