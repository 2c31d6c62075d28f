"""Small networks of many kinds, for tests of operators against dense references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import eigencore
from eigencore.interfaces import LinearOperator, Problem
from kit.dense_kinds import Dense

SAMPLES, SIZES, CLASSES = 15, [7, 5, 3], 3
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
TOKENS = 6


def network(*shape: int) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Adds a function that builds a network for inputs of this shape; (0, T) stands for T tokens."""

    def add(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        NETWORKS[make.__name__] = make, shape
        return make

    return add


@network(4)
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))


@network(4)
def rectified() -> nn.Module:
    layers = nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, CLASSES)
    return nn.Sequential(*layers)


@network(4)
def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, CLASSES))


@network(1, 5, 5)
def group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.Softplus(),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


@network(1, 5, 5)
def batch_norm() -> nn.Module:
    norm: Any = nn.BatchNorm2d(3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    head = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3, CLASSES)
    return nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.SiLU(), *head)


@network(2, 4, 4)
def depthwise() -> nn.Module:
    layers = nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.Sigmoid(), nn.Conv2d(4, 3, 1), nn.MaxPool2d(2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, CLASSES))


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.embed, self.cell, self.head = (
            nn.Embedding(TOKENS, 3),
            kind(3, 3, batch_first=True),
            nn.Linear(3, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.cell(self.embed(x))[0][:, -1])
        return logits


@network(0, 4)
def gru() -> nn.Module:
    return Recurrent(nn.GRU)


@network(0, 4)
def lstm() -> nn.Module:
    return Recurrent(nn.LSTM)


@network(0, 3)
def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=3, activation="gelu", batch_first=True)
    return nn.Sequential(nn.Embedding(TOKENS, 4), layer, nn.Flatten(), nn.Linear(12, CLASSES))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = (
            nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)),
            nn.Linear(4, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + self.inner(x)
        logits: Tensor = self.head(x)
        return logits


@network(4)
def residual() -> nn.Module:
    return Residual()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return logits


@network(4)
def tied() -> nn.Module:
    return Tied()


@network(4)
def weight_norm() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, CLASSES)
    )


@network(4)
def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    model[0].requires_grad_(False)
    return model


@dataclass
class Made:
    """A problem, and the dense references of the same loss."""

    problem: Problem
    dense: Dense


def samples(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    x = (
        torch.randint(TOKENS, (SAMPLES, *shape[1:]))
        if shape[0] == 0
        else torch.randn(SAMPLES, *shape).double()
    )
    return x, torch.randint(CLASSES, (SAMPLES,))


def made(
    model: nn.Module, x: Tensor, y: Any, loss: Any, params: tuple[str, ...] = ("*",), **fields: Any
) -> Made:
    """A problem with ragged batches of these samples, and its dense references."""
    outputs = fields.pop("outputs", lambda z: z)
    batches = list(zip(torch.split(x, SIZES), torch.split(y, SIZES), strict=True))
    return Made(
        Problem(model=model, data=batches, loss=loss, backend="torch", **fields),
        Dense(model, loss, x, y, params, outputs),
    )


def made_of(name: str, loss: Any = None, params: tuple[str, ...] = ("*",), **fields: Any) -> Made:
    """A classification by one of the networks, in training mode."""
    network, shape = NETWORKS[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = network().double()
        x, y = samples(shape)
    return made(model, x, y, loss or nn.CrossEntropyLoss(), params, **fields)


def dense(operator: LinearOperator) -> Tensor:
    """The matrix of an operator, from one block product."""
    A: Tensor = operator.matmat(torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device))
    return A


def matrix(problem: Problem, kind: str, params: Any = None, **options: Any) -> Tensor:
    """The matrix of a kind of operator of a problem."""
    return dense(eigencore.bind(problem).operator(kind, params, **options))


def difference(found: Tensor, expected: Tensor) -> float:
    """The relative difference of two matrices in the Frobenius norm."""
    assert found.shape == expected.shape
    size = torch.linalg.matrix_norm(expected)
    assert size > 0
    return float(torch.linalg.matrix_norm(found - expected) / size)


def evenly(count: int = SAMPLES) -> Tensor:
    """The weight of each sample in a mean."""
    return torch.ones(count, dtype=torch.float64) / count
