"""Small problems, on every available device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return request.param


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def convolutions():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    head = nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.SiLU(), *head)


def rectified():
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))


def attention():
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, activation="gelu", batch_first=True)
    return nn.Sequential(nn.Linear(3, 4), layer, nn.Flatten(), nn.Linear(20, 3))


def weight_norm():
    layers = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)
    return nn.Sequential(*layers)


# A function that builds a network, and the shape of the network's inputs.
NETWORKS = {
    "softplus": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 3)), (4,)),
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "convolutions": (convolutions, (1, 6, 6)),
    "rectified": (rectified, (1, 6, 6)),
    "recurrent": (Recurrent, (5, 3)),
    "attention": (attention, (5, 3)),
    "weight_norm": (weight_norm, (4,)),
    "tied": (Tied, (4,)),
}


@pytest.fixture(params=NETWORKS)
def classifying(request):
    """A classification of 15 samples by a network in training mode, in float64; fields can be replaced."""

    def make(**fields):
        network, shape = NETWORKS[request.param]
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            model = network().double()
            x, y = torch.randn(15, *shape, dtype=torch.float64), torch.randint(3, (15,))
        batches = list(zip(x.split((7, 5, 3)), y.split((7, 5, 3)), strict=True))
        given = {"model": model, "data": batches, "loss": nn.CrossEntropyLoss(), "name": request.param}
        return Problem(**(given | fields))

    return make


@pytest.fixture
def small():
    """Makes a classification with 59 weights and 15 samples in unequal batches; fields can be replaced."""

    def make(sizes=(7, 5, 3), dtype=torch.float64, **fields):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
            x, y = torch.randn(15, 4).to(dtype), torch.randint(3, (15,))
        batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
        given = {"model": model, "data": batches, "loss": nn.CrossEntropyLoss(), **fields}
        return Problem(**given)

    return make


@pytest.fixture
def hessian():
    """Forms the matrix of a problem's operator."""

    def form(problem, params=None, *, device=None, dtype=None, **options):
        bound = bind(problem, TorchOptions(**options), device=device, dtype=dtype)
        operator = bound.operator("hessian", params)
        eye = torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)
        return operator.matmat(eye).cpu()

    return form
