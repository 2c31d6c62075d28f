"""The PyTorch backend: operators of any nn.Module and loss, on CPU and CUDA."""

from __future__ import annotations

from eigencore.entries import BackendEntry, KindEntry
from eigencore.hookspecs import hookimpl

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
