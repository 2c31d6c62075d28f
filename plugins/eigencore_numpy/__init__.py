"""The NumPy backend: a classifier of two layers, its derivatives written by hand."""

from __future__ import annotations

from eigencore.entries import BackendEntry, ProblemEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="numpy",
            summary="NumPy: the Hessian of a two-layer classifier's loss, derivatives by hand",
            load="eigencore_numpy.backend:bind",
            kinds=("hessian",),
        )
    ]


@hookimpl
def eigen_problems() -> list[ProblemEntry]:
    return [
        ProblemEntry(
            name="demo:digits-numpy",
            summary="a small trained two-layer network on handwritten digits, without PyTorch",
            load="eigencore_numpy.digits:make",
            extra="demo",
        )
    ]
