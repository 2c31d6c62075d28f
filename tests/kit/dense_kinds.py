"""Dense references for kinds of operator on PyTorch, in float64: explicit Jacobians, loops and sums.

They use all samples at once, without batches, and nothing of eigencore.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor
from torch.autograd import functional as untyped
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[Any, Any], Tensor]
derivatives: Any = untyped  # PyTorch gives them no types


@dataclass
class Dense:
    """The matrices of a loss over the samples (x, y).

    Args:
        model: the network, which is copied and evaluated in evaluation mode.
        loss: loss(model(x), y) of all samples at once.
        params: globs of the selected parameters.
        outputs: what the network returns -> the tensor that the loss is computed from.
    """

    model: Any
    loss: Loss
    x: Tensor
    y: Tensor
    params: Sequence[str] = ("*",)
    outputs: Callable[[Any], Tensor] = lambda z: z

    def __post_init__(self) -> None:
        self.model = copy.deepcopy(self.model).double().eval()
        named = self.model.named_parameters()
        self.selected = {
            name: p.detach()
            for name, p in named
            if p.requires_grad and any(fnmatch(name, one) for one in self.params)
        }
        self.weights = torch.cat([p.reshape(-1) for p in self.selected.values()])

    def run(self, w: Tensor, x: Tensor) -> Any:
        """What the network returns for inputs x at the selected weights w (n,)."""
        named, start = {}, 0
        for name, p in self.selected.items():
            named[name] = w[start : start + p.numel()].view_as(p)
            start += p.numel()
        return functional_call(self.model, named, (x,))

    def hessian(self) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            H: Tensor = derivatives.hessian(lambda w: self.loss(self.run(w, self.x), self.y), self.weights)
        return H

    def jacobian(self) -> Tensor:
        """The Jacobian (N, ..., n) of the outputs (N, ...)."""
        J: Tensor = derivatives.jacobian(lambda w: self.outputs(self.run(w, self.x)), self.weights)
        return J

    def logits(self) -> Tensor:
        return self.outputs(self.run(self.weights, self.x)).detach()

    def ggn(self, loss: Loss | None = None) -> Tensor:
        """J'HJ with the Hessian H of the loss of the outputs as a tensor."""
        z, n = self.logits(), len(self.weights)
        H = derivatives.hessian(lambda flat: (loss or self.loss)(flat.view_as(z), self.y), z.reshape(-1))
        J = self.jacobian().reshape(-1, n)
        product: Tensor = J.T @ H @ J
        return product

    def fisher(self, label_weights: Tensor) -> Tensor:
        """The sum over labels and classes of weight * p(class) * gradient gradient'; logits (N, c, ...)."""
        z, J = self.logits().movedim(1, -1), self.jacobian().movedim(1, -2)
        F = torch.zeros(len(self.weights), len(self.weights), dtype=z.dtype)
        flat = zip(
            z.reshape(-1, z.shape[-1]), J.reshape(-1, *J.shape[-2:]), label_weights.reshape(-1), strict=True
        )
        for logits, rows, weight in flat:
            for c, p in enumerate(torch.softmax(logits, dim=0)):
                leaf = logits.clone().requires_grad_(True)
                (slope,) = torch.autograd.grad(functional.cross_entropy(leaf[None], torch.tensor([c])), leaf)
                g = rows.T @ slope
                F += weight * p * torch.outer(g, g)
        return F

    def empirical_fisher(self, sample_weights: Tensor, loss: Loss | None = None) -> Tensor:
        """The sum over samples of weight * gradient gradient', with the loss of each sample alone."""
        F = torch.zeros(len(self.weights), len(self.weights), dtype=torch.float64)
        for s, weight in enumerate(sample_weights):
            w, one = self.weights.clone().requires_grad_(True), slice(s, s + 1)
            value = (loss or self.loss)(self.run(w, self.x[one]), self.y[one])
            (g,) = torch.autograd.grad(value, w)
            F += weight * torch.outer(g, g)
        return F

    def input_hessian(self, samples: int | None = None) -> Tensor:
        """The Hessian of each sample's loss over its input, block-diagonal."""
        blocks = []
        with sdpa_kernel(SDPBackend.MATH):
            for x, y in zip(self.x[:samples], self.y[:samples], strict=True):
                shape = (1, *x.shape)
                blocks.append(
                    derivatives.hessian(
                        lambda v, y=y, s=shape: self.loss(self.model(v.view(s)), y[None]), x.reshape(-1)
                    )
                )
        joined: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
        return joined
