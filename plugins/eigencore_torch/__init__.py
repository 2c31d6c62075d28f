"""The PyTorch backend: operators of any nn.Module and loss, on CPU and CUDA."""

from __future__ import annotations

from eigencore.entries import BackendEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="torch",
            summary="PyTorch: the Hessian of an nn.Module's loss, on CPU and CUDA",
            load="eigencore_torch.backend:bind",
            options="eigencore_torch.backend:TorchOptions",
            kinds=("hessian",),
            checkpoints=True,
            extra="torch",
        )
    ]
