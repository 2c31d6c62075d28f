"""The kind `scaled`: D H D with D = |w| or the norms of parameters, invariant when weights are rescaled.

If a network computes the same after the weights w are multiplied by S > 0 and the Hessian becomes S^-1 H
S^-1, then |S w| = S |w|, and both matrices have the same eigenvalues: those of the largest relative change of
the weights (Kwon et al., ASAM, ICML 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from eigencore.options import option
from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.kinds.gauss_newton import ggn
from eigencore_torch.kinds.hessian import hessian
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.models.params import Layout

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound

CURVATURES = {"hessian": hessian, "ggn": ggn}


@dataclass(frozen=True)
class ScaledOptions(CurvatureOptions):
    """The options of the kind `scaled`.

    Example:
        import torch
        import eigencore

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        scaled = eigencore.bind(problem, backend="torch").operator("scaled", by="parameters")
    """

    by: Literal["weights", "parameters"] = option(
        "weights",
        help="D: the absolute value of each weight, or the norm of the parameter that it belongs to",
        when="set parameters for invariance under the rescaling of whole layers only",
    )
    of: Literal["hessian", "ggn"] = option(
        "hessian", help="the matrix that is scaled", when="set ggn for a semidefinite matrix"
    )


def scaled(bound: TorchBound, layout: Layout, options: ScaledOptions) -> RiskOperator:
    """D H D; see `eigencore.interfaces.Kind`."""
    with torch.no_grad():
        pieces = [
            p.abs() if options.by == "weights" else torch.linalg.vector_norm(p).expand_as(p)
            for p in layout.parameters
        ]
        scale = torch.cat([piece.reshape(-1).to(layout.dtype) for piece in pieces])
    return CURVATURES[options.of](bound, layout, options, scale)
