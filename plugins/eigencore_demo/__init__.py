"""Problems that need no download."""

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
            name="demo:mnist",
            summary="a small trained CNN, smooth, on 5,000 images of MNIST",
            load="eigencore_demo.mnist:make",
            extra="all",
        ),
        ProblemEntry(
            name="demo:mnist-robust",
            summary="the same network, adversarially trained",
            load="eigencore_demo.mnist:make_robust",
            extra="all",
        ),
        ProblemEntry(
            name="demo:quadratic",
            summary="a quadratic with a Hessian-like spectrum that is known exactly",
            load="eigencore_demo.quadratic:make",
        ),
    ]
