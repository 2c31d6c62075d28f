"""The four networks that are measured, each with its data, as problems.

The network for digits is trained on real images. The others have synthetic data with learnable labels, drawn
with seed 0. The MLP, whose spectrum is computed, too, is in the middle of its training; the other two have
random weights, because the cost of a product does not depend on the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore import Problem
from eigencore.problems import find_problem

CLASSES, BATCH = 10, 256


def mlp() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)
    )
    x, y = _clusters(2048, (784,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(20):
        chosen = torch.randint(0, len(x), (BATCH,))
        optimizer.zero_grad()
        functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return _problem("MLP", "784-512-512-10, ReLU, half trained", model, x, y, BATCH)


def digits() -> Problem:
    """demo:digits unchanged: trained weights, real images, and a last batch smaller than the others."""
    problem = find_problem("demo:digits")
    return _problem("digits CNN", "demo:digits, trained, ReLU", problem.model, *one_batch(problem), BATCH)


def transformer() -> Problem:
    torch.manual_seed(0)
    tokens = torch.randint(0, 100, (500, 32))
    y = torch.randint(0, CLASSES, (500,))
    tokens[:, ::2] = (tokens[:, ::2] + 10 * y[:, None]) % 100
    return _problem("transformer", "encoder of 2 layers, width 64, LayerNorm", Encoder(), tokens, y, 128)


def resnet20() -> Problem:
    torch.manual_seed(0)
    x, y = _clusters(100, (3, 32, 32))
    model = ResNet20()
    model.train()
    with torch.no_grad():
        model(x)  # sets the statistics of BatchNorm
    return _problem("ResNet-20", "convolutions, BatchNorm, ReLU", model, x, y, 50)


NETWORKS: dict[str, Callable[[], Problem]] = {
    "mlp": mlp,
    "digits": digits,
    "transformer": transformer,
    "resnet20": resnet20,
}


def one_batch(problem: Problem) -> tuple[Tensor, Tensor]:
    """All data of a problem as one batch."""
    xs, ys = zip(*problem.data, strict=True)
    return torch.cat(xs), torch.cat(ys)


def _problem(name: str, what: str, model: nn.Module, x: Tensor, y: Tensor, batch: int) -> Problem:
    weights = sum(p.numel() for p in model.parameters())
    return Problem(
        model=model.eval(),
        data=list(zip(x.split(batch), y.split(batch), strict=True)),
        loss=nn.CrossEntropyLoss(),
        reduction="mean",
        name=name,
        description=f"{what}; {weights:,} weights, {len(x):,} samples in batches of {batch}",
    )


def _clusters(samples: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Gaussian noise around a random centre for each class; the classes overlap."""
    centres, y = torch.randn(CLASSES, *shape), torch.randint(0, CLASSES, (samples,))
    return 0.1 * centres[y] + torch.randn(samples, *shape), y


class Encoder(nn.Module):
    """A transformer encoder over tokens (batch, 32), and a linear head on the mean of its outputs."""

    def __init__(self, width: int = 64, tokens: int = 100, length: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=4 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens) + self.position).mean(dim=1))


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, option A: padded with zero channels)."""

    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.stride, self.more = stride, channels - before

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        shortcut = functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)
        )
        return functional.relu(y + shortcut)


class ResNet20(nn.Sequential):
    """ResNet-20 for images (batch, 3, 32, 32) (He et al. 2016, section 4.2)."""

    def __init__(self) -> None:
        widths = [16] * 4 + [32] * 3 + [64] * 3
        blocks = [
            Block(before, after, stride=1 if before == after else 2) for before, after in pairwise(widths)
        ]
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        )
