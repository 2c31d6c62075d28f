"""Shifted weights, and each sample's curvature along a direction in weight space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eigencore.errors import UsageError
from eigencore.interfaces import Objective
from eigencore_torch.data.batches import describe
from eigencore_torch.models.params import Layout
from eigencore_torch.models.shards import own_entries, set_own_entries

SAMPLES_PER_PASS = 64


@contextmanager
def shifted_weights(layout: Layout, direction: Tensor) -> Iterator[None]:
    """Adds a direction (n,) to the weights of the layout in a context, and restores them afterwards.

    Raises:
        UsageError: the direction is not a flat vector of the layout.
    """
    before = [own_entries(p) for p in layout.parameters]
    try:
        shift_weights(layout, direction)
        yield
    finally:
        for p, entries in zip(layout.parameters, before, strict=True):
            set_own_entries(p, entries)


def shift_weights(layout: Layout, direction: Tensor) -> None:
    """Adds a direction (n,) to the weights of the layout.

    Raises:
        UsageError: the direction is not a flat vector of the layout.
    """
    # Not added in place: graphs and operators detect changes by version counters, which must not change.
    for p, piece in zip(layout.parameters, _pieces(layout, direction), strict=True):
        set_own_entries(p, own_entries(p) + own_entries(piece))


def sample_curvature(
    model: nn.Module,
    layout: Layout,
    objective: Objective,
    direction: Tensor,
    x: Tensor,
    y: Tensor,
    logits: Callable[[Any, int], Tensor],
    samples_per_pass: int = SAMPLES_PER_PASS,
) -> Tensor:
    """v'H_s v (b,), the second derivative of each sample's objective along the direction v (n,).

    With z' and z'' the first and second derivatives of the logits along v, it is z'' . grad + z' . Hess z',
    where grad and Hess are those of the objective in logit space.

    Args:
        x: inputs (b, ...) in the shape that the model takes.
        y: labels (b,).
        logits: the logits (b, c) in the outputs of the model for b samples.
        samples_per_pass: the largest number of samples in a forward pass.

    Raises:
        UsageError: the direction is not a flat vector of the layout.
    """
    along = dict(zip(layout.parameters, _pieces(layout, direction), strict=True))
    curvatures = [x.new_zeros(0)]
    for inputs, labels in zip(
        torch.split(x, samples_per_pass), torch.split(y, samples_per_pass), strict=True
    ):
        if not len(inputs):  # `split` gives one empty part of no samples
            break
        z, first, second = _logits_along(model, along, inputs, logits)
        terms = second * objective.grad(z, labels) + first * objective.hvp(z, labels, first)
        curvatures.append(terms.sum(dim=1))
    return torch.cat(curvatures)


def _logits_along(
    model: nn.Module,
    along: dict[nn.Parameter, Tensor],
    x: Tensor,
    logits: Callable[[Any, int], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (b, c), and their first and second derivatives at t = 0 of the weights w + t v.

    Only backward passes are used: <z, u> is linear in u, so that the derivative with respect to u of its
    first derivative with respect to t is z', and that of its second derivative is z''. Forward over forward
    would take half the time, but is wrong by up to 100 % with LayerNorm and InstanceNorm (seen in PyTorch
    2.13).
    """
    t = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    at = {
        name: p.detach() + t * along[p] if p in along else p.detach() for name, p in model.named_parameters()
    }
    # Cloned, since a network may modify its input in place.
    z = logits(functional_call(model, at, (x.clone(),)), len(x))
    u = torch.ones_like(z, requires_grad=True)
    slope = _derivative(t, z, u, create_graph=True)
    second_slope = _derivative(t, slope, create_graph=True)
    return z.detach(), _derivative(u, slope, retain_graph=True), _derivative(u, second_slope)


def _derivative(x: Tensor, y: Tensor, u: Tensor | None = None, **graph: bool) -> Tensor:
    """The derivative of <y, u>, or of a scalar y, with respect to x; zeros if y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(y, x, u, materialize_grads=True, **graph)[0]


def _pieces(layout: Layout, direction: Tensor) -> list[Tensor]:
    """The direction as one piece per parameter, on the device of the parameters."""
    if not (isinstance(direction, Tensor) and direction.shape == (layout.rows,)):
        of_all = "" if layout.shards is None else " that this process holds"
        raise UsageError(
            f"the direction is {describe(direction)}; expected one value per weight{of_all}, ({layout.rows},)"
        )
    return layout.split(direction.detach().to(layout.device))
