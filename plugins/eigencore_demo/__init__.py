"""Demo problems that need no download."""

from __future__ import annotations

from eigencore.entries import ProblemEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_problems() -> list[ProblemEntry]:
    return [
        ProblemEntry(
            name="demo:digits",
            summary="a small trained CNN on scikit-learn's handwritten digits",
            load="eigencore_demo.digits:make",
            extra="all",
        ),
        ProblemEntry(
            name="demo:digits-jax",
            summary="the network of demo:digits with its weights, for JAX",
            load="eigencore_demo.digits_jax:make",
            extra="jax",
        ),
        ProblemEntry(
            name="demo:mnist",
            summary="a small trained CNN with a smooth activation, on 5,000 images of MNIST",
            load="eigencore_demo.mnist:make",
            extra="all",
        ),
        ProblemEntry(
            name="demo:mnist-robust",
            summary="the network of demo:mnist, adversarially trained",
            load="eigencore_demo.mnist:make_robust",
            extra="all",
        ),
        ProblemEntry(
            name="demo:quadratic",
            summary="a quadratic with a Hessian-like spectrum and known eigenvalues",
            load="eigencore_demo.quadratic:make",
        ),
    ]
