"""The classifier's logits and input derivatives, compared with dense derivatives and finite differences."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from eigencore import Problem
from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation.double_backward import twice_differentiable

OBJECTIVES = [CrossEntropy(), Margin(), Margin(against=1), DLR()]


@pytest.fixture(params=OBJECTIVES, ids=["cross_entropy", "margin", "margin_1", "dlr"])
def objective(request):
    return request.param


def classifier_of(problem, device="cpu"):
    return bind(problem, TorchOptions(), device=device).classifier()


def objective_of_sample(problem, objective, x, y):
    """One sample's objective as a function of its input (d,), for PyTorch to differentiate."""
    model, shape = problem.model.eval(), problem.data[0][0].shape[1:]
    return lambda row: objective.value(model(row.clone().reshape(1, *shape)), y[None])[0]


def test_logits_are_the_networks_in_evaluation_mode(classifying, device):
    classifier = classifier_of(classifying(), device)
    x, _ = classifier.samples()
    expected = classifying().model.eval().to(device)(torch.cat([x for x, _ in classifying().data]).to(device))
    torch.testing.assert_close(classifier.logits(x), expected.detach())
    assert not classifier.logits(x).requires_grad
    assert classifier.logits(x).shape == (15, classifier.classes)


def test_values_and_gradients_are_those_of_each_sample(classifying, objective, device):
    classifier = classifier_of(classifying(), device)
    x, y = classifier.samples()
    value, gradient = classifier.value_and_grad(objective, x, y)
    assert value.shape == (15,)
    assert not value.requires_grad
    problem = classifying()
    for i in range(len(x)):
        f = objective_of_sample(problem, objective, x[i].cpu(), y[i].cpu())
        torch.testing.assert_close(value[i].cpu(), f(x[i].cpu()).detach())
        expected = torch.autograd.functional.jacobian(f, x[i].cpu())
        torch.testing.assert_close(gradient[i].cpu(), expected, rtol=1e-8, atol=1e-12)


def test_gradients_are_differences_of_values(classifying, objective):
    classifier = classifier_of(classifying())
    x, y = classifier.samples()
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(x.shape)))
    _, gradient = classifier.value_and_grad(objective, x, y)
    up, _ = classifier.value_and_grad(objective, x + 1e-6 * direction, y)
    down, _ = classifier.value_and_grad(objective, x - 1e-6 * direction, y)
    torch.testing.assert_close((up - down) / 2e-6, (gradient * direction).sum(1), rtol=1e-5, atol=1e-7)


def test_products_are_those_of_the_dense_hessians(classifying, objective, device):
    classifier = classifier_of(classifying(), device)
    x, y = classifier.samples(5)
    product = classifier.input_products(objective, x, y)
    problem = classifying()
    hessians = []
    for i in range(len(x)):
        with twice_differentiable(list(problem.model.modules()), torch.device("cpu")):
            f = objective_of_sample(problem, objective, x[i].cpu(), y[i].cpu())
            hessians.append(torch.autograd.functional.hessian(f, x[i].cpu()))
    for seed in range(2):
        v = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(x.shape)))
        expected = torch.einsum("sij,sj->si", torch.stack(hessians), v)
        torch.testing.assert_close(product(v.to(device)).cpu(), expected, rtol=1e-8, atol=1e-12)


def test_products_are_differences_of_gradients(classifying):
    classifier, objective = classifier_of(classifying()), CrossEntropy()
    x, y = classifier.samples()
    v = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(x.shape)))
    _, up = classifier.value_and_grad(objective, x + 1e-6 * v, y)
    _, down = classifier.value_and_grad(objective, x - 1e-6 * v, y)
    product = classifier.input_products(objective, x, y)(v)
    assert not product.requires_grad
    torch.testing.assert_close(product, (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


class GradientsOverWeights(TorchDispatchMode):
    """Counts the convolutions whose gradient over the weights is computed."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.count += bool(args[-1][1])
        return func(*args, **(kwargs or {}))


def test_no_derivative_over_the_weights_of_a_convolution_is_computed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8, 3))
    data = [(torch.randn(5, 1, 4, 4), torch.arange(5) % 3)]
    bound = bind(Problem(model, data, nn.CrossEntropyLoss()), TorchOptions())
    classifier, objective = bound.classifier(), CrossEntropy()
    x, y = classifier.samples()
    with GradientsOverWeights() as over_weights:
        classifier.value_and_grad(objective, x, y)
        classifier.input_products(objective, x, y)(torch.ones_like(x))
    assert not over_weights.count
    with GradientsOverWeights() as over_weights:  # the count counts
        model(data[0][0]).sum().backward()
    assert over_weights.count == 1


def test_samples_are_independent_of_each_other(classifying, objective):
    classifier = classifier_of(classifying())
    x, y = classifier.samples()
    v = torch.ones_like(x)
    value, gradient = classifier.value_and_grad(objective, x, y)
    product = classifier.input_products(objective, x, y)(v)
    order = torch.arange(14, -1, -1)
    for chosen in (slice(0, 1), slice(4, 7), order):
        own, slope = classifier.value_and_grad(objective, x[chosen], y[chosen])
        torch.testing.assert_close(own, value[chosen], rtol=0, atol=1e-12)
        torch.testing.assert_close(slope, gradient[chosen], rtol=0, atol=1e-12)
        curvature = classifier.input_products(objective, x[chosen], y[chosen])(v[chosen])
        torch.testing.assert_close(curvature, product[chosen], rtol=0, atol=1e-12)


def test_a_linear_margin_has_no_curvature(small):
    classifier = classifier_of(small(model=nn.Linear(4, 3).double()))
    x, y = classifier.samples()
    assert classifier.input_products(Margin(), x, y)(torch.ones_like(x)).count_nonzero() == 0


class Rounding(nn.Linear):
    def forward(self, x):
        return super().forward(torch.round(16 * x) / 16)


def test_all_derivatives_are_zero_behind_a_rounding(small):
    classifier = classifier_of(small(model=Rounding(4, 3).double()))
    x, y = classifier.samples()
    _, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    product = classifier.input_products(CrossEntropy(), x, y)(torch.ones_like(x))
    assert gradient.count_nonzero() == product.count_nonzero() == 0


def test_the_curvature_of_a_piecewise_linear_network_comes_from_the_softmax_alone(small):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)).double()
    classifier = classifier_of(small(model=model))
    x, y = classifier.samples()
    v = torch.ones_like(x)
    assert classifier.input_products(Margin(), x, y)(v).count_nonzero() == 0
    assert classifier.input_products(CrossEntropy(), x, y)(v).count_nonzero() > 0


class InPlace(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x.sub_(0.3).div_(2)))


def test_inputs_are_not_modified(small):
    bound = bind(small(model=InPlace(4, 3).double()), TorchOptions())
    classifier = bound.classifier()
    x, y = classifier.samples()
    before = x.clone()
    v = torch.ones(15, dtype=torch.float64)
    for _ in range(2):
        found = [
            classifier.logits(x),
            *classifier.value_and_grad(CrossEntropy(), x, y),
            classifier.input_products(CrossEntropy(), x, y)(x),
            bound.sample_curvature(CrossEntropy(), v, x, y),
        ]
        assert torch.equal(x, before)
        assert torch.equal(torch.cat([x for x, _ in small().data]), before)
    assert (x.requires_grad, x.grad) == (False, None)
    # The same network without in-place operations.
    with torch.no_grad():
        expected = torch.tanh(nn.Linear.forward(bound._loss.model, (x - 0.3) / 2))
    torch.testing.assert_close(found[0], expected)


def test_another_type_is_computed_on_a_copy(small, device):
    problem = small(dtype=torch.float32)
    bound = bind(problem, TorchOptions(), device=device)
    single, exact = bound.classifier(), bound.classifier("float64")
    assert (single.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert {p.dtype for p in problem.model.parameters()} == {torch.float32}
    x, y = exact.samples()
    assert x.dtype == torch.float64
    torch.testing.assert_close(single.samples()[0].double(), x, rtol=0, atol=0)
    torch.testing.assert_close(exact.logits(x).float(), single.logits(x.float()), rtol=1e-5, atol=1e-5)
    step, _ = exact.value_and_grad(CrossEntropy(), x, y)
    assert step.dtype == torch.float64


def test_at_moved_weights_it_is_the_classifier_of_the_moved_network(classifying):
    """Also over some of the parameters, and in another type; the given network is not changed."""
    problem = classifying()
    before = [(p.data_ptr(), p._version, p.detach().clone()) for p in problem.model.parameters()]
    bound = bind(problem, TorchOptions())
    for params, dtype in ((None, None), ("*weight*", None), (None, "float32")):
        layout = bound.select(params)
        v = 0.3 * torch.randn(layout.n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        moved = copy.deepcopy(problem.model)
        for name, piece in zip(layout.names, layout.split(v), strict=True):
            moved.get_parameter(name).data += piece
        classifier = bound.classifier(dtype, direction=v, params=params)
        expected = bind(replace(problem, model=moved), TorchOptions()).classifier(dtype)
        x, y = expected.samples()
        close = {"rtol": 1e-4, "atol": 1e-5} if dtype else {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(classifier.logits(x), expected.logits(x), **close)
        for one, other in zip(
            classifier.value_and_grad(CrossEntropy(), x, y),
            expected.value_and_grad(CrossEntropy(), x, y),
            strict=True,
        ):
            torch.testing.assert_close(one, other, **close)
        products = (one.input_products(CrossEntropy(), x, y)(x) for one in (classifier, expected))
        torch.testing.assert_close(*products, **close)
        assert not torch.allclose(classifier.logits(x), bound.classifier(dtype).logits(x))
    for (pointer, version, values), p in zip(before, problem.model.parameters(), strict=True):
        assert (p.data_ptr(), p._version) == (pointer, version)
        assert torch.equal(p, values)


def test_a_direction_of_a_wrong_length_is_refused(small):
    with pytest.raises(UsageError, match="one value per weight"):
        bind(small(), TorchOptions()).classifier(direction=torch.ones(3))


def test_the_callers_torch_modes_do_not_affect_it(classifying):
    classifier = classifier_of(classifying())
    x, y = classifier.samples()
    expected = classifier.value_and_grad(CrossEntropy(), x, y)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = classifier.value_and_grad(CrossEntropy(), x, y)
    torch.testing.assert_close(inside, expected, rtol=0, atol=0)
    with torch.inference_mode():
        inside = classifier.value_and_grad(CrossEntropy(), x.clone(), y.clone())
        product = classifier.input_products(CrossEntropy(), x.clone(), y.clone())(x.clone())
    torch.testing.assert_close(inside, expected, rtol=0, atol=0)
    torch.testing.assert_close(product, classifier.input_products(CrossEntropy(), x, y)(x), rtol=0, atol=0)


def test_changed_weights_are_detected(small):
    problem = small()
    bound = bind(problem, TorchOptions())
    classifier, exact = bound.classifier(), bound.classifier("float32")
    x, y = classifier.samples()
    product = classifier.input_products(CrossEntropy(), x, y)
    before = exact.logits(x.float())
    with torch.no_grad():
        problem.model[0].weight.add_(1)
    for call in (
        lambda: classifier.logits(x),
        lambda: classifier.value_and_grad(CrossEntropy(), x, y),
        lambda: product(x),
        lambda: bound.classifier(),
    ):
        with pytest.raises(ProblemError, match=r"weights changed.*0\.weight"):
            call()
    # A copy does not change.
    torch.testing.assert_close(exact.logits(x.float()), before, rtol=0, atol=0)


def test_rows_of_a_wrong_shape_or_type_are_refused(small):
    classifier = classifier_of(small())
    x, y = classifier.samples()
    for wrong in (x[0], x[:, :3], x.float(), x.numpy()):
        with pytest.raises(UsageError, match=r"expected rows of torch\.float64 in the shape \(b, 4\)"):
            classifier.logits(wrong)
    with pytest.raises(UsageError, match=r"expected rows of torch\.float64 in the shape \(15, 4\)"):
        classifier.input_products(CrossEntropy(), x, y)(x[:3])


class Squeezing(nn.Linear):
    def forward(self, x):
        return super().forward(x).squeeze()


def test_a_network_that_drops_the_dimension_of_the_samples_is_refused(small):
    classifier = classifier_of(small(model=Squeezing(4, 3).double()))
    x, _ = classifier.samples()
    with pytest.raises(
        ProblemError, match=r"returned shape \(3,\) for 1 inputs; expected \(1, 3\)"
    ) as caught:
        classifier.logits(x[:1])
    assert "squeeze" in caught.value.hint


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x.detach())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        return 2 * slope


class OnceDifferentiable(nn.Linear):
    def forward(self, x):
        return super().forward(torch.tanh(Once.apply(x)))


def test_missing_derivatives_are_refused(small):
    classifier = classifier_of(small(model=Detached(4, 3).double()))
    x, y = classifier.samples()
    with pytest.raises(CapabilityError, match="can't be differentiated once with respect to the input"):
        classifier.value_and_grad(CrossEntropy(), x, y)
    classifier = classifier_of(small(model=OnceDifferentiable(4, 3).double()))
    classifier.value_and_grad(CrossEntropy(), x, y)
    with pytest.raises(CapabilityError, match="can't be differentiated twice with respect to the input"):
        classifier.input_products(CrossEntropy(), x, y)
