"""The NumPy backend: two-layer classifiers with analytic derivatives, and a demo problem without PyTorch."""

from __future__ import annotations

from eigencore.entries import BackendEntry, KindEntry, ProblemEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="numpy",
            summary="NumPy: the loss Hessian of a two-layer classifier, with analytic derivatives",
            load="eigencore_numpy.backend:bind",
            models=("eigencore_numpy",),
        )
    ]


@hookimpl
def eigen_kinds() -> list[KindEntry]:
    return [
        KindEntry(
            backend="numpy",
            name="hessian",
            summary="the Hessian of the loss",
            load="eigencore_numpy.kinds:hessian",
            options="eigencore.problems.sharing:CurvatureOptions",
        ),
        KindEntry(
            backend="numpy",
            name="ggn",
            summary="the generalised Gauss-Newton matrix: the Hessian of the loss for a linearised network",
            load="eigencore_numpy.kinds:ggn",
            options="eigencore.problems.sharing:CurvatureOptions",
            semidefinite=True,
        ),
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
