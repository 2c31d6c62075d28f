"""ARPACK's implicitly restarted Lanczos through SciPy; the vectors are kept on the host."""

from __future__ import annotations

from eigencore.entries import Capability, SolverEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    return [
        SolverEntry(
            name="arpack",
            summary="ARPACK's implicitly restarted Lanczos through SciPy; one result, at the end",
            load="eigencore_arpack.arpack:arpack",
            options="eigencore_arpack.arpack:ArpackOptions",
            needs=frozenset({Capability.PRODUCTS}),
            partial=False,
            on_device=False,
            vectors="eigencore_arpack.arpack:vectors_held",
        )
    ]
