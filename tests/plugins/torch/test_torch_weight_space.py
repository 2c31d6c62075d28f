"""The loss and each sample's curvature along directions in weight space, and the layout of directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore_torch.backend import TorchOptions, bind


def direction(bound, params=None, seed=0):
    """A random unit vector."""
    n = bound.layout(params)[-1].where.stop
    v = torch.from_numpy(np.random.default_rng(seed).standard_normal(n))
    return v / torch.linalg.vector_norm(v)


def second_difference(f, v, h=1e-4):
    """The second derivative of f at zero along v, up to an error of order h^4."""
    at = {k: f(k * h * v) for k in (-2, -1, 0, 1, 2)}
    return (-at[-2] + 16 * at[-1] - 30 * at[0] + 16 * at[1] - at[2]) / (12 * h**2)


# -- loss --------------------------------------------------------------------------------------------------


def test_the_second_derivative_of_the_loss_is_that_of_the_operator(classifying):
    bound = bind(classifying(), TorchOptions())
    v = direction(bound)
    expected = float(v @ bound.operator().matvec(v))
    assert second_difference(bound.loss, v) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("microbatch", [None, 2])
def test_the_loss_is_that_over_all_data_at_once(reduction, microbatch, small, device):
    loss = nn.CrossEntropyLoss(reduction=reduction)
    problem = small(loss=loss)
    bound = bind(problem, TorchOptions(microbatch=microbatch), device=device)
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    assert bound.loss() == pytest.approx(float(loss(small().model(x), y).detach()), rel=1e-12)


def test_the_loss_as_a_weighted_mean(small):
    class_weights = torch.tensor([1.0, 2, 5], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(class_weights)
    problem = small(loss=loss, weight=lambda batch: float(class_weights[batch[1]].sum()))
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    expected = float(loss(problem.model(x), y).detach())
    assert bind(problem, TorchOptions()).loss() == pytest.approx(expected, rel=1e-12)


def test_the_loss_along_a_direction_is_that_of_a_model_with_those_weights(classifying):
    bound = bind(classifying(), TorchOptions())
    v = direction(bound)
    other = classifying()
    with torch.no_grad():
        for p, place in zip(other.model.parameters(), bound.layout(), strict=True):
            p += v[place.where].reshape(p.shape)
    assert bound.loss(v) == pytest.approx(bind(other, TorchOptions()).loss(), rel=1e-12)
    assert bound.loss(v) != bound.loss()


def test_the_loss_along_some_parameters(small):
    bound = bind(small(), TorchOptions())
    whole = torch.zeros(59, dtype=torch.float64)
    part = direction(bound, "2.*")
    whole[35:] = part
    assert bound.loss(part, "2.*") == bound.loss(whole)


def test_a_loss_that_contains_derivatives(small):
    def energy(model, batch):
        x = batch["x"].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return (slope - batch["x"]).square().sum(1).mean()

    data = [{"x": x} for x, _ in small().data]
    bound = bind(small(data=data, loss=energy), TorchOptions())
    v = direction(bound)
    assert second_difference(bound.loss, v) == pytest.approx(float(v @ bound.operator().matvec(v)), rel=1e-4)


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_weights_are_restored(fails, classifying):
    problem = classifying()
    bound = bind(problem, TorchOptions())
    v = direction(bound)
    operator = bound.operator()
    product = operator.matvec(v)
    before = [(p, p.data_ptr(), p._version, p.detach().clone()) for p in problem.model.parameters()]

    def hook(*_):
        if fails:
            raise RuntimeError("on purpose")

    handle = problem.model.register_forward_hook(hook)
    if fails:
        with pytest.raises(ProblemError, match="on purpose"):
            bound.loss(v)
    else:
        bound.loss(v)
    handle.remove()
    for (p, place, version, numbers), now in zip(before, problem.model.parameters(), strict=True):
        assert now is p
        assert (now.data_ptr(), now._version) == (place, version)
        assert torch.equal(now, numbers)
    # The kept graphs, and recomputed ones.
    torch.testing.assert_close(operator.matvec(v), product, rtol=0, atol=0)
    torch.testing.assert_close(bound.operator().matvec(v), product, rtol=0, atol=1e-14)


@pytest.mark.parametrize("wrong", [torch.zeros(58), torch.zeros(59, 1), np.zeros(59), None])
def test_directions_of_a_wrong_shape_or_type_are_refused(wrong, small):
    bound = bind(small(), TorchOptions())
    x, y = bound.classifier().samples()
    calls = [lambda: bound.sample_curvature(CrossEntropy(), wrong, x, y)]
    calls += [lambda: bound.loss(wrong)] if wrong is not None else []
    for call in calls:
        with pytest.raises(UsageError, match=r"expected one value per weight, \(59,\)"):
            call()
    with pytest.raises(UnknownNameError, match="parameter"):
        bound.loss(torch.zeros(3), "nothing.*")


def test_changed_weights_are_detected(small):
    problem = small()
    bound = bind(problem, TorchOptions())
    x, y = bound.classifier().samples()
    v = direction(bound)
    bound.loss(v)
    problem.model[0].weight.data[0] += 1e-7
    for call in (lambda: bound.loss(v), lambda: bound.sample_curvature(CrossEntropy(), v, x, y)):
        with pytest.raises(ProblemError, match=r"weights changed.*0\.weight"):
            call()


# -- each sample's curvature -------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [None, "*weight*"])
def test_its_mean_over_the_data_is_that_of_the_operator(params, classifying, device):
    bound = bind(classifying(), TorchOptions(), device=device)
    v = direction(bound, params).to(device)
    x, y = bound.classifier().samples()
    own = bound.sample_curvature(CrossEntropy(), v, x, y, params)
    assert own.shape == (15,)
    assert not own.requires_grad
    expected = v @ bound.operator("hessian", params).matvec(v)
    torch.testing.assert_close(own.mean(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), DLR()])
def test_it_is_each_samples_own(objective, classifying):
    bound = bind(classifying(), TorchOptions(microbatch=4))
    v = direction(bound)
    x, y = bound.classifier().samples()
    own = bound.sample_curvature(objective, v, x, y)
    order = torch.arange(14, -1, -1)
    flipped = bound.sample_curvature(objective, v, x[order], y[order])
    torch.testing.assert_close(flipped, own[order], rtol=1e-10, atol=1e-12)
    for i in (0, 9):
        loss = lambda z, y: objective.value(z, y).mean()  # noqa: E731
        one = (x[i].reshape(1, *bound.classifier().shape), y[i : i + 1])
        alone = classifying(data=[one], loss=loss, reduction="mean")
        found = bind(alone, TorchOptions()).operator().matvec(v) @ v
        torch.testing.assert_close(own[i], found, rtol=1e-9, atol=1e-12)


def test_samples_of_a_wrong_shape_are_refused(small):
    bound = bind(small(), TorchOptions())
    x, y = bound.classifier().samples()
    for wrong in ((x[0], y), (x[:, :3], y), (x, y[:3]), (x.numpy(), y)):
        with pytest.raises(UsageError, match=r"expected inputs \(b, 4\) and labels \(b,\)"):
            bound.sample_curvature(CrossEntropy(), direction(bound), *wrong)


def test_it_accepts_rows_of_another_type(small):
    bound = bind(small(dtype=torch.float32), TorchOptions())
    exact = bind(small(dtype=torch.float32), TorchOptions(), dtype="float64")
    v = direction(bound)
    x, y = bound.classifier("float64").samples()
    found = bound.sample_curvature(CrossEntropy(), v.float(), x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), exact.sample_curvature(CrossEntropy(), v, x, y), rtol=1e-4, atol=1e-5
    )


def test_an_operation_without_derivatives_is_named(small):
    model = nn.Sequential(nn.Linear(4, 3), nn.Hardsigmoid()).double()
    bound = bind(small(model=model), TorchOptions())
    x, y = bound.classifier().samples()
    with pytest.raises(
        ProblemError, match=r"computing the samples' curvature failed.*hardsigmoid_backward"
    ) as caught:
        bound.sample_curvature(CrossEntropy(), direction(bound), x, y)
    assert "third derivative" in caught.value.hint


@pytest.mark.parametrize("layer", [nn.LayerNorm(5), nn.InstanceNorm1d(5, affine=True), nn.GLU()])
def test_layers_whose_derivatives_are_wrong_or_missing_forward_over_forward(layer, small):
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        body = nn.Linear(4, 10), nn.Unflatten(1, (5, 2)), nn.Tanh()
        if not isinstance(layer, nn.InstanceNorm1d):
            body = nn.Linear(4, 10 if isinstance(layer, nn.GLU) else 5), nn.Tanh()
        model = nn.Sequential(*body, layer, nn.Flatten(), nn.LazyLinear(3)).double()
        model(torch.randn(2, 4, dtype=torch.float64))
    bound = bind(small(model=model), TorchOptions())
    v = direction(bound)
    x, y = bound.classifier().samples()
    found = bound.sample_curvature(CrossEntropy(), v, x, y).mean()
    torch.testing.assert_close(found, v @ bound.operator().matvec(v), rtol=1e-9, atol=1e-12)


def test_weights_that_the_logits_do_not_depend_on(small):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.body = nn.Linear(2, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.body(x)

    bound = bind(small(model=Unused().double()), TorchOptions())
    x, y = bound.classifier().samples()
    v = direction(bound, "spare.*")
    assert bound.sample_curvature(CrossEntropy(), v, x, y, "spare.*").count_nonzero() == 0


def test_the_model_can_be_copied_after_everything(classifying):
    """A graph left on a module would prevent it."""
    problem = classifying()
    bound = bind(problem, TorchOptions())
    v = direction(bound)
    bound.operator().matvec(v)
    bound.loss(v)
    x, y = bound.classifier().samples()
    bound.sample_curvature(CrossEntropy(), v, x, y)
    assert bound.classifier("float32").dtype == torch.float32


# -- layout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [None, "*weight*"])
def test_the_layout_covers_a_direction_and_has_the_norms(params, classifying):
    problem = classifying()
    bound = bind(problem, TorchOptions())
    places = bound.layout(params)
    assert [place.where.start for place in places] == [0, *(place.where.stop for place in places[:-1])]
    assert places[-1].where.stop == bound.operator("hessian", params).shape[0]
    named = dict(problem.model.named_parameters())
    for place in places:
        assert place.where.stop - place.where.start == named[place.name].numel()
        assert place.norm == pytest.approx(float(named[place.name].detach().norm()), rel=1e-12)
