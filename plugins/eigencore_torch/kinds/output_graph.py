"""J'CJ for the outputs of a model: J is their Jacobian over the weights, C a matrix over the outputs.

The product J v of a vector takes a backward pass through the graph of the backward pass: J'u is linear in u,
and the derivative of (J'u)'v with respect to u is J v.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils import _pytree as pytree

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CALLS
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.classifiers.outputs import logits_in
from eigencore_torch.data.batches import sample_count
from eigencore_torch.kinds.term_graph import Passes
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Risk, Term


@dataclass(frozen=True)
class OutputLoss:
    """The loss of a batch and the outputs of the model that it is computed from, with their autograd graph.

    Attributes:
        outputs: the tensors of the outputs that the loss is computed from and that depend on the weights.
        beside: the other leaves of the graph that the loss is computed from, such as weights in a penalty.
        value: the loss ().
        targets: y of a batch (x, y); None for other batches.
        term: the term of the risk.
    """

    outputs: tuple[Tensor, ...]
    beside: tuple[Tensor, ...]
    value: Tensor
    targets: Any
    term: Term


# Multiplies a matrix over the outputs of a batch by a direction: one tensor for each output, in and out.
OutputMatrix: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class OutputGraph:
    """The graph of a term of the risk with which J'CJ is multiplied; see `TermGraph`."""

    def __init__(self, loss: OutputLoss, layout: Layout, matrix: OutputMatrix):
        self._outputs, self._layout, self._matrix = loss.outputs, layout, matrix
        self._directions = [torch.zeros_like(z, requires_grad=True) for z in loss.outputs]
        pulled: Sequence[Tensor | None] = ()
        if self._outputs:
            pulled = torch.autograd.grad(
                self._outputs, layout.parameters, self._directions, create_graph=True, allow_unused=True
            )
        active = [(i, g) for i, g in enumerate(pulled) if g is not None and g.requires_grad]
        self._active, self._pulled = [i for i, _ in active], [g for _, g in active]

    @property
    def outputs(self) -> list[Node | None]:
        """The nodes that computed J'u, from which all others are reached."""
        return [pulled.grad_fn for pulled in self._pulled]

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block of J'CJ times a direction; see `GradientGraph.block_product`."""
        along = self._along(pieces)
        if along is None:
            return [None] * len(pieces)
        return torch.autograd.grad(
            self._outputs,
            [self._layout.parameters[i] for i in pieces],
            list(self._matrix(along)),
            retain_graph=keep,
            allow_unused=True,
        )

    def curvature(self, pieces: Mapping[int, Tensor]) -> Sequence[Tensor]:
        """(J v)_i (C J v)_i for each entry i of each output, which sum to v'J'CJ v."""
        along = self._along(pieces)
        if along is None:
            return [torch.zeros_like(z) for z in self._outputs]
        return [one * other for one, other in zip(along, self._matrix(along), strict=True)]

    def _along(self, pieces: Mapping[int, Tensor]) -> Sequence[Tensor] | None:
        """J v, one tensor for each output; None if it is zero."""
        active = dict(zip(self._active, self._pulled, strict=True))
        chosen = [i for i in pieces if i in active]
        if not chosen:
            return None
        return torch.autograd.grad(
            [active[i] for i in chosen],
            self._directions,
            [pieces[i] for i in chosen],
            retain_graph=True,
            materialize_grads=True,
        )


def output_graphs(
    risk: Risk, layout: Layout, matrix: Callable[[OutputLoss], OutputMatrix], kind: str
) -> Callable[[Term, Passes], OutputGraph]:
    """A function that makes the graph of a term, for `RiskOperator`.

    The first time, it checks that the loss depends on the weights through the outputs alone: J'CJ has no part
    for a penalty in the loss.

    Args:
        risk: the loss over all data.
        layout: the selected parameters.
        matrix: returns C for a batch.
        kind: the name of the kind, for messages.
    """
    checked = False

    def make(term: Term, passes: Passes) -> OutputGraph:
        nonlocal checked
        loss = evaluate(risk.loss, term, kind)
        with passes():
            if not checked:
                _check_boundary(loss, layout, kind)
                checked = True
            return OutputGraph(loss, layout, matrix(loss))

    return make


def evaluate(loss: BatchLoss, term: Term, kind: str) -> OutputLoss:
    """Computes the loss of a term, and collects the outputs of the model in it.

    If what the model returns has `logits`, these are the outputs. A loss(model, batch) may call the model
    several times.

    Raises:
        ProblemError: the loss depends on the weights, but is not computed from an output of the model; or the
            model returns the loss itself.
    """
    found: list[Any] = []
    targets: list[Any] = []

    def inspect(outputs: Any, y: Any) -> None:
        found.append(outputs)
        targets.append(y)

    hook = loss.model.register_forward_hook(lambda module, inputs, outputs: found.append(outputs))
    try:
        value = loss(term.batch, term.index, inspect)
    finally:
        hook.remove()
    if targets:  # a pair: the model was called by this package, with or without hooks
        found = found[-1:]
    candidates = tuple(dict.fromkeys(z for one in found for z in _tensors(logits_in(one))))
    outputs, beside = _computed_from(value, candidates)
    if value.requires_grad and not outputs:
        raise ProblemError(
            f"the kind {kind} needs the outputs of the model, but the loss of batch {term.index} does not "
            "depend on what the model's forward() returns",
            hint=f"Give batches (x, y) and a loss for {CALLS[0]}, or let the loss call the model itself.",
        )
    if [z.shape.numel() for z in outputs] == [1] and sample_count(term.batch) != 1:
        raise ProblemError(
            f"the kind {kind} needs the outputs that the loss is computed from, but the model returns the "
            f"loss of batch {term.index} itself",
            hint="Let forward() return the outputs, or a mapping with `logits` and the loss.",
        )
    return OutputLoss(outputs, beside, value, targets[0] if targets else None, term)


def gradients_in_outputs(loss: OutputLoss, *, create_graph: bool = False) -> list[Tensor]:
    """The gradient of the loss over each output; zeros where the loss does not depend on it."""
    if not loss.outputs or not loss.value.requires_grad:
        return [torch.zeros_like(z) for z in loss.outputs]
    return list(
        torch.autograd.grad(
            loss.value, loss.outputs, create_graph=create_graph, retain_graph=True, materialize_grads=True
        )
    )


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors in the outputs of a model that depend on weights."""
    leaves = list(outputs.values()) if isinstance(outputs, Mapping) else [outputs]
    return [
        leaf
        for leaf in pytree.tree_leaves(leaves)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.requires_grad
    ]


def _computed_from(value: Tensor, outputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs that the graph of a loss meets first, and the leaves that it meets without passing one."""
    numbered = {(z.grad_fn, z.output_nr): i for i, z in enumerate(outputs) if z.grad_fn is not None}
    leaves = {id(z): i for i, z in enumerate(outputs) if z.grad_fn is None}
    met: set[int] = set()
    beside: dict[Tensor, None] = {}
    left = [(value.grad_fn, value.output_nr)] if value.grad_fn is not None else []
    seen = set(left)
    while left:
        edge = left.pop()
        leaf = getattr(edge[0], "variable", None)  # of a node that accumulates the gradient of a leaf
        if edge in numbered:
            met.add(numbered[edge])
        elif leaf is None:
            following = {(node, number) for node, number in edge[0].next_functions if node is not None}
            left += following - seen
            seen |= following
        elif id(leaf) in leaves:
            met.add(leaves[id(leaf)])
        else:
            beside[leaf] = None
    return tuple(z for i, z in enumerate(outputs) if i in met), tuple(beside)


def _check_boundary(loss: OutputLoss, layout: Layout, kind: str) -> None:
    """Checks that no output depends on another one, and that the loss has no selected weights beside them.

    Raises:
        ProblemError: the matrix J'CJ would not be that of this loss.
    """
    for i, z in enumerate(loss.outputs):
        others = [other for j, other in enumerate(loss.outputs) if j != i]
        if others and any(
            g is not None for g in torch.autograd.grad(z.sum(), others, retain_graph=True, allow_unused=True)
        ):
            raise ProblemError(
                f"the kind {kind} needs the outputs that the loss is computed from, but one of the "
                f"{len(loss.outputs)} tensors that the loss uses is computed from another",
                hint="Let forward() return only the tensors that the loss uses, or a mapping with `logits`.",
            )
    names = [
        name
        for name, parameter in zip(layout.names, layout.parameters, strict=True)
        if any(parameter is leaf for leaf in loss.beside)
    ]
    if names:
        raise ProblemError(
            f"the kind {kind} needs a loss that depends on the weights through the outputs of the model "
            f"alone, but this one also uses {_shortened(names)} directly, as a penalty does",
            hint="Leave penalties out of the loss; weight decay can be added with the option weight_decay.",
        )


def _shortened(names: Sequence[str]) -> str:
    """At most three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
