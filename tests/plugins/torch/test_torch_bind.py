"""Where a problem is put, and what a bound one says of itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Capability
from eigencore_torch.backend import TorchOptions, bind


def test_the_description_names_version_device_and_type(small, device):
    bound = bind(small(), TorchOptions(), device=device, dtype="float32")
    place = "cuda:0" if device == "cuda" else "cpu"
    version = ".".join(torch.__version__.split(".")[:2])
    assert bound.description == f"torch {version} {place} float32"
    assert bound.capabilities == {Capability.PRODUCTS}


def test_another_type_is_for_a_copy(small, hessian):
    problem = small(dtype=torch.float32)
    exact = hessian(problem, dtype="float64")
    assert exact.dtype == torch.float64
    assert {p.dtype for p in problem.model.parameters()} == {torch.float32}
    torch.testing.assert_close(hessian(problem).double(), exact, rtol=0, atol=1e-5)


def test_the_models_own_type_and_place_need_no_copy(small):
    problem = small()
    operator = bind(problem, TorchOptions(), device="cpu", dtype="float64").operator()
    with torch.no_grad():
        problem.model[0].weight.add_(1)
    with pytest.raises(ProblemError, match="weights changed"):
        operator.matvec(torch.ones(59, dtype=torch.float64))


def test_what_the_loss_holds_goes_along(small, hessian):
    weighted = small(
        dtype=torch.float32, loss=nn.CrossEntropyLoss(torch.tensor([1.0, 2, 5])), reduction="mean"
    )
    assert hessian(weighted, dtype="float64").dtype == torch.float64

    class Own(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body, self.scale = body, nn.Parameter(torch.ones(()), requires_grad=False)

        def forward(self, x):
            return self.body(x)

        def loss(self, model, batch):
            assert self is model
            return nn.functional.cross_entropy(model(batch["x"]) * self.scale, batch["y"])

    model = Own(small(dtype=torch.float32).model)
    data = [{"x": x, "y": y} for x, y in small(dtype=torch.float32).data]
    assert hessian(small(model=model, data=data, loss=model.loss), dtype="float64").dtype == torch.float64


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_and_a_copy_offered(kind, small, hessian):
    problem = small(dtype=torch.float32)
    problem.model.to(kind)
    with pytest.raises(ProblemError, match=str(kind).removeprefix("torch.")) as caught:
        bind(problem, TorchOptions())
    assert "dtype=float32" in caught.value.hint
    copied = bind(problem, TorchOptions(), dtype="float32")
    kept = parameters_to_vector(copied._loss.model.parameters())
    torch.testing.assert_close(kept, parameters_to_vector(problem.model.parameters()).float(), rtol=0, atol=0)
    copied.operator().matvec(torch.ones(59))


@pytest.mark.parametrize(
    "asked", [{"dtype": "float16"}, {"dtype": "single"}, {"device": "gpu"}, {"device": "mps"}]
)
def test_types_and_places_that_are_not_there(asked, small):
    with pytest.raises(UsageError, match="expected"):
        bind(small(), TorchOptions(), **asked)


def test_a_card_that_is_not_there(small):
    with pytest.raises(UsageError, match="PyTorch sees"):
        bind(small(), TorchOptions(), device="cuda:99")


def test_types_as_pytorch_writes_them(small):
    bound = bind(small(), TorchOptions(), device="cpu", dtype=torch.float32)
    assert bound.description.endswith("float32")


def test_mixed_types_are_held_by_the_wider(small, hessian):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3, dtype=torch.float64)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x.float())).double())

    found = hessian(small(model=Mixed()))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-6)


def test_a_model_that_cannot_be_copied_says_so(small):
    problem = small()
    problem.model.extra = problem.model[0].weight * 2  # a tensor with a graph
    with pytest.raises(ProblemError, match="can't be copied"):
        bind(problem, TorchOptions(), dtype="float32")


def test_other_kinds_are_unknown(small):
    with pytest.raises(UnknownNameError, match="kind of operator"):
        bind(small(), TorchOptions()).operator("fisher")
