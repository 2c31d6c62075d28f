"""The PyTorch backend: operators of any nn.Module and loss, on CPU and CUDA.

It also has the functions of hessian-eigenthings 0.0.2, as in `from eigencore_torch import
compute_hessian_eigenthings`; see `eigencore_torch.eigenthings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.entries import BackendEntry, KindEntry, MonitorEntry
from eigencore.hookspecs import hookimpl

if TYPE_CHECKING:
    from eigencore_torch.eigenthings import HVPOperator as HVPOperator
    from eigencore_torch.eigenthings import LambdaOperator as LambdaOperator
    from eigencore_torch.eigenthings import compute_hessian_eigenthings as compute_hessian_eigenthings
    from eigencore_torch.eigenthings import deflated_power_iteration as deflated_power_iteration
    from eigencore_torch.eigenthings import lanczos as lanczos
    from eigencore_torch.eigenthings import power_iteration as power_iteration

EIGENTHINGS = (
    "HVPOperator",
    "LambdaOperator",
    "compute_hessian_eigenthings",
    "deflated_power_iteration",
    "lanczos",
    "power_iteration",
)

CURVATURE_OPTIONS = "eigencore.problems.sharing:CurvatureOptions"


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="torch",
            summary="PyTorch: the Hessian of an nn.Module's loss, on CPU and CUDA",
            load="eigencore_torch.backend:bind",
            options="eigencore_torch.options:TorchOptions",
            checkpoints=True,
            models=("torch",),
            extra="torch",
        )
    ]


@hookimpl
def eigen_monitors() -> list[MonitorEntry]:
    return [
        MonitorEntry(
            name="torch",
            summary="a PyTorch model and its optimizer while it is trained",
            load="eigencore_torch.training.torch_training:TorchTraining",
            extra="torch",
        )
    ]


@hookimpl
def eigen_kinds() -> list[KindEntry]:
    return [
        _kind("hessian", "the Hessian of the loss", "hessian:hessian"),
        _kind(
            "ggn",
            "the generalised Gauss-Newton matrix: the Hessian of the loss for a linearised model",
            "gauss_newton:ggn",
            semidefinite=True,
        ),
        _kind(
            "fisher",
            "the Fisher information matrix of the model's own labels, exact or by Monte Carlo",
            "fisher:fisher",
            options="fisher:FisherOptions",
            semidefinite=True,
        ),
        _kind(
            "empirical_fisher",
            "the sum over the samples of the outer products of their gradients",
            "empirical_fisher:empirical_fisher",
            semidefinite=True,
        ),
        _kind(
            "scaled",
            "D H D with D = |w| or the norms of parameters: invariant when weights are rescaled",
            "scaled:scaled",
            options="scaled:ScaledOptions",
        ),
        _kind(
            "preconditioned",
            "P^-1/2 H P^-1/2 with the preconditioner P of the optimizer: SGD, RMSprop, Adam or AdamW",
            "preconditioned:preconditioned",
            options="preconditioned:PreconditionedOptions",
        ),
        _kind(
            "input_hessian",
            "the Hessian of each sample's loss over its input, block-diagonal",
            "input_hessian:input_hessian",
            options="input_hessian:InputHessianOptions",
            over_weights=False,
        ),
    ]


def _kind(
    name: str,
    summary: str,
    load: str,
    *,
    options: str | None = None,
    semidefinite: bool = False,
    over_weights: bool = True,
) -> KindEntry:
    kinds = "eigencore_torch.kinds"
    return KindEntry(
        backend="torch",
        name=name,
        summary=summary,
        load=f"{kinds}.{load}",
        options=CURVATURE_OPTIONS if options is None else f"{kinds}.{options}",
        semidefinite=semidefinite,
        over_weights=over_weights,
        extra="torch",
    )


# There is no `__dir__` with these names: whoever lists the attributes of a plugin would import PyTorch.
def __getattr__(name: str) -> object:
    if name not in EIGENTHINGS:
        raise AttributeError(f"module 'eigencore_torch' has no attribute {name!r}")
    from eigencore_torch import eigenthings

    value: object = getattr(eigenthings, name)
    return value
