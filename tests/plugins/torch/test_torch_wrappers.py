"""Wrappers of models: the model inside is used under its own names, or an error says what to give instead."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import eigencore
from eigencore.errors import ProblemError
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation.double_backward import twice_differentiable

X, Y = torch.randn(9, 4, dtype=torch.float64), torch.randint(3, (9,))


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    """A group of this one process, which DistributedDataParallel needs."""
    file = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def parallel(model):
    return nn.DataParallel(model)


def distributed(model):
    return nn.parallel.DistributedDataParallel(model)


def compiled(model):
    return torch.compile(model, backend="eager")


def averaged(model):
    return torch.optim.swa_utils.AveragedModel(model)


class GradSampleModule(nn.Module):
    """Like that of Opacus: hooks record activations in training mode and use them in backward passes."""

    def __init__(self, model):
        super().__init__()
        self._module, self.hooks_enabled = model, True
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(self.record)
                module.register_full_backward_hook(self.use)

    def record(self, module, inputs, output):
        if self.hooks_enabled and module.training:
            module.activations = [*getattr(module, "activations", []), inputs[0].detach()]

    def use(self, module, inputs, outputs):
        if self.hooks_enabled:
            module.activations.pop()

    def forward(self, x):
        return self._module(x)

    def disable_hooks(self):
        self.hooks_enabled = False


class GradSampleModuleFastGradientClipping(GradSampleModule):
    """A subclass, as in Opacus."""


def per_sample(model):
    wrapped = GradSampleModuleFastGradientClipping(model)
    wrapped.disable_hooks()
    return wrapped


STACKS = {
    "DataParallel": [parallel],
    "DistributedDataParallel": [distributed],
    "compiled": [compiled],
    "averaged": [averaged],
    "per sample": [per_sample],
    "compiled, then distributed": [compiled, distributed],
    "distributed, then compiled": [distributed, compiled],
    "distributed, averaged, compiled": [distributed, averaged, compiled],
    "per sample, distributed": [per_sample, distributed],
}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("stack", STACKS)
def test_the_model_inside_is_used_under_its_own_names(stack, small, hessian, process_group):
    problem = small()
    expected, names = hessian(small()), [name for name, _ in problem.model.named_parameters()]
    model = problem.model
    for wrap in STACKS[stack]:
        model = wrap(model)
    wrapped = small(model=model)
    torch.testing.assert_close(hessian(wrapped), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(hessian(wrapped, "2.*"), expected[35:, 35:], rtol=0, atol=1e-12)
    single = hessian(wrapped, dtype="float32").double()
    torch.testing.assert_close(single, expected, rtol=0, atol=1e-5)
    assert [one.name for one in bind(wrapped, TorchOptions()).layout()] == names


@pytest.mark.parametrize("wrap", [parallel, compiled])
def test_wrapped_parts_of_a_model(wrap, small, hessian):
    problem = small()
    expected, bound = hessian(small()), bind(small(), TorchOptions())
    problem.model[0] = wrap(problem.model[0])
    torch.testing.assert_close(hessian(problem, "0.weight,0.bias"), expected[:35, :35], rtol=0, atol=1e-12)
    found = bind(problem, TorchOptions())
    assert found.layout() == bound.layout()
    v = torch.linspace(-1, 1, 59, dtype=torch.float64)
    x, y = problem.data[0]
    curvatures = [one.sample_curvature(CrossEntropy(), v, x, y) for one in (bound, found)]
    torch.testing.assert_close(*curvatures, rtol=0, atol=1e-12)
    assert found.loss(v) == pytest.approx(bound.loss(v))


@pytest.mark.parametrize("wrap", [parallel, distributed, compiled, averaged])
def test_a_loss_that_calls_the_wrapper_itself(wrap, small, hessian, process_group):
    problem = small()
    wrapped = wrap(problem.model)
    model = problem.model if wrap is not averaged else wrapped.module

    def loss(inner, batch):
        assert inner is model
        return nn.functional.cross_entropy(wrapped(batch["x"]), batch["y"])

    batches = [{"x": x, "y": y} for x, y in problem.data]
    found = hessian(small(model=wrapped, data=batches, loss=loss))
    torch.testing.assert_close(found, hessian(small()), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_active_hooks_of_opacus_are_refused(small):
    model = GradSampleModule(small().model)
    with pytest.raises(ProblemError, match="GradSampleModule computes the gradient of each sample") as caught:
        bind(small(model=model), TorchOptions())
    assert "model.disable_hooks()" in caught.value.hint
    model.disable_hooks()
    assert bind(small(model=model), TorchOptions()).operator()


def test_a_module_that_only_has_the_name_of_a_wrapper(small):
    class DataParallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3).double()

        def forward(self, x):
            return self.head(x)

    assert [one.name for one in bind(small(model=DataParallel()), TorchOptions()).layout()] == [
        "head.weight",
        "head.bias",
    ]


def test_models_of_the_first_fsdp_are_refused(small):
    class FullyShardedDataParallel(nn.Module):
        """Needs a GPU; this stands in for it."""

    with pytest.raises(ProblemError, match="the model is a FullyShardedDataParallel"):
        bind(small(model=FullyShardedDataParallel()), TorchOptions())
    with pytest.raises(ProblemError, match="1 is a FullyShardedDataParallel"):
        bind(small(model=nn.Sequential(nn.Linear(4, 3), FullyShardedDataParallel())), TorchOptions())


# -- TorchScript and exported programs ---------------------------------------------------------------------


def scripted(model):
    return torch.jit.script(model)


def traced(model):
    return torch.jit.trace(model, X)


def exported(model):
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(model, (X,), dynamic_shapes=({0: batch},)).module()


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # from the copy of an exported program
@pytest.mark.parametrize("make", [scripted, traced, exported])
def test_programs(make, small, hessian):
    expected = hessian(small())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        problem = small(model=make(small().model))
    torch.testing.assert_close(hessian(problem), expected, rtol=0, atol=1e-12)
    single = hessian(problem, dtype="float32")
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)
    assert next(problem.model.parameters()).dtype == torch.float64


def test_programs_that_cannot_be_used(small):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(small().model.eval()))
    with pytest.raises(ProblemError, match="no trainable weights") as caught:
        bind(small(model=frozen), TorchOptions()).operator()
    assert "torch.jit.freeze" in caught.value.hint
    program = torch.export.export(small().model, (X,))
    with pytest.raises(ProblemError, match="the model is a ExportedProgram") as caught:
        bind(small(model=program), TorchOptions())
    assert "module()" in caught.value.hint


# -- weights that are computed from others, and results that a forward pass stores -------------------------


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.3)


def pruned_twice(layer):
    pruned(layer)
    prune.random_unstructured(layer, "weight", 0.2)


def old_weight_norm(layer):
    nn.utils.weight_norm(layer)


def old_spectral_norm(layer):
    nn.utils.spectral_norm(layer)


def orthogonal(layer):
    parametrizations.orthogonal(layer)


COMPUTED = [pruned, pruned_twice, old_weight_norm, old_spectral_norm, orthogonal]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("compute", COMPUTED)
def test_computed_weights_in_a_copy(compute, small, hessian, tmp_path):
    problem = small()
    compute(problem.model[0])
    problem.model(X)  # stores the computed weight with its graph
    found = hessian(problem)
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    problem.model.eval()
    weights = [*problem.model.parameters()]
    with twice_differentiable(
        list(problem.model.modules()), X.device
    ):  # PyTorch's fused weight_norm is wrong
        loss = nn.functional.cross_entropy(problem.model(x), y)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        expected = [
            torch.cat([piece.reshape(-1) for piece in torch.autograd.grad(one, weights, retain_graph=True)])
            for slope in slopes
            for one in slope.reshape(-1)
        ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)
    single = hessian(problem, dtype="float32")
    torch.testing.assert_close(single.double(), found, rtol=0, atol=1e-4)
    torch.save(problem.model.state_dict(), tmp_path / "weights.pt")
    loaded = small(checkpoint=tmp_path / "weights.pt")
    compute(loaded.model[0])
    torch.testing.assert_close(hessian(loaded), found, rtol=0, atol=1e-10)


class Remembering(nn.Module):
    """Stores its last activation, with its graph, as attention layers often do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        self.last = self.model[1](self.model[0](x))
        return self.model[2](self.last)


def test_stored_activations_are_not_copied(small, hessian):
    problem = small(model=Remembering(small().model))
    problem.model(X)
    before = problem.model.last
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(problem.model)
    found = hessian(small(model=problem.model), dtype="float32")
    torch.testing.assert_close(found.double(), hessian(small()), rtol=0, atol=1e-5)
    assert problem.model.last is before


def test_a_stored_result_that_the_model_reads_is_no_constant_in_a_copy(small):
    """Copied without its graph, it would count as a constant, and the Hessian would be wrong."""

    class Reading(Remembering):
        def forward(self, x):
            return self.model(x) * self.scale

    model = Reading(small().model)
    model.scale = model.model[0].weight.mean().exp()
    with pytest.raises(ProblemError, match="has no attribute 'scale'"):
        bind(small(model=model), TorchOptions(), dtype="float32").operator()


def test_the_whole_chain_with_a_wrapped_model(small):
    problem = small(model=nn.DataParallel(small().model))
    run = eigencore.analyze(problem, 2, params=["2.weight", "0.*"], analyses="none")
    assert run.manifest["operator"]["params"] == "2.weight, 0.*"
    assert run.eigen.n == 56


# -- models compiled by torch.compile --------------------------------------------------------------------


def compiled_whole(model):
    return torch.compile(model, backend="aot_eager")


def compiled_in_place(model):
    model.compile(backend="aot_eager")
    return model


def compiled_part(model):
    model.first = torch.compile(model.first, backend="aot_eager")
    return model


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 7), nn.Linear(7, 3)
        nn.init.constant_(self.first.weight, 0.1)
        nn.init.eye_(self.second.weight)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("compile_", [compiled_whole, compiled_in_place, compiled_part])
def test_compiled_models_run_uncompiled(compile_, small, hessian):
    """Compiled code can't be differentiated twice."""
    model = Plain().double()
    expected, model = hessian(small(model=model)), compile_(model)
    x, y = small().data[0]
    weights = list(model.parameters())
    slopes = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        torch.autograd.grad(sum(slope.sum() for slope in slopes), weights)
    torch.testing.assert_close(hessian(small(model=model)), expected, rtol=0, atol=1e-12)


def test_a_compiled_loss_runs_uncompiled(small, hessian):
    @torch.compile(backend="aot_eager")
    def loss(outputs, y):
        return nn.functional.cross_entropy(torch.sin(outputs), y)

    def plain(outputs, y):
        return nn.functional.cross_entropy(torch.sin(outputs), y)

    torch.testing.assert_close(hessian(small(loss=loss)), hessian(small(loss=plain)), rtol=0, atol=1e-12)


def test_a_compiled_model_keeps_its_parameter_names_and_stays_compiled(small):
    calls = []

    def backend(graph, inputs):
        calls.append(len(inputs))
        return graph.forward

    problem = small()
    model = torch.compile(problem.model, backend=backend)
    operator = bind(small(model=model), TorchOptions()).operator(params="2.*")
    operator.matvec(torch.ones(24, dtype=torch.float64))
    assert calls == []
    model(problem.data[0][0])
    assert len(calls) == 1
