"""Top eigenvalues of a network's Hessian, certified, and what they say about how easily it is fooled.

import eigencore

run = eigencore.analyze("demo:digits", k=5)         # problem -> operator -> eigenpairs -> analyses
result = eigencore.solve(matrix, k=5, which="LA")   # of anything that multiplies

What is named here is stable within a minor version, and so is `eigencore.interfaces`. Each name is imported
when it is first used.

Nothing is printed. What goes on is logged under "eigencore": each solve and analysis as it ends at INFO, each
snapshot of a solver at DEBUG; `logging.basicConfig(level=logging.INFO)` shows it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.attacking import attack as attack
    from eigencore.errors import EigencoreError as EigencoreError
    from eigencore.errors import Interrupted as Interrupted
    from eigencore.hookspecs import hookimpl as hookimpl
    from eigencore.interfaces import AnalysisEntry as AnalysisEntry
    from eigencore.interfaces import AttackEntry as AttackEntry
    from eigencore.interfaces import BackendEntry as BackendEntry
    from eigencore.interfaces import CommandEntry as CommandEntry
    from eigencore.interfaces import LinearOperator as LinearOperator
    from eigencore.interfaces import Problem as Problem
    from eigencore.interfaces import ProblemEntry as ProblemEntry
    from eigencore.interfaces import Snapshot as Snapshot
    from eigencore.interfaces import SolverEntry as SolverEntry
    from eigencore.operators import as_operator as as_operator
    from eigencore.pipeline import analyze as analyze
    from eigencore.problems import bind as bind
    from eigencore.problems import operator as operator
    from eigencore.request import Request as Request
    from eigencore.results import AnalysisResult as AnalysisResult
    from eigencore.results import AttackResult as AttackResult
    from eigencore.results import Certificate as Certificate
    from eigencore.results import EigenResult as EigenResult
    from eigencore.results import Run as Run
    from eigencore.results import Status as Status
    from eigencore.solving import solve as solve
    from eigencore.storage import load as load

    __version__: str

_HOMES = {
    "attacking": ("attack",),
    "errors": ("EigencoreError", "Interrupted"),
    "hookspecs": ("hookimpl",),
    "interfaces": (
        *("AnalysisEntry", "AttackEntry", "BackendEntry", "CommandEntry", "ProblemEntry", "SolverEntry"),
        *("LinearOperator", "Problem", "Snapshot"),
    ),
    "operators": ("as_operator",),
    "pipeline": ("analyze",),
    "problems": ("bind", "operator"),
    "request": ("Request",),
    "results": ("AnalysisResult", "AttackResult", "Certificate", "EigenResult", "Run", "Status"),
    "solving": ("solve",),
    "storage": ("load",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)

logging.getLogger("eigencore").addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # a type checker sees the names above, and no others

    def __getattr__(name: str) -> object:
        from importlib import import_module, metadata

        if name == "__version__":
            return metadata.version("eigencore")
        if name not in _HOME:
            raise AttributeError(f"module 'eigencore' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"eigencore.{_HOME[name]}"), name)
        return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME, "__version__"]
