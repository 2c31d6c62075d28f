"""The kind `fisher`: the Fisher information matrix J'FJ of the model's own labels.

F is the expectation over labels y, drawn from the model's distribution p(y | z), of the outer product of the
derivative of -log p(y | z) over the outputs z (Martens, J. Mach. Learn. Res. 21 (2020) 146, section 5). The
labels of the data enter only through their weights. For cross-entropy, binary cross-entropy and the squared
error, this is the Gauss-Newton matrix; computed here from the distribution, not from second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.options import option
from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.kinds.likelihoods import Likelihood, likelihood_of
from eigencore_torch.kinds.output_graph import OutputLoss, OutputMatrix, output_graphs
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.models.params import Layout

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound

EXPECTED = "torch.nn.CrossEntropyLoss, BCEWithLogitsLoss without pos_weight, or MSELoss"


@dataclass(frozen=True)
class FisherOptions(CurvatureOptions):
    """The options of the kind `fisher`.

    Example:
        import torch
        import eigencore

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        fisher = eigencore.bind(problem, backend="torch").operator("fisher", labels=10)
    """

    labels: int | None = option(
        None,
        low=1,
        help="labels to draw for each label of the data (Monte Carlo); none for the exact expectation",
        when="set it to compare with methods that draw labels; the exact matrix costs no more",
    )
    seed: int = option(
        0, low=0, help="seed of the labels that are drawn", when="set it for another draw of the labels"
    )


def fisher(bound: TorchBound, layout: Layout, options: FisherOptions) -> RiskOperator:
    """The Fisher information matrix; see `eigencore.interfaces.Kind`.

    Raises:
        ProblemError: the loss is not a likelihood that is known.
    """
    function = bound.problem.loss
    likelihood = likelihood_of(function)
    if likelihood is None:
        name = getattr(function, "__name__", type(function).__name__)
        raise ProblemError(
            f"the kind fisher needs a loss that defines a distribution of labels; {name} is not known to",
            hint=f"Give {EXPECTED}; or use the kind ggn, which is defined for every loss and is the same "
            "matrix for a cross-entropy.",
        )
    known: Likelihood = likelihood
    # They number the batches of all processes, which compute this together.
    numbers = bound.risk.numbers if options.labels is not None else ()

    def matrix(loss: OutputLoss) -> OutputMatrix:
        z = single_output(loss, "fisher").detach()
        weights = known.weights(z, loss.targets)
        index = loss.term.index
        noise: Sequence[Tensor] = ()
        if options.labels is not None:
            start = loss.term.start + bound.risk.skipped(index)
            noise = _noise(options, options.labels, numbers[index], start, weights.shape, z)
        weights = _expanded(weights, z)
        if options.labels is None:
            return lambda u: [weights * known.covariance(z, u[0])]
        sampled = known.sampled(z, noise)
        return lambda u: [weights * sampled(u[0])]

    graphs = output_graphs(bound.risk, layout, matrix, "fisher")
    return RiskOperator(bound, layout, graphs, options)


def single_output(loss: OutputLoss, kind: str) -> Tensor:
    """The outputs of a batch (x, y), which are a single tensor.

    Raises:
        ProblemError: the batch is not a pair, or there are several outputs.
    """
    if loss.targets is None or len(loss.outputs) != 1:
        raise ProblemError(
            f"the kind {kind} needs batches (x, y) and a model that returns one tensor; batch "
            f"{loss.term.index} has {len(loss.outputs)} outputs",
            hint="Use the kind ggn, which is defined for every loss.",
        )
    return loss.outputs[0]


def _expanded(weights: Tensor, z: Tensor) -> Tensor:
    """Weights in the shape of the labels, for outputs z that may have an axis of classes, the second one."""
    return weights if weights.ndim == z.ndim else weights.unsqueeze(1)


def _noise(
    options: FisherOptions, labels: int, number: int, start: int, shape: Sequence[int], z: Tensor
) -> Sequence[Tensor]:
    """Uniform numbers in (0, 1) in the shape of the labels, which do not depend on how the batch is split.

    Args:
        number: the number of the batch.
        start: the place of the first sample in it.
        z: the outputs, whose data type and device the numbers have.
    """
    rng = arrays.generator(options.seed, "fisher labels", number)
    drawn = rng.random((start + shape[0], labels, *shape[1:]))[start:]
    # In lower precision, they may have been rounded to 0 or 1, where the normal distribution has infinities.
    eps = torch.finfo(z.dtype).eps
    return torch.from_numpy(drawn).to(z.device, z.dtype).clamp(eps, 1 - eps).unbind(1)
