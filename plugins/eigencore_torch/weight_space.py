"""The loss and each sample's curvature along a direction over the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eigencore.errors import UsageError
from eigencore.interfaces import Objective
from eigencore_torch.data import shapes
from eigencore_torch.params import Layout

SAMPLES_AT_ONCE = 64
WITHOUT_THIRD_DERIVATIVE = (
    "It takes the third derivative of every operation in the model; PyTorch may have none of the one that it "
    "names: write that with simpler operations."
)


@contextmanager
def moved(layout: Layout, direction: Tensor) -> Iterator[None]:
    """The weights are those of the layout plus the direction (n,) inside, and the very same afterwards.

    Raises:
        UsageError: the direction is no flat vector of the layout.
    """
    pieces = split(layout, direction)
    # Not added in place: the weights' version counters stay, by which graphs and operators know them.
    before = [p.data for p in layout.parameters]
    try:
        for p, piece in zip(layout.parameters, pieces, strict=True):
            p.data = p.data + piece
        yield
    finally:
        for p, data in zip(layout.parameters, before, strict=True):
            p.data = data


def sample_curvature(
    model: nn.Module,
    layout: Layout,
    objective: Objective,
    direction: Tensor,
    x: Tensor,
    y: Tensor,
    most: int = SAMPLES_AT_ONCE,
) -> Tensor:
    """v'H_s v (b,), the second derivative of each sample's objective along the direction v (n,).

    With z' and z'' the first and second derivatives of the logits along v, it is z'' . grad + z' . Hess z',
    grad and Hess those of the objective in logit space.

    Args:
        x: inputs as the model takes them.
        most: samples that go through the model at once.

    Raises:
        UsageError: the direction is no flat vector of the layout.
    """
    along = dict(zip(layout.names, split(layout, direction), strict=True))
    bent = []
    for inputs, labels in zip(torch.split(x, most), torch.split(y, most), strict=True):
        z, first, second = _logits_along(model, along, inputs)
        both = second * objective.grad(z, labels) + first * objective.hvp(z, labels, first)
        bent.append(both.sum(dim=1))
    return torch.cat(bent)


def _logits_along(model: nn.Module, along: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (b, c), and their first and second derivatives at t = 0 of the weights w + t v.

    By backward passes alone: <z, u> is linear in u, so that the derivative over u of its derivative over t is
    z', and of its second one z''. Forward over forward would take half the time, and is wrong by up to 100 %
    with LayerNorm and InstanceNorm (seen in PyTorch 2.13).
    """
    weights = {name: p.detach() for name, p in model.named_parameters()}
    t = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    at = {name: w + t * along[name] if name in along else w for name, w in weights.items()}
    # Cloned: a network may work on its input in place.
    z: Tensor = functional_call(model, at, (x.clone(),))
    u = torch.ones_like(z, requires_grad=True)
    slope = _over(t, z, u, create_graph=True)
    bend = _over(t, slope, create_graph=True)
    return z.detach(), _over(u, slope, retain_graph=True), _over(u, bend)


def _over(x: Tensor, y: Tensor, u: Tensor | None = None, **graph: bool) -> Tensor:
    """The derivative of y over x, pulled back from u; zeros where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(y, x, u, materialize_grads=True, **graph)[0]


def split(layout: Layout, direction: Tensor) -> list[Tensor]:
    """The direction in pieces as the parameters."""
    if not (isinstance(direction, Tensor) and direction.shape == (layout.n,)):
        raise UsageError(f"the direction is {shapes(direction)}; expected a number per weight, ({layout.n},)")
    return layout.split(direction.detach().to(layout.device))
