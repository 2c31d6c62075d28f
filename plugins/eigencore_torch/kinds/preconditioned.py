"""The kind `preconditioned`: P^-1/2 H P^-1/2, with the preconditioner P of a PyTorch optimizer.

A step of the optimizer is -lr P^-1 times an average of gradients. Its largest eigenvalue is the sharpness
that decides about stability: below 2/lr for SGD without momentum, and below (2 + 2 beta_1)/((1 - beta_1) lr)
for Adam, which is 38/lr at beta_1 = 0.9 (Cohen et al. 2022, arXiv:2207.14484, section 2 and equation 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from eigencore.options import option
from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.kinds.optimizer_state import preconditioners
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.kinds.scaled import CURVATURES
from eigencore_torch.models.params import Layout
from eigencore_torch.models.wrappers import unwrapped

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound


@dataclass(frozen=True)
class PreconditionedOptions(CurvatureOptions):
    """The options of the kind `preconditioned`.

    Example:
        import torch
        import eigencore

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        optimizer = torch.optim.Adam(model.parameters())
        torch.nn.functional.cross_entropy(model(data[0][0]), data[0][1]).backward()
        optimizer.step()
        problem = eigencore.Problem(
            model=model, data=data, loss=torch.nn.CrossEntropyLoss(), optimizer=optimizer
        )
        operator = eigencore.bind(problem, backend="torch").operator("preconditioned")
    """

    of: Literal["hessian", "ggn"] = option(
        "hessian", help="the matrix that is preconditioned", when="set ggn for a semidefinite matrix"
    )


def preconditioned(bound: TorchBound, layout: Layout, options: PreconditionedOptions) -> RiskOperator:
    """P^-1/2 H P^-1/2; see `eigencore.interfaces.Kind`.

    Raises:
        ProblemError: the problem has no optimizer, or one that is not known, or it has not made a step with
            some of the parameters.
    """
    problem, model = bound.problem, bound.risk.loss.model
    diagonals = preconditioners(
        problem.optimizer, problem.checkpoint, model, unwrapped(problem.model), layout
    )
    flat = torch.cat([piece.reshape(-1).to(layout.device, layout.dtype) for piece in diagonals])
    return CURVATURES[options.of](bound, layout, options, flat.rsqrt())
