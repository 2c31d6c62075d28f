"""Buffers, Python state and modules outside the model are as before after every call, compared by value."""

from __future__ import annotations

import copy
import functools
import random
from collections import OrderedDict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization.fake_quantize import FakeQuantize
from torch.ao.quantization.observer import MovingAverageMinMaxObserver, PerChannelMinMaxObserver
from torch.nn import functional

from eigencore.errors import ProblemError
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation.module_state import restored_modules
from eigencore_torch.evaluation.preserved_state import with_children
from eigencore_torch.models.related_modules import related_modules

ONES = functools.partial(torch.ones, dtype=torch.float64)


def everything(bound):
    """Calls every part of a bound classification that runs the model."""
    operator = bound.operator()
    yield operator
    v = ONES(operator.shape[0])
    for _ in range(2):
        yield operator.matvec(v)
    yield operator.minibatch(0, 0)[0].matvec(v)
    yield bound.loss(0.1 * v)
    classifier = bound.classifier()
    x, y = classifier.samples()
    yield classifier.logits(x)
    yield bound.sample_curvature(CrossEntropy(), v, x, y)


class BatchStatistics(nn.Module):
    """Normalises in training mode, whatever mode is set, as a wrapper that calls train() does."""

    def __init__(self, **norm):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, **norm), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x):
        return self.net.train()(x)


# -- buffers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_are_put_back_although_their_version_counter_does_not_move(
    small, memory, momentum
):
    model = BatchStatistics(momentum=momentum).double()
    mean = model.net[1].running_mean
    version = mean._version
    before = copy.deepcopy(model.state_dict())
    operator = bind(small(model=model, reduction="mean"), TorchOptions(memory=memory)).operator()
    for _ in range(2):
        operator.matvec(ONES(operator.shape[0]))
        assert model.net[1].running_mean is mean
        assert mean._version == version
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.0])
def test_special_values_of_a_buffer_are_put_back(value):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", torch.tensor([1.0, value]))

    module = Module()
    with restored_modules([module]):
        module.kept.zero_()
    assert torch.equal(module.kept.view(torch.int32), torch.tensor([1.0, value]).view(torch.int32))


def test_buffers_of_every_size_type_and_layout_are_put_back():
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scalar", torch.tensor(3))
            self.register_buffer("large", torch.arange(40_000.0))
            self.register_buffer("mask", torch.ones(5, 4, dtype=torch.bool).T)
            self.register_buffer("short", torch.ones(3, dtype=torch.bfloat16))
            self.register_buffer("wide", torch.ones(3, dtype=torch.complex128))
            self.register_buffer("empty", torch.ones(0))
            self.register_buffer("sparse", torch.eye(3).to_sparse())
            self.register_buffer("expanded", torch.ones(1).expand(4))
            self.register_buffer("meta", torch.ones(2, device="meta"))
            with torch.inference_mode():
                self.register_buffer("inference", torch.ones(2))

    module = Module()
    before = {name: x.clone() for name, x in module.named_buffers()}
    objects = dict(module.named_buffers())
    with restored_modules([module]):
        module.scalar += 1
        module.large[-1] = 7
        module.mask[0, 0] = False
        module.short.mul_(2)
        module.wide.mul_(2j)
        module.empty.resize_(4)
        module.sparse.mul_(2)
        with torch.inference_mode():
            module.inference.add_(1)
    assert dict(module.named_buffers()).keys() == objects.keys()
    for name, x in module.named_buffers():
        assert x is objects[name]
        if not x.is_meta:
            assert torch.equal(x.to_dense(), before[name].to_dense()), name


def test_only_the_buffers_that_changed_are_written():
    norm, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    versions = [x._version for x in other.buffers()]
    with restored_modules([norm, other]):
        norm(torch.randn(5, 3))
    assert [x._version for x in other.buffers()] == versions
    assert torch.equal(norm.running_mean, torch.zeros(3))


def test_observers_of_quantisation_stay_where_they_were(small):
    weights = FakeQuantize(
        PerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8, ch_axis=0,
        qscheme=torch.per_channel_symmetric,
    )  # fmt: skip
    activations = FakeQuantize(MovingAverageMinMaxObserver, quant_min=0, quant_max=255)

    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
            self.weights, self.activations = weights, activations

        def forward(self, x):
            hidden = torch.tanh(functional.linear(x, self.weights(self.first.weight), self.first.bias))
            return self.second(self.activations(hidden))

    model = Quantised()
    # The observers have seen nothing: in their first pass their buffers grow.
    shapes = {name: x.shape for name, x in model.named_buffers()}
    before = copy.deepcopy(model.state_dict())
    problem = small(model=model, dtype=torch.float32, reduction="mean")
    with torch.no_grad(), restored_modules(with_children([model])):
        model(problem.data[0][0])
        assert {name: x.shape for name, x in model.named_buffers()} != shapes
    assert {name: x.shape for name, x in model.named_buffers()} == shapes
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    model(problem.data[0][0])
    before = copy.deepcopy(model.state_dict())
    bound = bind(problem, TorchOptions(check=False))
    bound.loss()
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert int(model.activations.observer_enabled) == 1


# -- Python state ------------------------------------------------------------------------------------------


class Meter:
    def __init__(self):
        self.total, self.count, self.history = 0.0, 0, []

    def update(self, value):
        self.total, self.count = self.total + value, self.count + 1
        self.history.append(value)


class Bookkeeping(nn.Module):
    """Keeps books about its passes in all kinds of attributes; its outputs are not affected."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.calls, self.log, self.by_size, self.sizes = 0, [], OrderedDict(), set()
        self.recent, self.nested, self.pair = deque(maxlen=2), {"loss": [[1.0]]}, ([0], 0)
        self.tensor, self.array, self.meter = torch.zeros(3), np.zeros(3), Meter()
        self.torch_generator, self.numpy_generator = torch.Generator(), np.random.default_rng(0)
        self.python_generator, self.numpy_state = random.Random(0), np.random.RandomState(0)
        self.cached = None

    def forward(self, x):
        self.calls += 1
        self.log.append(x.mean().item())
        self.by_size[len(x)] = self.calls
        self.sizes.add(len(x))
        self.recent.append(x)
        self.nested["loss"][0].append(2.0)
        self.pair[0][0] += 1
        self.tensor += 1
        self.array += 1
        self.meter.update(1.0)
        torch.rand(1, generator=self.torch_generator)
        self.numpy_generator.random()
        self.python_generator.random()
        self.numpy_state.rand()
        self.cached = x.sum()
        self.new = len(x)
        self.hook = self.register_forward_hook(lambda *_: None)
        return self.net(x)


def books(model):
    return copy.deepcopy(
        {
            "numbers": (model.calls, model.log, list(model.by_size.items()), model.sizes, len(model.recent)),
            "nested": (model.nested, model.pair, model.tensor.tolist(), model.array.tolist()),
            "meter": vars(model.meter),
            "generators": (
                model.torch_generator.get_state().tolist(),
                model.numpy_generator.bit_generator.state,
                model.python_generator.getstate(),
                model.numpy_state.get_state()[1].tolist(),
            ),
            "attributes": (model.cached, list(vars(model)), len(model._forward_hooks)),
        }
    )


def test_the_python_state_of_modules_is_put_back(small):
    model = Bookkeeping().double()
    model(small().data[0][0])
    model.tensor = model.tensor.clone()  # not the one that a pass has stored
    model.cached = None
    del model.new, model.hook
    before, objects = books(model), (model.log, model.tensor, model.meter)
    for _ in everything(bind(small(model=model), TorchOptions())):
        assert books(model) == before
        assert all(x is y for x, y in zip((model.log, model.tensor, model.meter), objects, strict=True))


def test_the_python_state_is_put_back_after_an_exception(small):
    class Failing(Bookkeeping):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("on purpose")

    model = Failing().double()
    before = books(model)
    with pytest.raises(ProblemError, match="on purpose"):
        bind(small(model=model), TorchOptions()).operator()
    assert books(model) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_is_restored(small):
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double())
    before = copy.deepcopy(model.state_dict())
    operator = bind(small(model=model), TorchOptions()).operator()
    operator.matvec(ONES(operator.shape[0]))
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


# -- modules outside the model -----------------------------------------------------------------------------


def make_teacher():
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers).double()


TEACHER = make_teacher()
SETTINGS = SimpleNamespace(parts={"teachers": [TEACHER]})


def distil(model, batch, teacher):
    with torch.no_grad():
        target = teacher(batch["x"]).softmax(1)
    return functional.cross_entropy(model(batch["x"]), target)


def helper(batch):
    return TEACHER(batch["x"]).softmax(1)


class Trainer:
    def __init__(self, teacher):
        self.teacher, self.unused = teacher, nn.Linear(2, 2)

    def _target(self, batch):
        return self.teacher(batch["x"])

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch["x"]), self._target(batch).softmax(1))

    def __call__(self, model, batch):
        return self.loss(model, batch)


class DistillationLoss(nn.Module):
    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher

    def forward(self, model, batch):
        return distil(model, batch, self.teacher)


def closing_over(teacher):
    return lambda model, batch: distil(model, batch, teacher)


def by_default(teacher):
    def loss(model, batch, teacher=teacher):
        return distil(model, batch, teacher)

    return loss


def by_keyword(teacher):
    def loss(model, batch, *, teacher=teacher):
        return distil(model, batch, teacher)

    return loss


def through_a_helper(teacher):
    def loss(model, batch):
        return functional.cross_entropy(model(batch["x"]), (lambda: helper(batch))())

    return loss


def in_a_container(teacher):
    teachers = {"first": [teacher]}
    return lambda model, batch: distil(model, batch, teachers["first"][0])


def in_settings(teacher):
    return lambda model, batch: distil(model, batch, SETTINGS.parts["teachers"][0])


WAYS = {
    "closure": closing_over,
    "default": by_default,
    "keyword": by_keyword,
    "partial": lambda teacher: functools.partial(distil, teacher=teacher),
    "partial of a partial": lambda teacher: functools.partial(functools.partial(distil), teacher=teacher),
    "bound method": lambda teacher: Trainer(teacher).loss,
    "callable object": Trainer,
    "module": DistillationLoss,
    "method of a module": lambda teacher: DistillationLoss(teacher).forward,
    "global of a helper": through_a_helper,
    "container": in_a_container,
    "global object": in_settings,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_teacher_is_evaluated_as_the_model_is_restored_and_watched(small, way):
    teacher = TEACHER
    loss = WAYS[way](teacher)
    model = nn.Linear(4, 3).double()
    batches = [{"x": x} for x, _ in small().data]
    before, modes = copy.deepcopy(teacher.state_dict()), [m.training for m in teacher.modules()]
    operator = bind(small(model=model, data=batches, loss=loss, reduction="mean"), TorchOptions()).operator()
    v = torch.randn(15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = operator.matvec(v)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert [m.training for m in teacher.modules()] == modes
    assert all(modes)

    frozen = copy.deepcopy(teacher).eval()
    x = torch.cat([batch["x"] for batch in batches])
    value = functional.cross_entropy(model(x), frozen(x).softmax(1).detach())
    gradients = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    pieces = torch.autograd.grad(flat, list(model.parameters()), v)
    torch.testing.assert_close(product, torch.cat([p.reshape(-1) for p in pieces]))

    weight = teacher[0].weight.data
    try:
        weight += 1
        with pytest.raises(ProblemError, match=r"weights changed.*0\.weight"):
            operator.matvec(v)
    finally:
        weight -= 1


def test_modules_that_are_not_used_are_not_found():
    trainer, model = Trainer(make_teacher()), nn.Linear(4, 3)
    assert list(related_modules(model, trainer.loss)) == ["", "teacher"]
    assert list(related_modules(model, nn.CrossEntropyLoss())) == ["", "loss"]
    assert list(related_modules(model, functional.cross_entropy)) == [""]
    assert list(related_modules(model, lambda batch: model(batch))) == [""]


def test_modules_in_a_list_or_a_hook_of_the_model_are_found():
    class Listing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rest = nn.Linear(4, 4), [nn.Dropout(0.5), (nn.Dropout(0.1),)]

    model, probe = Listing(), nn.BatchNorm1d(4)
    model.first.register_forward_hook(lambda module, args, output: probe(output))
    found = related_modules(model)
    assert list(found.values()) == [model, *(model.rest[0], model.rest[1][0]), probe]


def test_a_search_ends_in_cycles_and_long_lists():
    cycle = SimpleNamespace(items=list(range(100_000)))
    cycle.self = [cycle, {"again": cycle}]
    assert list(related_modules(nn.Linear(2, 2), lambda: cycle.self[0].items)) == [""]


def test_a_teacher_of_another_type_is_refused_with_what_to_write(small):
    teacher, model = make_teacher().float(), nn.Linear(4, 3)
    batches = [{"x": x.float()} for x, _ in small().data]

    def make(loss, model=model):
        return small(model=model, data=batches, loss=loss, reduction="mean")

    with pytest.raises(ProblemError, match="dtype") as caught:
        bind(make(closing_over(teacher)), TorchOptions(), dtype="float64").operator()
    assert "teacher.to('cpu', torch.float64)" in caught.value.hint
    assert "functools.partial" in caught.value.hint
    assert teacher[0].weight.dtype is torch.float32
    right = closing_over(copy.deepcopy(teacher).double())
    expected = bind(make(right, copy.deepcopy(model).double()), TorchOptions(), dtype="float64").operator()
    for way in ("partial", "module", "bound method", "callable object"):
        copied = bind(make(WAYS[way](teacher)), TorchOptions(), dtype="float64").operator()
        torch.testing.assert_close(copied.matvec(ONES(15)), expected.matvec(ONES(15)))
        assert teacher[0].weight.dtype is torch.float32
