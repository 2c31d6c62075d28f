"""Products restore everything that they change, also after a failure; changed weights are detected."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigencore.errors import ProblemError
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind


class Stateful(nn.Module):
    """Draws random numbers, counts calls in a buffer and replaces others; its outputs are not affected."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(1))
        self.register_buffer("cache", None)
        self.fail_at = None

    def forward(self, x):
        torch.rand(3)
        np.random.rand(3)
        random.random()
        self.calls += 1
        self.last = x.detach()[:1]
        self.cache = self.last
        if self.fail_at is not None and len(x) == self.fail_at:
            raise RuntimeError("on purpose")
        self.hidden = torch.tanh(self.norm(self.first(x)))
        return self.second(self.hidden)


@pytest.fixture
def stateful(small):
    model = Stateful().double()
    model.train()
    model.norm.eval()
    model.second.bias.requires_grad_(False)
    model.first.weight.grad = torch.ones_like(model.first.weight)
    return model


def snapshot(model, loader=None):
    """Everything about the model and the process that a caller can observe."""
    buffers = {name: (id(x), x) for module in model.modules() for name, x in module._buffers.items()}
    return {
        "modes": [module.training for module in model.modules()],
        "trainable": [p.requires_grad for p in model.parameters()],
        "gradients": [(id(p.grad), copy.deepcopy(p.grad)) for p in model.parameters()],
        "weights": [p.detach().clone() for p in model.parameters()],
        "versions": [p._version for p in model.parameters()],
        "buffers": {name: (own, copy.deepcopy(x)) for name, (own, x) in buffers.items()},
        "attributes": [
            [k for k, x in vars(m).items() if isinstance(x, torch.Tensor)] for m in model.modules()
        ],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
        "python": random.getstate(),
        "loader": loader.generator.get_state() if loader is not None else None,
        "switches": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.mha.get_fastpath_enabled(),
        ),
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    different = [name for name in before if not _same(before[name], after[name])]
    assert different == []


def _same(a, b):
    try:
        torch.testing.assert_close(b, a, rtol=0, atol=0)
    except TypeError:  # these are not numbers
        return a == b
    except AssertionError:
        return False
    return True


def loader_of(problem):
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=6, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("memory", ["none", "auto"])
def test_everything_is_restored(memory, small, stateful):
    loader = loader_of(small())
    before = snapshot(stateful, loader)
    bound = bind(small(model=stateful, data=loader), TorchOptions(memory=memory))
    operator = bound.operator()
    assert_same(before, snapshot(stateful, loader))
    for _ in range(2):
        operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64))
        assert_same(before, snapshot(stateful, loader))


@pytest.mark.parametrize("memory", ["none", "auto"])
def test_everything_is_restored_after_an_exception(memory, small, stateful):
    problem = small(model=stateful, reduction="mean")
    operator = bind(problem, TorchOptions(memory=memory)).operator()
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    expected = operator.matvec(v) if memory == "none" else None
    stateful.fail_at = 5
    before = snapshot(stateful)
    with pytest.raises(ProblemError, match=r"batch 1.*on purpose"):
        operator.matvec(v)
    assert_same(before, snapshot(stateful))
    stateful.fail_at = None
    again = operator.matvec(v)
    if expected is None:
        expected = bind(problem, TorchOptions(memory="none")).operator().matvec(v)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-14)


def test_everything_is_restored_after_a_failed_check(small, stateful):
    stateful.fail_at = 3
    before = snapshot(stateful)
    with pytest.raises(ProblemError, match="on purpose"):
        bind(small(model=stateful), TorchOptions()).operator()
    assert_same(before, snapshot(stateful))


def all_calls(bound):
    """Calls every method of a bound classification and of its classifier, one after the other."""
    classifier, cross_entropy = bound.classifier(), CrossEntropy()
    x, y = classifier.samples()
    direction = torch.ones(bound.operator().shape[0], dtype=torch.float64)
    yield bound.capabilities
    yield classifier.logits(x)
    yield classifier.value_and_grad(cross_entropy, x, y)
    product = classifier.input_products(cross_entropy, x, y)
    yield product
    yield product(x)
    yield bound.loss()
    yield bound.loss(direction)
    yield bound.sample_curvature(cross_entropy, direction, x, y)
    yield bound.classifier("float32").samples()


def test_everything_is_restored_by_a_classifier_and_along_directions(small, stateful):
    loader, validation = loader_of(small()), loader_of(small())
    before, other = snapshot(stateful, loader), validation.generator.get_state()
    bound = bind(small(model=stateful, data=loader, validation=validation), TorchOptions())
    for _ in all_calls(bound):
        assert_same(before, snapshot(stateful, loader))
        assert torch.equal(validation.generator.get_state(), other)


def test_everything_is_restored_after_an_exception_in_a_classifier(small, stateful):
    bound = bind(small(model=stateful), TorchOptions())
    classifier, cross_entropy = bound.classifier(), CrossEntropy()
    x, y = classifier.samples()
    direction = torch.ones(bound.operator().shape[0], dtype=torch.float64)
    stateful.fail_at = 5
    before = snapshot(stateful)
    failing = [
        lambda: classifier.logits(x[:5]),
        lambda: classifier.value_and_grad(cross_entropy, x[:5], y[:5]),
        lambda: classifier.input_products(cross_entropy, x[:5], y[:5]),
        lambda: bound.loss(direction),
        lambda: bound.sample_curvature(cross_entropy, direction, x[:5], y[:5]),
    ]
    for call in failing:
        with pytest.raises(ProblemError, match="on purpose"):
            call()
        assert_same(before, snapshot(stateful))


def test_tensors_stored_on_a_module_are_restored(small, stateful):
    stateful.hidden = kept = torch.ones(3)
    bind(small(model=stateful), TorchOptions()).operator()
    assert stateful.hidden is kept


def test_the_callers_torch_modes_do_not_affect_the_product(small):
    v = torch.ones(59, dtype=torch.float64)
    plain = bind(small(), TorchOptions()).operator().matvec(v)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = bind(small(), TorchOptions()).operator().matvec(v)
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


def test_the_loss_module_is_in_evaluation_mode_and_restored_too(small):
    class Loss(nn.Module):
        def forward(self, outputs, y):
            assert not self.training
            return nn.functional.cross_entropy(outputs, y)

    loss = Loss()
    bind(small(loss=loss), TorchOptions()).operator()
    assert loss.training


def step(model):
    with torch.no_grad():
        model[0].weight.add_(1e-7)


def step_through_data(model):
    model[2].bias.data[1] += 1e-7


def replace(model):
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def load(model):
    model.load_state_dict({name: 2 * x for name, x in model.state_dict().items()})


CHANGES = {step: "0.weight", step_through_data: "2.bias", replace: "0.weight", load: "0.bias"}


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_detected(change, memory, small):
    problem = small()
    operator = bind(problem, TorchOptions(memory=memory)).operator()
    v = torch.ones(59, dtype=torch.float64)
    operator.matvec(v)
    change(problem.model)
    with pytest.raises(ProblemError, match=f"weights changed.*{CHANGES[change]}") as caught:
        operator.matvec(v)
    assert "again" in caught.value.hint
    bind(problem, TorchOptions()).operator().matvec(v)


def test_weights_changed_before_the_operator_is_made_are_detected(small):
    problem = small()
    bound = bind(problem, TorchOptions())
    step(problem.model)
    with pytest.raises(ProblemError, match="weights changed"):
        bound.operator()


def test_changed_running_statistics_are_detected(small):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    operator = bind(small(model=model), TorchOptions()).operator()
    model.train()(small().data[0][0])
    with pytest.raises(ProblemError, match=r"1\.num_batches_tracked"):
        operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64))
