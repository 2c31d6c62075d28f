"""The JAX backend: operators of functions, Flax and Equinox models, compiled, on CPU, GPU and TPU."""

from __future__ import annotations

from eigencore.entries import BackendEntry, KindEntry
from eigencore.hookspecs import hookimpl

CURVATURE_OPTIONS = "eigencore.problems.sharing:CurvatureOptions"


@hookimpl
def eigen_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="jax",
            summary="JAX: the Hessian of the loss of a function, or of a Flax or Equinox model",
            load="eigencore_jax.backend:bind",
            options="eigencore_jax.options:JaxOptions",
            checkpoints=True,
            models=("jax", "jaxlib", "flax", "equinox"),
            extra="jax",
        )
    ]


@hookimpl
def eigen_kinds() -> list[KindEntry]:
    return [
        KindEntry(
            backend="jax",
            name="hessian",
            summary="the Hessian of the loss",
            load="eigencore_jax.kinds:hessian",
            options=CURVATURE_OPTIONS,
            extra="jax",
        ),
        KindEntry(
            backend="jax",
            name="ggn",
            summary="the generalised Gauss-Newton matrix: the Hessian of the loss for a linearised model",
            load="eigencore_jax.kinds:ggn",
            options=CURVATURE_OPTIONS,
            semidefinite=True,
            extra="jax",
        ),
    ]
