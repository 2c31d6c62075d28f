"""Small problems on every device there is."""

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


@pytest.fixture
def small():
    """Makes a classifier of 59 weights and 15 samples in ragged batches; any field can be replaced."""

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
    """The matrix of a problem's operator."""

    def form(problem, params=None, *, device=None, dtype=None, **options):
        bound = bind(problem, TorchOptions(**options), device=device, dtype=dtype)
        operator = bound.operator("hessian", params)
        eye = torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)
        return operator.matmat(eye).cpu()

    return form
