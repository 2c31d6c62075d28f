"""The gradient of a batch loss as an autograd graph.

With the graph kept, a Hessian product is one backward pass. Without it, the forward pass and the gradient are
computed again first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from eigencore_torch.models.params import Layout


class GradientGraph:
    """The gradient of a scalar loss over the parameters of a layout, which can be differentiated again."""

    def __init__(self, loss: Tensor, layout: Layout):
        self._layout = layout
        # A loss that does not depend on the weights has no graph; its Hessian is zero.
        gradients = (
            torch.autograd.grad(loss, layout.parameters, create_graph=True, allow_unused=True)
            if loss.requires_grad
            else ()
        )
        # The gradient over an unused parameter, or one that enters linearly, contributes nothing.
        self._active = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
        self._gradients = [gradients[i] for i in self._active]

    @property
    def outputs(self) -> list[Node | None]:
        """The nodes that computed the gradients, from which all others are reached."""
        return [gradient.grad_fn for gradient in self._gradients]

    def product(self, v: Tensor, *, keep: bool) -> Sequence[Tensor | None]:
        """The Hessian times the flat vector v (n,), one piece per parameter; None stands for zeros.

        Args:
            keep: whether the graph is used again.
        """
        return self.block_product(dict(enumerate(self._layout.split(v))), keep=keep)

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block of the Hessian times a direction: only the operations between its parameters run.

        Args:
            pieces: the direction in each parameter of the block, by its position in the layout.
            keep: whether the graph is used again.

        Returns:
            One piece per parameter of the block, in the order of `pieces`.
        """
        active = dict(zip(self._active, self._gradients, strict=True))
        chosen = [i for i in pieces if i in active]
        if not chosen:
            return [None] * len(pieces)
        return torch.autograd.grad(
            [active[i] for i in chosen],
            [self._layout.parameters[i] for i in pieces],
            grad_outputs=[pieces[i] for i in chosen],
            retain_graph=keep,
            allow_unused=True,
        )
