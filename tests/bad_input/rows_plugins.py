"""Third-party plugins, each broken in its own way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
from rows import NO_ANALYSES, Row

import eigencore
from eigencore.errors import EigencoreError, PluginError, UnknownNameError, UsageError

SOLVER = """
    from eigencore.hookspecs import hookimpl
    from eigencore.interfaces import SolverEntry

    @hookimpl
    def eigen_solvers():
        return [SolverEntry(name="{name}", summary="made up", load="strange:{load}")]

    def never(operator, request, options, *, state=None):
        raise RuntimeError("out of order")
        yield

    def leaves(operator, request, options, *, state=None):
        import sys
        sys.exit(0)
        yield

    def list_of_pairs(operator, request, options, *, state=None):
        return [1, 2]

    def junk(operator, request, options, *, state=None):
        yield 42

    thing = 42
"""
ANALYSIS = """
    from eigencore.hookspecs import hookimpl
    from eigencore.interfaces import AnalysisEntry

    @hookimpl
    def eigen_analyses():
        return [AnalysisEntry(name="strange", summary="made up", load="strange:{load}")]

    def raises(context, options):
        raise RuntimeError("out of order")
        yield

    def leaves(context, options):
        import sys
        sys.exit(0)
        yield

    def junk(context, options):
        yield "fine"
"""


def plugin(code: str) -> Callable[[Path], None]:
    """Installs a plugin named strange in the current folder, which is on sys.path."""

    def prepare(folder: Path) -> None:
        (folder / "strange.py").write_text(dedent(code))
        info = folder / "strange-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[eigencore]\nstrange = strange\n")

    return prepare


def by_solver(
    given: str,
    *words: str,
    code: str,
    solver: str = "odd",
    error: type[EigencoreError] | None = PluginError,
    **more: Any,
) -> Row:
    return Row(
        given,
        error,
        words,
        lambda: eigencore.analyze("matrices.py:matrix", k=1, solver=solver, analyses="none"),
        ("analyze", "matrices.py:matrix", "-k", "1", "--solver", solver, *NO_ANALYSES),
        prepare=plugin(code),
        **more,
    )


def by_analysis(given: str, *words: str, load: str) -> Row:
    return Row(
        given,
        None,
        words,
        lambda: eigencore.analyze("matrices.py:matrix", k=1, analyses="strange"),
        ("analyze", "matrices.py:matrix", "-k", "1", "--analyses", "strange"),
        code=4,
        prepare=plugin(ANALYSIS.format(load=load)),
    )


def others(code: str) -> dict[str, Any]:
    """A broken plugin while another solver is used, which works."""
    return {"code": code, "solver": "lanczos", "error": None, "truth": lambda: np.array([9.0])}


FAILED = ("odd", "Plugin strange failed to load")
ROWS = [
    by_solver("a plugin that can't be imported", **others("import no_such_package")),
    by_solver("a plugin that calls sys.exit", **others("import sys; sys.exit(0)")),
    by_solver("a plugin with a syntax error", **others("def (")),
    by_solver(
        "a solver of a plugin that can't be imported",
        *FAILED,
        "no_such_package",
        code="import no_such_package",
        error=UnknownNameError,
    ),
    by_solver(
        "a solver of a plugin that calls sys.exit",
        *FAILED,
        "sys.exit(0)",
        code="import sys; sys.exit(0)",
        error=UnknownNameError,
    ),
    by_solver(
        "a solver of a plugin whose hook is misspelt",
        *FAILED,
        "eigen_solvers",
        code=SOLVER.format(name="odd", load="never").replace("eigen_solvers", "eigen_solver"),
        error=UnknownNameError,
    ),
    by_solver(
        "a solver of a plugin whose hook returns a number",
        *FAILED,
        "expected a list",
        code="from eigencore.hookspecs import hookimpl\n@hookimpl\ndef eigen_solvers():\n    return 3\n",
        error=UnknownNameError,
    ),
    by_solver(
        "a solver that two plugins provide",
        "'lanczos' is the name of 2 entries",
        "lanczos@strange",
        code=SOLVER.format(name="lanczos", load="never"),
        solver="lanczos",
        error=UsageError,
    ),
    by_solver(
        "a solver whose import string names nothing",
        "odd can't be loaded from strange:nothing",
        code=SOLVER.format(name="odd", load="nothing"),
    ),
    by_solver("a solver that can't be called", "odd", code=SOLVER.format(name="odd", load="thing")),
    by_solver(
        "a solver that fails",
        "the solver odd failed",
        "out of order",
        code=SOLVER.format(name="odd", load="never"),
    ),
    by_solver(
        "a solver that calls sys.exit",
        "the solver odd failed",
        "SystemExit",
        code=SOLVER.format(name="odd", load="leaves"),
    ),
    by_solver(
        "a solver that is not a generator",
        "the solver odd",
        code=SOLVER.format(name="odd", load="list_of_pairs"),
    ),
    by_solver(
        "a solver that yields a number", "the solver odd failed", code=SOLVER.format(name="odd", load="junk")
    ),
    by_analysis("an analysis that fails", "out of order", load="raises"),
    by_analysis("an analysis that calls sys.exit", "SystemExit", load="leaves"),
    by_analysis("an analysis that yields text", "expected an AnalysisResult", load="junk"),
]
