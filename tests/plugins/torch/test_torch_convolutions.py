"""The convolutions that are differentiated twice have the derivatives of PyTorch's own, of every order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.errors import ProblemError
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.checks.suspects import python_functions
from eigencore_torch.evaluation.convolutions import CheaperConvolutions, Convolution
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state

# A convolution's arguments after input and weight, with the shapes of these.
CASES = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    "stride, padding and dilation": (
        (2, 3, 9, 8),
        (4, 3, 3, 2),
        {"stride": (2, 1), "padding": [1, 2], "dilation": 2},
    ),
    "groups": ((2, 4, 6, 6), (6, 2, 3, 3), {"groups": 2, "padding": (1,)}),
    "depthwise": ((2, 4, 6, 6), (4, 1, 3, 3), {"groups": 4}),
    "one dimension": ((3, 2, 9), (4, 2, 3), {"stride": 2}),
    "three dimensions": ((2, 2, 4, 4, 4), (3, 2, 2, 2, 2), {"padding": 1}),
}
OTHERS = {
    "one sample": ((3, 7, 6), (4, 3, 3, 2), {}),
    "padding by name": ((2, 3, 7, 6), (4, 3, 3, 3), {"padding": "same"}),
}


def draw(*shape, needs=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=needs)


def derivatives(x, w, b, given):
    """The output, and three levels of gradients of functions of it, over the inputs that need one."""
    function = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[w.ndim - 2]
    inputs = [one for one in (x, w, b) if one is not None and one.requires_grad]
    found = [value := function(x, w, b, **given)]
    for _ in range(3):
        gradients = torch.autograd.grad((value / 3).sin().sum(), inputs, create_graph=True)
        found += gradients
        value = torch.cat([one.reshape(-1) for one in gradients])
    return found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("needs", [(True, True), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize(("x", "w", "given"), [*CASES.values(), *OTHERS.values()], ids=[*CASES, *OTHERS])
def test_derivatives_up_to_the_third_are_those_of_pytorch(x, w, given, needs, bias):
    torch.manual_seed(0)
    b = draw(w[0]) if bias else None
    x, w = draw(*x, needs=needs[0]), draw(*w, needs=needs[1])
    expected = derivatives(x, w, b, given)
    with CheaperConvolutions():
        found = derivatives(x, w, b, given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def is_replaced(x, w, **given):
    with CheaperConvolutions():
        y = functional.conv2d(x, w, **given)
    return getattr(y.grad_fn, "_forward_cls", None) is Convolution


def test_only_convolutions_that_are_differentiated_are_replaced():
    x, w = draw(2, 3, 7, 6, needs=False), draw(4, 3, 3, 3)
    assert is_replaced(x, w)
    assert is_replaced(x, w, bias=draw(4), stride=[2, 2])
    assert not is_replaced(x, w.detach())
    assert not is_replaced(x[0], w)
    assert not is_replaced(x[:0], w)
    assert not is_replaced(x, w, padding="same")
    with torch.no_grad():
        assert not is_replaced(x, w)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # in PyTorch's forward mode
def test_transformations_of_functions_use_the_rules_of_pytorch():
    x, w = draw(2, 3, 7, 6, needs=False), draw(4, 3, 3, 3, needs=False)
    with CheaperConvolutions():
        torch.func.vmap(functional.conv2d, (0, None))(x[:, None], w)
        torch.func.grad(lambda w: functional.conv2d(x, w).sum())(w)
        torch.func.jvp(lambda w: functional.conv2d(x, w), (w,), (w,))
        with torch.autograd.forward_ad.dual_level():
            functional.conv2d(x, torch.autograd.forward_ad.make_dual(w, w))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten()
    )


def problem(*further, loss=None):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(network(), *further, nn.Linear(16, 3)).double()
        data = [(torch.randn(6, 1, 3, 3, dtype=torch.float64), torch.randint(3, (6,)))]
    return eigencore.Problem(model=model, data=data, loss=loss or nn.CrossEntropyLoss(), reduction="mean")


def test_sessions_on_a_processor_use_them():
    given = problem()
    modules = list(given.model.modules())
    for device, used in (("cpu", True), ("cuda", False)):
        if device == "cuda" and not torch.cuda.is_available():
            continue
        with preserve_state(modules, Setting(torch.device(device)), None):
            y = given.model[0](given.data[0][0])
            assert any(getattr(f, "__name__", "") == "Convolution" for f in functions(y)) == used


def functions(y):
    found, pending = [], [y.grad_fn]
    while pending:
        if (node := pending.pop()) is not None:
            found.append(getattr(node, "_forward_cls", None))
            pending += [one for one, _ in node.next_functions]
    return found


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Doubled(nn.Module):
    def forward(self, x):
        return Wrong.apply(x)


def test_a_wrong_derivative_is_not_blamed_on_them():
    with pytest.raises(ProblemError, match=r"Likely cause: the autograd function Wrong\n") as caught:
        bind(problem(Doubled()), TorchOptions()).operator()
    assert "Convolution" not in str(caught.value)
    with CheaperConvolutions():
        assert python_functions(network()(torch.randn(2, 1, 3, 3))) == []
