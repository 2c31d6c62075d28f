"""Losses that PyTorch differentiates wrongly are refused with their cause; right ones never are."""

from __future__ import annotations

import copy
import ctypes
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import eigencore
from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.checks.probed_loss import ProbedLoss
from kit.effort import cases_to_try

DTYPES = [torch.float32, torch.float64]


class FusedCrossEntropy(Function):
    """Its gradient is computed in the forward pass, as memory-saving kernels do."""

    @staticmethod
    def forward(ctx, z, y):
        p = z.softmax(1)
        loss = -p[range(len(y)), y].log().mean()
        p[range(len(y)), y] -= 1
        ctx.save_for_backward(p / len(y))
        return loss

    @staticmethod
    def backward(ctx, slope):
        return ctx.saved_tensors[0] * slope, None


class RecomputedSwish(Function):
    """It keeps its input on ctx, without its graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach()
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, slope):
        s = ctx.x.sigmoid()
        return slope * s * (1 + ctx.x * (1 - s))


class Rounding(Function):
    @staticmethod
    def forward(ctx, x):
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx, slope):
        return slope


class Reversal(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope):
        return -slope


class Cube(Function):
    """Right: its backward pass consists of differentiable operations on a saved tensor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slope


class Body(nn.Module):
    """Two layers with `between(self, hidden)` between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.inner, self.second = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.between = between

    def forward(self, x):
        return self.second(self.between(self, self.first(x)))


def straight_through(body, h):
    return torch.tanh(h + ((4 * h).round() / 4 - h).detach())


def at_numbers(body, h):
    return torch.tanh(h) * body.inner.weight.norm().item()


def without_gradients(body, h):
    with torch.no_grad():
        scale = body.inner.weight.norm()
    return torch.tanh(h) * scale


class DetachedNorm(nn.Linear):
    """A weight-decomposed layer, w = m v / ||v||, whose norm is detached to save memory."""

    def __init__(self):
        super().__init__(4, 3)
        self.magnitude = nn.Parameter(torch.rand(3, 1) + 0.5)

    def forward(self, x):
        norm = self.weight.norm(dim=1, keepdim=True)
        return functional.linear(x, self.magnitude * self.weight / norm.detach(), self.bias)


def envelope(outputs, y):
    """A maximum over t, whose gradient is right with the maximiser detached; the second derivative is not."""
    t = outputs.tanh().detach()
    return (t * outputs - ((1 + t) * (1 + t).log() + (1 - t) * (1 - t).log()) / 2).mean()


class Detaching(nn.Module):
    forward = torch.detach


class InnerCheckpoint(nn.Module):
    """The inputs of the checkpointed block need no gradient, so that its weights get none."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(checkpoint(lambda h: self.first(h).tanh(), x, use_reentrant=True))


class SixteenBits(nn.Linear):
    def forward(self, x):
        return super().forward(x).bfloat16().to(x.dtype)


class Tokens(nn.Module):
    """Embeds the positive and the negative inputs as two tokens, the last of which may count as padding."""

    def __init__(self, **options):
        super().__init__()
        self.embed, self.head = nn.Embedding(2, 5, **options), nn.Linear(5, 3)
        nn.init.normal_(self.embed.weight)

    def forward(self, x):
        return self.head(self.embed((x > 0).long()).mean(1).tanh())


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def hooked(register):
    model = mlp()
    register(model)
    return model


def halved(module, of_inputs, of_outputs):
    return tuple(None if g is None else 0.5 * g for g in of_inputs)


def hooked_inside(body, h):
    if h.requires_grad:
        h.register_hook(lambda slope: 2 * slope)
    return torch.tanh(h)


cross_entropy = nn.CrossEntropyLoss()

# Model, loss, the cause in the message, and a part of the hint.
FAULTS = {
    "fused loss": (mlp, FusedCrossEntropy.apply, "function FusedCrossEntropy$", "save_for_backward"),
    "fused loss of a linear model": (
        lambda: nn.Linear(4, 3),
        FusedCrossEntropy.apply,
        "product differs by 100 % .* function FusedCrossEntropy$",
        "PyTorch's operations",
    ),
    "state on ctx": (
        lambda: Body(lambda body, h: RecomputedSwish.apply(h)),
        cross_entropy,
        "function RecomputedSwish$",
        "save_for_backward",
    ),
    "hook on a weight": (
        lambda: hooked(lambda model: model[0].weight.register_hook(lambda g: 0.3 * g)),
        cross_entropy,
        "the gradient hook on 0.weight$",
        "handle.remove()",
    ),
    "hook on a bias": (
        lambda: hooked(lambda model: model[0].bias.register_hook(lambda g: 1.01 * g)),
        cross_entropy,
        "the gradient hook on 0.bias$",
        "handle.remove()",
    ),
    "full backward hook": (
        lambda: hooked(lambda model: model[2].register_full_backward_hook(halved)),
        cross_entropy,
        r"the backward hook on the module 2 \(Linear\)$",
        "handle.remove()",
    ),
    "hook on a tensor": (
        lambda: Body(hooked_inside),
        cross_entropy,
        r"the gradient hook on a tensor \(test_torch_probe.py, line \d+\)$",
        "handle.remove()",
    ),
    "reentrant checkpoint": (
        InnerCheckpoint,
        cross_entropy,
        "a reentrant checkpoint of a block whose inputs need no gradient$",
        "use_reentrant=False",
    ),
    "straight-through function": (
        lambda: Body(lambda body, h: Rounding.apply(h).tanh()),
        cross_entropy,
        "gradient differs .* function Rounding$",
        "straight-through",
    ),
    "straight-through by detach": (
        lambda: Body(straight_through),
        cross_entropy,
        r"a straight-through estimator, round\(\) with detach\(\) .*\(test_torch_probe.py, line \d+\)$",
        "detached",
    ),
    "gradient reversal": (
        lambda: Body(lambda body, h: Reversal.apply(body.inner(h).tanh())),
        cross_entropy,
        "gradient differs .* function Reversal$",
        "gradient reversal",
    ),
    "detached norm": (DetachedNorm, cross_entropy, r"detach\(\) of a tensor that depends", "detached"),
    "detached layer, by no code of the user": (
        lambda: nn.Sequential(nn.Linear(4, 5), Detaching(), nn.Linear(5, 3)),
        cross_entropy,
        r"detach\(\) of a tensor that depends on the weights$",
        "detached",
    ),
    "envelope": (
        lambda: nn.Linear(4, 3),
        envelope,
        r"Hessian product differs .* detach\(\) of a tensor that depends",
        "detached",
    ),
    "number": (lambda: Body(at_numbers), cross_entropy, r"item\(\) of a tensor that depends", "detached"),
    "no_grad": (
        lambda: Body(without_gradients),
        cross_entropy,
        "a computation without gradients of a tensor that depends",
        "detached",
    ),
    "gradients scaled by frequency": (
        lambda: Tokens(scale_grad_by_freq=True),
        cross_entropy,
        r"scale_grad_by_freq of the module embed \(Embedding\)$",
        "outputs stay the same",
    ),
    "sixteen bits": (
        lambda: SixteenBits(4, 3),
        cross_entropy,
        r"a computation in 16 bits \(test_torch_probe.py, line \d+\)",
        "bfloat16",
    ),
}


def problem_of(model, loss, dtype, n=40, seed=0):
    """A classification by a model in training mode, in two batches."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = model().to(dtype)
        x, y = torch.randn(n, 4, dtype=dtype), torch.randint(3, (n,))
    cut = n // 3
    return Problem(model, [(x[:cut], y[:cut]), (x[cut:], y[cut:])], loss)


def refused(problem, match, make=lambda problem: bind(problem, TorchOptions()).operator()):
    """The hint of the error that is raised before the first product."""
    with pytest.raises(ProblemError) as caught:
        make(problem)
    assert re.search(match, caught.value.message)
    return caught.value.hint


def accepted(problem, **options):
    bind(problem, TorchOptions(**options)).operator()


# -- faults ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_cause_is_named(fault, dtype):
    model, loss, cause, hint = FAULTS[fault]
    assert hint in refused(problem_of(model, loss, dtype), cause)


@pytest.mark.parametrize("fault", ["fused loss", "hook on a weight"])
def test_the_bare_operator_is_probed_too(fault):
    model, loss, cause, _ = FAULTS[fault]
    problem = problem_of(model, loss, torch.float32)
    refused(problem, cause, lambda problem: eigencore.operator(problem.model, problem.data, problem.loss))
    refused(problem, cause, lambda problem: eigencore.bind(problem).operator(params="0.*"))
    refused(problem, cause, lambda problem: eigencore.analyze(problem, k=1, analyses="none"))
    accepted(problem, check=False)


def test_several_suspects_are_all_named():
    problem = problem_of(mlp, FusedCrossEntropy.apply, torch.float32)
    problem.model[0].weight.register_hook(lambda g: 0.3 * g)
    hint = refused(problem, "Likely causes: the autograd function Fused.* and the gradient hook on 0.weight$")
    assert "Replace FusedCrossEntropy" in hint
    assert "handle.remove()" in hint


def read_from_memory(problem):
    """A loss that depends on weights in a way that is not even a detached tensor."""
    last = problem.model[2].weight
    kind = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}[last.dtype]

    def loss(outputs, y):
        numbers = (kind * last.numel()).from_address(last.data_ptr())
        return cross_entropy(outputs * float((np.ctypeslib.as_array(numbers) ** 2).sum()), y)

    return Problem(problem.model, problem.data, loss)


def test_a_fault_without_a_visible_cause_is_refused():
    problem = read_from_memory(problem_of(mlp, cross_entropy, torch.float64))
    assert "torch.check=false" in refused(problem, "gradient differs .* from the change of the gradient$")


class Autocast(nn.Sequential):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def test_autocast_inside_the_forward_pass_is_refused_where_it_has_an_effect(small, hessian):
    problem = problem_of(lambda: Autocast(*mlp()), cross_entropy, torch.float32)
    assert "dtype='float64'" in refused(
        problem, "enables autocast.* 16 bits although the weights are float32"
    )
    double = problem_of(lambda: Autocast(*mlp()), lambda z, y: cross_entropy(z.double(), y), torch.float64)
    plain = problem_of(mlp, cross_entropy, torch.float64)
    torch.testing.assert_close(hessian(double), hessian(plain), rtol=0, atol=1e-6)


def test_a_function_that_is_used_in_float32_only_is_found():
    def dispatched(outputs, y):
        fused = outputs.dtype == torch.float32
        return FusedCrossEntropy.apply(outputs, y) if fused else cross_entropy(outputs, y)

    assert "FusedCrossEntropy" in refused(problem_of(mlp, dispatched, torch.float32), "product differs")
    accepted(problem_of(mlp, dispatched, torch.float64))


def test_what_has_no_second_derivative_fails_in_a_product_over_weights_that_need_it():
    """Such as a reentrant checkpoint, which PyTorch itself refuses."""
    model = lambda: Body(lambda body, h: checkpoint(body.inner, h, use_reentrant=True).tanh())  # noqa: E731
    problem = problem_of(model, cross_entropy, torch.float64)
    assert "use_reentrant=False" in refused(problem, "gradient of the loss of batch 0 failed")
    bound = bind(replace(problem, reduction="mean"), TorchOptions())
    head, whole = bound.operator(params="second.*"), bound.operator()
    assert torch.isfinite(head.matvec(torch.ones(head.shape[0], dtype=head.dtype))).all()
    with pytest.raises(ProblemError, match="use_reentrant=True") as caught:
        whole.matvec(torch.ones(whole.shape[0], dtype=whole.dtype))
    assert "use_reentrant=False" in caught.value.hint


# -- derivatives that are not finite -----------------------------------------------------------------------


class Norms(nn.Linear):
    def forward(self, x):
        return torch.linalg.norm(super().forward(x), dim=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_operation_whose_second_derivative_is_infinite_is_named(dtype, small):
    model = Norms(4, 3, bias=False, dtype=dtype)
    nn.init.zeros_(model.weight)
    problem = small(dtype=dtype, model=model, loss=lambda norms, y: (-norms.square()).exp().mean())
    hint = refused(problem, "second derivative of the loss of batch 0 .*operation LinalgVectorNorm has none")
    assert "1e-12" in hint
    assert "NaN" not in hint


def test_an_operation_whose_gradient_is_infinite_is_named(small):
    model = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    data = [(x, y.double()) for x, y in small().data]
    problem = small(model=model, data=data, loss=lambda z, y: (z.square().sum(1).sqrt() - y).square().mean())
    refused(
        problem, "the gradient of the loss of batch 0 .* although the loss is: the operation Sqrt has none"
    )


# -- right derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_networks_are_accepted(dtype, classifying):
    problem = classifying()
    bind(problem, TorchOptions(), dtype=dtype).operator()


def steady(body, h):
    return (h - h.amax(1, keepdim=True).detach()).exp() / (h - h.amax(1, keepdim=True).detach()).exp().sum(
        1, keepdim=True
    )


def logged(body, h):
    body.last = h.detach()
    if h.requires_grad:
        h.register_hook(lambda slope: None)
    return torch.tanh(h)


def stored(body, h):
    body.hidden = torch.tanh(h)
    return body.hidden


def checkpointed(body, h):
    return checkpoint(body.inner, h, use_reentrant=False).tanh()


class FromZeros(nn.Module):
    """A recurrent network whose first state is created in PyTorch's default type."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        state, shift = torch.zeros(1, len(x), 3), torch.zeros(3)
        shift[0] = 0.5
        return self.head(self.cell(x[None], state)[0][0] + shift)


class Dead(nn.Module):
    """Every hidden unit is exactly at the kink of its ReLU."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        nn.init.zeros_(self.first.bias)

    def forward(self, x):
        return self.second(torch.relu(self.first(0 * x)))


CLASS_WEIGHTS = torch.ones(3)


def class_weighted(outputs, y):
    return functional.cross_entropy(outputs, y, weight=CLASS_WEIGHTS)


RIGHT = {
    "stable softmax": (lambda: Body(steady), cross_entropy),
    "hooks that log": (lambda: Body(logged), cross_entropy),
    "hook on a weight that logs": (
        lambda: hooked(lambda model: model[0].weight.register_hook(lambda g: None)),
        cross_entropy,
    ),
    "backward hook that logs": (
        lambda: hooked(lambda model: model[2].register_full_backward_hook(lambda *_: None)),
        cross_entropy,
    ),
    "checkpoint": (lambda: Body(checkpointed), cross_entropy),
    "function": (lambda: Body(lambda body, h: Cube.apply(h)), cross_entropy),
    "padding that takes part": (lambda: Tokens(padding_idx=1), cross_entropy),
    "loss in float32": (mlp, lambda z, y: cross_entropy(z.float(), y)),
    "linear loss": (lambda: nn.Linear(4, 3), lambda z, y: z.mean()),
    "constant loss": (mlp, lambda z, y: (z / z).mean()),
    "kinks at the weights": (Dead, cross_entropy),
    "absolute errors": (lambda: nn.Linear(4, 3), lambda z, y: functional.l1_loss(z[:, 0], y.to(z.dtype))),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RIGHT)
def test_right_losses_are_accepted(name, dtype):
    accepted(replace(problem_of(*RIGHT[name], dtype), reduction="mean"))


class Times(nn.Module):
    """Logits times a factor, as those of a network that is certain."""

    def __init__(self, network, factor):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x):
        return self.factor * self.network(x)


def certain(between, factor, dtype):
    """A network that is right about every sample, so that most losses are rounding errors of its logits."""
    problem = problem_of(lambda: Body(between), cross_entropy, dtype)
    with torch.no_grad():
        data = [(x, problem.model(x).argmax(1)) for x, _ in problem.data]
    return replace(problem, model=Times(problem.model, factor), data=data, reduction="mean")


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_that_are_rounding_errors_raise_no_alarm_and_hide_no_fault(dtype):
    for factor in (30.0, 300.0, 3000.0):
        accepted(certain(lambda body, h: torch.tanh(h), factor, dtype))
    refused(certain(straight_through, 30.0, dtype), "would be wrong")
    refused(certain(lambda body, h: Reversal.apply(torch.tanh(h)), 30.0, dtype), "would be wrong")


@pytest.mark.parametrize("part", ["the loss", "the model", "an attribute"])
def test_tensors_in_float32_are_no_obstacle_to_a_copy_in_float64(part, monkeypatch):
    compared = []
    compare = ProbedLoss._compared
    monkeypatch.setattr(
        ProbedLoss, "_compared", lambda self, *args: compared.append(self) or compare(self, *args)
    )
    model, loss = {
        "the loss": (mlp, class_weighted),
        "the model": (FromZeros, cross_entropy),
        "an attribute": (lambda: Body(stored), cross_entropy),
    }[part]
    accepted(problem_of(model, loss, torch.float32))
    assert [one.layout.dtype for one in compared] == [torch.float64]


def contrastive(model, batch):
    z = functional.normalize(model(batch["x"]), dim=1)
    return functional.cross_entropy(z @ z.T / 0.5, torch.arange(len(z)))


def ragged(model, batch):
    return model(batch["x"]).square().mean() + batch["scale"].sum()


def only_large(outputs, y):
    if len(y) < 40:
        raise ValueError("needs at least 40 samples")
    return cross_entropy(outputs, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_of_every_kind_are_probed(dtype, small):
    model = mlp().to(dtype)
    x, y = torch.randn(50, 4, dtype=dtype), torch.randint(3, (50,))
    late = y.clone()
    late[:45] = -100
    for problem in (
        Problem(model, [{"x": x}], contrastive, reduction="mean"),
        Problem(model, [{"x": x, "scale": torch.ones(3)}], ragged, reduction="sum"),
        Problem(model, [(x, y)], only_large, reduction="mean"),
        Problem(model, [(x, late)], cross_entropy, reduction="mean"),
    ):
        accepted(problem)


def activation(draw):
    kinds = nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.ELU, nn.SiLU, nn.GELU, nn.Tanh, nn.Softplus
    return draw.choice(kinds)()


def random_mlp(draw):
    widths = [draw.randint(2, 20) for _ in range(draw.randint(1, 4))]
    layers, d = [], 6
    for width in widths:
        layers += [nn.Linear(d, width), activation(draw)]
        d = width
    return nn.Sequential(*layers, nn.Linear(d, 3)), (6,)


def random_convolutions(draw):
    c, d = draw.randint(1, 6), draw.randint(1, 6)
    norm = draw.choice([nn.BatchNorm2d(c), nn.GroupNorm(1, c), nn.Identity()])
    body = nn.Conv2d(2, c, 3), norm, activation(draw), nn.MaxPool2d(2), nn.Conv2d(c, d, 2), activation(draw)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * d, 3)), (2, 8, 8)


class OfLastState(nn.Module):
    def __init__(self, cell, between, width):
        super().__init__()
        self.cell, self.between, self.head = cell, between, nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.between(self.cell(x)[0][:, -1]))


def random_recurrent(draw):
    width, kind = draw.randint(2, 8), draw.choice([nn.LSTM, nn.GRU])
    cell = kind(4, width, draw.randint(1, 2), batch_first=True, bidirectional=draw.random() < 0.3)
    return OfLastState(cell, activation(draw), width * (2 if cell.bidirectional else 1)), (5, 4)


def random_transformer(draw):
    width = 2 * draw.randint(1, 4)
    layer = nn.TransformerEncoderLayer(
        width,
        2,
        draw.randint(3, 9),
        activation=activation(draw),
        norm_first=draw.random() < 0.5,
        batch_first=True,
    )
    return nn.Sequential(nn.Linear(4, width), layer, nn.Flatten(), nn.Linear(5 * width, 3)), (5, 4)


def hinge(outputs, y):
    return (1 + outputs - outputs.gather(1, y[:, None])).relu().sum(1).mean()


def random_problem(seed):
    """A small network of one of four kinds with one of eight activations, in float32 or float64."""
    draw = random.Random(seed)
    kinds = random_mlp, random_convolutions, random_recurrent, random_transformer
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, shape = kinds[seed % 4](draw)
        with torch.no_grad():
            scale = draw.choice([0.3, 1.0, 3.0])
            for p in model.parameters():
                p.mul_(scale)
        n = draw.randint(2, 50)
        x, y = draw.choice([0.1, 1.0, 10.0]) * torch.randn(n, *shape), torch.randint(3, (n,))
    dtype = draw.choice(DTYPES)
    loss = draw.choice([cross_entropy, nn.CrossEntropyLoss(reduction="sum"), hinge])
    reduction = "sum" if getattr(loss, "reduction", "mean") == "sum" else "mean"
    return Problem(model.to(dtype), [(x.to(dtype), y)], loss, reduction=reduction)


@pytest.mark.parametrize("tens", range(6))
def test_random_networks_raise_no_alarm(tens):
    for seed in range(10 * tens, 10 * tens + 10):
        accepted(random_problem(seed))


@pytest.mark.slow
def test_many_random_networks_raise_no_alarm():
    for seed in range(60, 60 + cases_to_try(250)):
        accepted(random_problem(seed))


# -- copies ------------------------------------------------------------------------------------------------


class Uncopyable(nn.Sequential):
    def __deepcopy__(self, memo):
        raise RuntimeError("not this one")


def test_without_a_copy_a_gap_is_an_error_if_something_explains_it_and_a_warning_if_not():
    problem = problem_of(lambda: Uncopyable(*mlp()), cross_entropy, torch.float32)
    accepted(problem)
    with pytest.warns(UserWarning, match="could not be verified.* in float32, .*not this one"):
        accepted(read_from_memory(problem))
    fused = Problem(problem.model, problem.data, FusedCrossEntropy.apply)
    assert "save_for_backward" in refused(fused, "function FusedCrossEntropy$")
    problem.model[0].weight.register_hook(lambda g: 0.3 * g)
    refused(problem, "hook on 0.weight$")


def test_a_loss_that_holds_the_given_model_is_probed_without_a_copy():
    problem = problem_of(mlp, cross_entropy, torch.float32)
    model = problem.model
    accepted(Problem(model, problem.data, lambda z, y: cross_entropy(z, y) + model[0].weight.square().sum()))
    held = Problem(model, problem.data, lambda _, batch: FusedCrossEntropy.apply(model(batch[0]), batch[1]))
    refused(Problem(model, held.data, held.loss, call="loss(model, batch)"), "FusedCrossEntropy")


def test_a_model_too_large_for_a_copy_is_probed_as_it_is(monkeypatch):
    monkeypatch.setattr("eigencore_torch.checks.probed_loss.free_memory", lambda *_: 0)
    problem = problem_of(mlp, cross_entropy, torch.float32)
    accepted(problem)
    with pytest.warns(UserWarning, match="would not fit into the free memory"):
        accepted(read_from_memory(problem))


# -- side effects and cost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_model_and_the_random_state_are_unchanged(dtype):
    class Stateful(Body):
        def __init__(self):
            super().__init__(lambda body, h: body.norm(h.tanh()))
            self.norm = nn.BatchNorm1d(5)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            torch.rand(1)
            np.random.rand(1)
            random.random()
            self.calls += 1
            self.hidden = self.first(x)
            return super().forward(x)

    calls = []
    problem = problem_of(Stateful, cross_entropy, dtype)
    model = problem.model
    handle = model.first.weight.register_hook(lambda g: calls.append(g.dtype))
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    pointers = [(p.data_ptr(), p._version, p.dtype, p.grad) for p in model.parameters()]
    hooks = dict(model.first.weight._backward_hooks)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    accepted(problem)
    assert calls  # the hook takes part in what is probed
    assert [module.training for module in model.modules()] == modes
    assert [(p.data_ptr(), p._version, p.dtype, p.grad) for p in model.parameters()] == pointers
    assert dict(model.first.weight._backward_hooks) == hooks
    assert not hasattr(model, "hidden")
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    handle.remove()


def passes(problem, **options):
    """The samples of forward passes, and the backward passes, before the operator is there."""
    samples, backward = [], []
    run = torch.autograd.graph._engine_run_backward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "torch.autograd._engine_run_backward", lambda *a, **k: backward.append(1) or run(*a, **k)
        )
        handle = problem.model.register_forward_pre_hook(lambda module, args: samples.append(len(args[0])))
        bind(problem, TorchOptions(**options)).operator()
        handle.remove()
    return sum(samples), len(backward)


def cost_of_probe(problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eigencore_torch.inspection.probe", lambda *_: None)
        plain = passes(problem)
    return tuple(probed - without for probed, without in zip(passes(problem), plain, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_probe_mostly_costs_a_product_and_two_gradients_of_few_samples(dtype):
    """One forward pass is watched, and the product computed from it; two are for the gradients. The product
    takes a gradient and a pass back through it."""
    assert cost_of_probe(problem_of(mlp, cross_entropy, dtype, n=300)) == (3 * (100 // 32), 2 + 2)


def test_more_samples_are_probed_if_something_could_make_derivatives_wrong():
    """Beside the first pass over 3 samples: a watched one, one for the product, and two for the gradients."""
    assert cost_of_probe(problem_of(*RIGHT["function"], torch.float64, n=300))[0] == 3 + 4 * (100 // 8)


# -- what few samples do not show --------------------------------------------------------------------------


def test_samples_without_a_second_derivative_settle_nothing():
    def without_bias():
        return nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False))

    problem = problem_of(without_bias, cross_entropy, torch.float64, n=300)
    problem.data[0][0][: 100 // 32] = 0.0
    accepted(problem)
    refused(read_from_memory(problem), "gradient differs")


def test_a_function_that_only_large_batches_use_is_found():
    def fused_if_large(outputs, y):
        return (FusedCrossEntropy.apply if len(y) > 50 else cross_entropy)(outputs, y)

    problem = problem_of(mlp, fused_if_large, torch.float32, n=300)
    assert "save_for_backward" in refused(replace(problem, reduction="mean"), "function FusedCrossEntropy$")


def test_gradients_scaled_by_frequency_are_found_although_the_first_inputs_are_all_different():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(100, 5, scale_grad_by_freq=True), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.embed(x).mean(1).tanh())

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, x = Words().double(), torch.arange(400).reshape(100, 4) % 8
        x[:3] = torch.arange(12).reshape(3, 4)
        problem = Problem(model, [(x, torch.randint(3, (100,)))], cross_entropy)
    refused(problem, r"scale_grad_by_freq of the module embed \(Embedding\)$")
