"""The PyTorch backend: operators of any nn.Module and loss, on CPU and CUDA."""

from __future__ import annotations

from eigencore.entries import BackendEntry, KindEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="torch",
            summary="PyTorch: the Hessian of an nn.Module's loss, on CPU and CUDA",
            load="eigencore_torch.backend:bind",
            options="eigencore_torch.backend:TorchOptions",
            checkpoints=True,
            extra="torch",
        )
    ]


@hookimpl
def eigen_kinds() -> list[KindEntry]:
    return [
        KindEntry(
            backend="torch",
            name="hessian",
            summary="the Hessian of the loss",
            load="eigencore_torch.kinds.hessian:hessian",
            options="eigencore_torch.kinds:CurvatureOptions",
            extra="torch",
        ),
        KindEntry(
            backend="torch",
            name="ggn",
            summary="the generalised Gauss-Newton matrix: the Hessian of the loss for a linearised model",
            load="eigencore_torch.kinds.gauss_newton:ggn",
            options="eigencore_torch.kinds:CurvatureOptions",
            semidefinite=True,
            extra="torch",
        ),
    ]
