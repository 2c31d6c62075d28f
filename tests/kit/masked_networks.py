"""Networks for digits that are easy to fool and look robust, each in one way, and healthy ones.

The masked ones wrap the same network, so that they classify nearly as it does; a transfer attack from it, or
one without gradients, fools them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


class Changed(nn.Module):
    """A network whose inputs or logits are changed."""

    def __init__(self, network: nn.Module, inputs: Change | None = None, logits: Change | None = None):
        super().__init__()
        self.network, self.inputs, self.logits = network, inputs, logits

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.network(x if self.inputs is None else self.inputs(x))
        return z if self.logits is None else self.logits(z)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.flip(-1)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _rounded(x: Tensor) -> Tensor:
    return torch.round(8 * x) / 8


def _half_rounded(x: Tensor) -> Tensor:
    even = torch.zeros_like(x)
    even[..., ::2] = 1
    return x * (1 - even) + _rounded(x) * even


def _steps(x: Tensor) -> Tensor:
    return torch.floor(6 * x) / 6 + 0.02 * x


def _shattered(x: Tensor) -> Tensor:
    return x + 0.05 * torch.sin(400 * x)


def _decoy(network: nn.Module) -> nn.Module:
    """Adds a tiny oscillation with a large gradient to the first logit."""

    class Decoy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.network(x)
            phase = 2e4 * (x.flatten(1) * torch.linspace(-1, 1, 64, dtype=x.dtype)).sum(1)
            return z + 0.01 * torch.sin(phase)[:, None] * torch.eye(10, dtype=x.dtype)[0]

    return Decoy()


MASKED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "rounded inputs": lambda network: Changed(network, _rounded),
    "half of the inputs rounded": lambda network: Changed(network, _half_rounded),
    "rounded inputs, straight-through": lambda network: Changed(network, _StraightThrough.apply),
    "staircase": lambda network: Changed(network, _steps),
    "gradients of other pixels": lambda network: Changed(network, _Reversed.apply),
    "no gradient": lambda network: Changed(network, lambda x: x.detach() + 0 * x),
    "shattered": lambda network: Changed(network, _shattered),
    "decoy": _decoy,
    "saturated logits": lambda network: Changed(network, logits=lambda z: 20 * torch.tanh(5 * z)),
    "clipped logits": lambda network: Changed(network, logits=lambda z: 10 * z.clamp(-1, 1)),
    "rounded logits": lambda network: Changed(network, logits=lambda z: torch.round(2 * z) / 2),
    "probabilities": lambda network: Changed(network, logits=lambda z: z.softmax(1)),
    "noise": lambda network: Changed(network, lambda x: x + 0.1 * torch.randn_like(x)),
    "constant": lambda network: Changed(network, logits=lambda z: 0 * z + torch.eye(10, dtype=z.dtype)[0]),
}


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,300 images (N, 1, 8, 8) with labels, and 497 held-out ones."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(77))
    x = torch.tensor(data.images / 16, dtype=torch.float32)[order, None]
    y = torch.tensor(data.target)[order]
    return x[:1300], y[:1300], x[1300:], y[1300:]


def _mlp(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), activation(), nn.Linear(64, 10))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(512, 10)
    )


@cache
def trained(make: Callable[[], nn.Module], eps: float = 0.0, temperature: float = 1.0) -> nn.Module:
    """A network after ten epochs, on adversarial inputs of one step if eps is above 0."""
    x, y, _, _ = digits()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = make()
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(10):
            for rows in torch.randperm(len(y)).split(64):  # type: ignore[no-untyped-call]
                inputs = x[rows]
                if eps:
                    inputs = inputs.clone().requires_grad_()
                    loss = nn.functional.cross_entropy(network(inputs), y[rows])
                    (gradient,) = torch.autograd.grad(loss, inputs)
                    inputs = (inputs + eps * gradient.sign()).clamp(0, 1).detach()
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs) / temperature, y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    network.zero_grad()
    return network.eval()


def softplus() -> nn.Module:
    return trained(_softplus)


def _softplus() -> nn.Module:
    return _mlp(nn.Softplus)


def _relu() -> nn.Module:
    return _mlp(nn.ReLU)


def _tanh() -> nn.Module:
    return _mlp(nn.Tanh)


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "softplus": softplus,
    "ReLU": lambda: trained(_relu),
    "tanh": lambda: trained(_tanh),
    "convolution, batch normalisation, SiLU": lambda: trained(_convolutional),
    "adversarially trained": lambda: trained(_relu, eps=0.1),
    "distilled": lambda: trained(_tanh, temperature=20.0),
    "logits times 10,000": lambda: Changed(softplus(), logits=lambda z: 1e4 * z),
    "logits times 1e-6": lambda: Changed(softplus(), logits=lambda z: 1e-6 * z),
}
