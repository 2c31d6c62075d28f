"""Binding: the device, the data type and the description of a bound problem."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore_torch.backend import TorchOptions, bind


def test_the_description_names_version_device_and_type(small, device):
    bound = bind(small(), TorchOptions(), device=device, dtype="float32")
    place = "cuda:0" if device == "cuda" else "cpu"
    version = ".".join(torch.__version__.split(".")[:2])
    assert bound.description == f"torch {version} {place} float32, evaluation mode"
    assert bound.capabilities == set(Capability)


def test_another_type_is_computed_on_a_copy(small, hessian):
    problem = small(dtype=torch.float32)
    exact = hessian(problem, dtype="float64")
    assert exact.dtype == torch.float64
    assert {p.dtype for p in problem.model.parameters()} == {torch.float32}
    torch.testing.assert_close(hessian(problem).double(), exact, rtol=0, atol=1e-5)


def test_the_models_own_type_and_device_need_no_copy(small):
    problem = small()
    operator = bind(problem, TorchOptions(), device="cpu", dtype="float64").operator()
    with torch.no_grad():
        problem.model[0].weight.add_(1)
    with pytest.raises(ProblemError, match="weights changed"):
        operator.matvec(torch.ones(59, dtype=torch.float64))


def test_tensors_held_by_the_loss_are_converted_too(small, hessian):
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


HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("kind", HALVES)
def test_float32_represents_every_16_bit_number(kind):
    """This is why a copy has the same weights."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(kind)
    finite = numbers[torch.isfinite(numbers)]
    assert len(finite) > 60_000
    assert torch.equal(finite.float().to(kind).view(torch.int16), finite.view(torch.int16))
    assert torch.equal(finite.float().double(), finite.double())


@pytest.mark.parametrize("kind", HALVES)
def test_16_bit_weights_are_copied_to_float32_and_the_description_says_so(kind, small, hessian):
    problem, exact = small(dtype=torch.float32), small(dtype=torch.float32)
    problem.model.to(kind)
    exact.model.load_state_dict(problem.model.state_dict())
    bound = bind(problem, TorchOptions())
    assert bound.description.endswith(
        f"float32, a copy of {str(kind).removeprefix('torch.')} weights, evaluation mode"
    )
    torch.testing.assert_close(hessian(problem), hessian(exact), rtol=0, atol=0)
    assert {p.dtype for p in problem.model.parameters()} == {kind}
    torch.testing.assert_close(
        hessian(problem).double(), hessian(problem, dtype="float64"), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", HALVES)
def test_16_bit_data_and_buffers_are_converted_too(kind, small, hessian):
    def problem_of(dtype):
        norm = nn.BatchNorm1d(3)
        norm.running_var.mul_(3)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 3), norm).to(kind).to(dtype)
        return small(model=model, data=[(x.to(kind).to(dtype), y) for x, y in small().data])

    torch.testing.assert_close(hessian(problem_of(kind)), hessian(problem_of(torch.float32)), rtol=0, atol=0)


def test_16_bit_weights_among_wider_ones_take_the_widest_type(small, hessian):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5, dtype=torch.bfloat16), nn.Linear(5, 3).double()

        def forward(self, x):
            hidden = torch.tanh(self.first(x.to(self.first.weight.dtype)))
            return self.second(hidden.to(self.second.weight.dtype))

    bound = bind(small(model=Mixed()), TorchOptions())
    assert bound.description.endswith("float64, a copy of bfloat16 weights, evaluation mode")
    found = hessian(small(model=Mixed()))
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "keywords", [{"dtype": "float16"}, {"dtype": "single"}, {"device": "gpu"}, {"device": "mps"}]
)
def test_unknown_types_and_devices_are_refused(keywords, small):
    with pytest.raises(UsageError, match="expected"):
        bind(small(), TorchOptions(), **keywords)


def test_a_missing_cuda_device_is_refused(small):
    with pytest.raises(UsageError, match="device is 'cuda:99'; CUDA devices that PyTorch finds: "):
        bind(small(), TorchOptions(), device="cuda:99")


def test_a_torch_dtype_is_accepted(small):
    bound = bind(small(), TorchOptions(), device="cpu", dtype=torch.float32)
    assert bound.description.endswith("float32, evaluation mode")


def test_mixed_types_use_the_wider_type(small, hessian):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3, dtype=torch.float64)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x.float())).double())

    found = hessian(small(model=Mixed()))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-6)


def test_a_model_that_cannot_be_copied_is_refused(small):
    problem = small()
    problem.model.extra = [problem.model[0].weight * 2]  # a tensor with a graph, out of reach
    with pytest.raises(ProblemError, match="can't be copied"):
        bind(problem, TorchOptions(), dtype="float32")


def test_a_model_whose_copy_shares_its_weights_is_not_converted(small):
    class Shared(nn.Linear):
        def __deepcopy__(self, memo):
            return self

    model = nn.Sequential(nn.Linear(4, 5), Shared(5, 3))
    problem = small(dtype=torch.float32, model=model)
    with pytest.raises(ProblemError, match=r"can't be copied.*__deepcopy__"):
        bind(problem, TorchOptions(), dtype="float64")
    bind(problem, TorchOptions()).operator()
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_other_kinds_of_operator_are_refused(small):
    with pytest.raises(UnknownNameError, match="kind of operator"):
        bind(small(), TorchOptions()).operator("laplacian")
