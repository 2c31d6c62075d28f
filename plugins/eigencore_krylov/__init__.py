"""Krylov solvers: `lanczos`, thick-restart Lanczos on the operator's device."""

from __future__ import annotations

from eigencore.entries import Capability, SolverEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    return [
        SolverEntry(
            name="lanczos",
            summary="thick-restart Lanczos: fewest products",
            load="eigencore_krylov.lanczos:lanczos",
            options="eigencore_krylov.lanczos:LanczosOptions",
            needs=frozenset({Capability.PRODUCTS}),
            refuses_non_finite=True,
            vectors="eigencore_krylov.lanczos:vectors_held",
            shards=True,
        )
    ]
