"""The kind `input_hessian`: the Hessian of each sample's loss over its input, block-diagonal.

A vector has the numbers of all inputs, sample after sample. If a sample's loss does not depend on other
samples, the Hessian of a batch loss over the inputs has a block for each sample, and one product multiplies
all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import array_api_compat.torch as xp
import torch
from torch import Tensor

from eigencore.errors import ProblemError, UsageError
from eigencore.operators import MatrixLike
from eigencore.options import option
from eigencore_torch.allocations import allocation
from eigencore_torch.data.batches import describe, sample_count, take_samples
from eigencore_torch.kinds.empirical_fisher import weights_of_samples
from eigencore_torch.kinds.output_graph import evaluate
from eigencore_torch.models.placement import device_of
from eigencore_torch.risk import Risk, Term
from eigencore_torch.user_errors import explain_errors, second_derivative_hint

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound

KIND = "input_hessian"


@dataclass(frozen=True)
class InputHessianOptions:
    """The options of the kind `input_hessian`.

    Example:
        import torch
        import eigencore

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        operator = eigencore.bind(problem, backend="torch").operator("input_hessian", samples=5)
        assert operator.shape == (20, 20)
    """

    samples: int | None = option(
        None,
        low=1,
        help="how many of the first samples to take; none for all",
        when="set it if vectors with the numbers of all inputs are too large",
    )


def input_hessian(bound: TorchBound, layout: None, options: InputHessianOptions) -> InputHessian:
    """The Hessian of each sample's loss over its input; see `eigencore.interfaces.Kind`."""
    return InputHessian(bound, options.samples)


class InputGraph:
    """The gradient of a batch loss over its inputs, which can be differentiated again."""

    def __init__(self, risk: Risk, term: Term, function: object, most: int):
        x, y = take_samples(term.batch, slice(most))
        self.x = x.detach().clone().requires_grad_(True)
        batch = (self.x.clone(), y)  # a network may modify its input in place
        loss = evaluate(risk.loss, Term(term.index, batch, term.weight, term.last, term.start), KIND)
        weights = weights_of_samples(loss, function, risk.reduction, KIND)
        self._per_sample = torch.where(weights > 0, 1 / weights, torch.zeros_like(weights)).to(self.x.dtype)
        (self._gradient,) = torch.autograd.grad(loss.value, self.x, create_graph=True, materialize_grads=True)

    def product(self, v: Tensor) -> Tensor:
        """The blocks of the batch times v, both in the shape of the inputs."""
        if not self._gradient.requires_grad:
            return torch.zeros_like(self.x)
        (product,) = torch.autograd.grad(self._gradient, self.x, v, retain_graph=True, materialize_grads=True)
        blocks: Tensor = product * self._per_sample.reshape(-1, *[1] * (self.x.ndim - 1))
        return blocks


class InputHessian(MatrixLike):
    """A block-diagonal operator on flat vectors (n,) with the inputs of all samples.

    The graphs of all batches are kept if they fit into the memory for graphs; otherwise none is.

    Args:
        bound: the problem.
        samples: how many of the first samples to take; None: all.

    Raises:
        ProblemError: the batches are not pairs (x, y) of floating-point inputs, the weights of samples in the
            loss are unknown, or the loss of a sample depends on other samples.
    """

    xp = xp

    def __init__(self, bound: TorchBound, samples: int | None):
        self._bound, self._samples = bound, samples
        self.processes = processes = bound.risk.processes
        if processes.count > 1 and samples is not None:
            counts = processes.collect(self._own_samples, "the numbers of samples")
            self._samples = max(0, samples - sum(counts[: processes.rank]))
        own, total, needed, dtype = 0, 0, 0.0, None
        with processes.together("the gradients over the inputs"), bound.risk.session():
            for term, count in self._terms():
                x = term.batch[0]
                if dtype is None:
                    with explain_errors("the gradient over the inputs failed", hint=second_derivative_hint):
                        needed = allocation(partial(self._graph, term, count)).kept / count
                        _check_independence(self._graph(term, count))
                own, total, dtype = own + count * x[:1].numel(), total + count, x.dtype
        found = processes.collect(lambda: (own, dtype), "the sizes of the inputs")
        sizes = [size for size, _ in found]
        n, before = sum(sizes), sum(sizes[: processes.rank])
        if not n:
            raise ProblemError("data is empty")
        self._own = slice(before, before + own)
        self.shape, self.device = (n, n), device_of(bound.risk.loss.model)
        self.dtype = next(one for _, one in found if one is not None)
        self._keep = needed * total <= bound.memory.graphs
        self._kept: list[InputGraph] = []

    def matvec(self, v: Tensor, /) -> Tensor:
        """A v (n,) for v (n,)."""
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor, /) -> Tensor:
        """A V (n, b) for V (n, b).

        Raises:
            UsageError: V has another shape.
            ProblemError: weights changed since the problem was bound, or double backward failed.
        """
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise UsageError(f"the block has shape {tuple(V.shape)}; expected ({self.shape[0]}, b)")
        rows: Tensor = self.processes.gather(lambda: self._own_rows(V[self._own]), "a product", V)
        return rows

    def _own_rows(self, V: Tensor) -> Tensor:
        """The rows of the product that belong to the samples of this process."""
        out, end = torch.zeros_like(V), 0
        with (
            self._bound.risk.session(),
            explain_errors("the product failed", hint=second_derivative_hint),
        ):
            for graph in self._graphs():
                where = slice(end, end := end + graph.x.numel())
                for j in range(V.shape[1]):
                    out[where, j] = graph.product(V[where, j].detach().reshape(graph.x.shape)).reshape(-1)
        return out

    def release(self, needed: int | None = None) -> None:
        """Frees the kept graphs; later products compute them again."""
        self._kept = []

    def _graphs(self) -> Iterator[InputGraph]:
        if self._kept:
            yield from self._kept
            return
        made = []
        for term, count in self._terms():
            graph = self._graph(term, count)
            if self._keep:
                made.append(graph)
            yield graph
        self._kept = made

    def _graph(self, term: Term, count: int) -> InputGraph:
        return InputGraph(self._bound.risk, term, self._bound.problem.loss, count)

    def _own_samples(self) -> int:
        """The number of samples of this process."""
        with self._bound.risk.session():
            return sum(sample_count(batch) or 0 for batch in self._bound.risk.batches())

    def _terms(self) -> Iterator[tuple[Term, int]]:
        """The terms, and how many of the first samples of each are taken."""
        left = self._samples
        for term in self._bound.risk.terms():
            if left == 0:
                return
            batch = term.batch
            pair = isinstance(batch, tuple | list) and len(batch) == 2
            if not (pair and isinstance(batch[0], Tensor) and batch[0].is_floating_point()):
                raise ProblemError(
                    f"the kind {KIND} needs batches (x, y) with floating-point inputs x; batch "
                    f"{term.index} is {describe(batch)}",
                    hint="Use a kind over the weights, such as hessian.",
                )
            count = len(batch[0]) if left is None else min(left, len(batch[0]))
            left = None if left is None else left - count
            yield term, count


def _check_independence(graph: InputGraph) -> None:
    """Checks that the loss of the first sample does not depend on the inputs of the others."""
    v = torch.zeros_like(graph.x)
    v[0] = torch.where(graph.x[0] < 0, -1.0, 1.0)
    product = graph.product(v)
    size, beside = (float(torch.linalg.vector_norm(part)) for part in (product, product[1:]))
    if beside > torch.finfo(v.dtype).eps ** 0.5 * size:
        raise ProblemError(
            f"the kind {KIND} needs a loss of single samples, but that of a sample depends on the inputs of "
            "others",
            hint="With torch.batch_norm=batch, BatchNorm couples the samples: set torch.batch_norm=running.",
        )
