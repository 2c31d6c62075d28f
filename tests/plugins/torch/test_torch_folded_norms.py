"""BatchNorm that is folded into convolutions: the same values and derivatives, or it is not folded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore_torch.evaluation.folded_norms import FoldedNorms, NormFolding
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from kit.torch_networks import CLASSES, SAMPLES, difference, made, matrix


def drawn(norm):
    """A norm whose statistics and weights are not those of its initialisation."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if norm.affine:
        nn.init.uniform_(norm.weight, -1, 2)
        nn.init.normal_(norm.bias)
    return norm


def head(features):
    return nn.Flatten(), nn.Linear(features, CLASSES)


class Shared(nn.Module):
    """A convolution with a norm that is applied twice, and a norm of its own after the third use."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(2, 2, 3, padding=1), *two_norms()
        self.head = nn.Sequential(*head(18))

    def forward(self, x):
        for norm in (self.norm, self.norm, self.other):
            x = functional.silu(norm(self.conv(x)))
        return self.head(x)


def two_norms():
    return drawn(nn.BatchNorm2d(2)), drawn(nn.BatchNorm2d(2))


class Reused(nn.Module):
    """The output of the convolution is also used without the norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), drawn(nn.BatchNorm2d(2))
        self.head = nn.Sequential(*head(18))

    def forward(self, x):
        y = self.conv(x)
        return self.head(torch.tanh(self.norm(y)) + y.sin())


def planar(conv, norm, *more):
    return nn.Sequential(conv, drawn(norm), *more)


def with_hooks():
    """A forward hook that reads, and one that returns another tensor."""
    model = planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), *head(12))
    model[0].register_forward_hook(lambda module, inputs, y: None)
    model[1].register_forward_hook(lambda module, inputs, y: 1.5 * y)
    return model


class Cube(nn.Module):
    def forward(self, w):
        return w**3


def parametrised():
    model = planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), *head(12))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Cube())
    return model


def frozen_norm():
    model = planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), *head(12))
    model[1].requires_grad_(False)
    return model


def frozen_convolution():
    """The second convolution is frozen, and its input needs a gradient."""
    second = planar(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    second[0].requires_grad_(False)
    return planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), second, *head(12))


class OnBatch(nn.BatchNorm2d):
    """Uses the statistics of the batch in every mode."""

    def forward(self, x):
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, training=True)


# What makes each network, the shape of its inputs, and how many of its norms are folded.
NETWORKS = {
    "bias": (
        lambda: planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(inplace=True), *head(12)),
        (2, 3, 3),
        1,
    ),
    "no bias": (
        lambda: planar(nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3), nn.SiLU(), *head(12)),
        (2, 3, 3),
        1,
    ),
    "groups and stride": (
        lambda: planar(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4), nn.Tanh(), *head(16)
        ),
        (2, 3, 3),
        1,
    ),
    "not affine": (
        lambda: planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, affine=False), nn.Tanh(), *head(12)),
        (2, 3, 3),
        1,
    ),
    "one dimension": (
        lambda: planar(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, eps=0.1), nn.Tanh(), *head(9)),
        (2, 4),
        1,
    ),
    "three dimensions": (
        lambda: planar(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.Tanh(), *head(16)),
        (1, 3, 3, 3),
        1,
    ),
    "two layers": (
        lambda: planar(
            nn.Conv2d(2, 3, 2),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            *planar(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2)),
            *head(2),
        ),
        (2, 3, 3),
        2,
    ),
    "shared": (Shared, (2, 3, 3), 3),
    "hooks": (with_hooks, (2, 3, 3), 1),
    "parametrised": (parametrised, (2, 3, 3), 1),
    "frozen norm": (frozen_norm, (2, 3, 3), 1),
    "two norms in sequence": (
        lambda: planar(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), drawn(nn.BatchNorm2d(3)), nn.Tanh(), *head(12)),
        (2, 3, 3),
        1,
    ),
    "activation between": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), drawn(nn.BatchNorm2d(3)), *head(12)),
        (2, 3, 3),
        0,
    ),
    "batch statistics": (
        lambda: planar(nn.Conv2d(2, 3, 2), OnBatch(3), nn.Tanh(), *head(12)),
        (2, 3, 3),
        0,
    ),
    "frozen convolution": (frozen_convolution, (2, 3, 3), 1),
    "reused": (Reused, (2, 3, 3), 1),
}


def made_of(name, loss=None, params=("*",), **fields):
    make, shape, _ = NETWORKS[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, x = make().double(), torch.randn(SAMPLES, *shape).double()
        y = torch.randint(CLASSES, (SAMPLES,))
    return made(model, x, y, loss or nn.CrossEntropyLoss(), params, reduction="mean", **fields)


def session(model):
    return preserve_state([model], Setting(torch.device("cpu")), None)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "batch statistics"])
@pytest.mark.parametrize("memory", ["auto", "none"])
def test_hessian_is_that_of_the_whole_loss(name, memory):
    one = made_of(name)
    hessian = eigencore.bind(one.problem, memory=memory).operator()
    found = hessian.matmat(torch.eye(hessian.shape[0], dtype=torch.float64))
    assert difference(found, one.dense.hessian()) < 1e-12


@pytest.mark.parametrize("params", ["0.weight", "0.*", "1.weight", "1.*", "[01].bias", "1.bias,4.*"])
def test_blocks_of_parameters(params):
    globs = tuple(params.split(","))
    one = made_of("bias", params=globs)
    assert difference(matrix(one.problem, "hessian", params=list(globs)), one.dense.hessian()) < 1e-12


@pytest.mark.parametrize("kind", ["ggn", "fisher"])
def test_kinds_over_outputs(kind):
    one = made_of("two layers")
    assert difference(matrix(one.problem, kind), one.dense.ggn()) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_the_same_bits_and_norms_are_folded(name):
    make, shape, folded = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(5, *shape)
    with session(model):
        expected = model(x)
        with FoldedNorms() as norms:
            found = model(x)
    assert torch.equal(found, expected)
    assert norm_nodes(expected) - norm_nodes(found) == folded
    assert norms.noticed == (name == "reused")


def norm_nodes(y):
    return [node.name() for node in nodes(y)].count("NativeBatchNormBackward0")


def nodes(y):
    found, pending = set(), [y.grad_fn]
    while pending:
        if (node := pending.pop()) is not None and node not in found:
            found.add(node)
            pending += [one for one, _ in node.next_functions]
    return found


def noticing(name):
    """A problem whose network uses the output of its convolution after the norm, in one of several ways."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 2), drawn(nn.BatchNorm2d(3))
            self.head = nn.Sequential(*head(12))

        def forward(self, x):
            y = self.conv(x)
            if name == "hook before":
                y.register_hook(lambda gradient: 2 * gradient)
            z = torch.tanh(self.norm(y))
            if name == "hook after":
                y.register_hook(lambda gradient: 2 * gradient)
            if name == "gradient":
                z = z + torch.autograd.grad(z.sum(), [y], create_graph=True)[0]
            if name == "gradient that may be unused":
                (slope,) = torch.autograd.grad(z.sum(), y, create_graph=True, allow_unused=True)
                z = z if slope is None else z + slope
            return self.head(z)

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, x = Model().double(), torch.randn(SAMPLES, 2, 3, 3).double()
        y = torch.randint(CLASSES, (SAMPLES,))
    return made(model, x, y, nn.CrossEntropyLoss(), reduction="mean")


@pytest.mark.parametrize("name", ["gradient", "gradient that may be unused"])
def test_a_model_that_differentiates_over_the_output_of_a_convolution(name):
    one = noticing(name)
    assert difference(matrix(one.problem, "hessian"), one.dense.hessian()) < 1e-12


@pytest.mark.parametrize("name", ["hook before", "hook after"])
def test_hooks_on_gradients_still_act(name):
    one = noticing(name)
    model, (x, y) = one.problem.model, one.problem.data[0]

    def gradient():
        loss = functional.cross_entropy(model(x), y)
        return torch.autograd.grad(loss, model.conv.weight)[0]

    with session(model):
        torch.testing.assert_close(NormFolding()(gradient), gradient(), rtol=1e-13, atol=0)


def test_a_changed_output_is_not_folded():
    conv, norm = nn.Conv2d(2, 3, 2), drawn(nn.BatchNorm2d(3))
    with session(nn.Sequential(conv, norm)), FoldedNorms():
        for change, folded in ((lambda y: y.dim(), 0), (lambda y: y.add_(1), 1), (lambda y: y.sum(), 1)):
            y = conv(torch.randn(4, 2, 3, 3))
            change(y)
            assert norm_nodes(norm(y)) == folded


def test_changed_inputs_and_weights_raise_as_without_folding():
    for changed in ("x", "weight"):
        conv, norm = nn.Conv2d(2, 3, 2), drawn(nn.BatchNorm2d(3))
        x = torch.randn(4, 2, 3, 3)
        with session(nn.Sequential(conv, norm)), FoldedNorms():
            y = conv(x)
            with torch.no_grad():
                (x if changed == "x" else conv.weight).mul_(2)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                norm(y).sum().backward()


def test_an_error_of_the_model_is_raised_once():
    calls = []

    def fail():
        calls.append(None)
        raise ValueError("of the model")

    with pytest.raises(ValueError, match="of the model"):
        NormFolding()(fail)
    assert len(calls) == 1


def test_what_noticed_is_not_folded_again():
    one, calls = made_of("reused"), []
    model, (x, _) = one.problem.model, one.problem.data[0]

    def compute():
        calls.append(None)
        return model(x)

    with session(model):
        folding = NormFolding()
        assert [norm_nodes(folding(compute)) for _ in range(2)] == [1, 1]
    assert len(calls) == 3
