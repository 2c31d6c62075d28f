"""The parameters that an operator covers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import eigencore
from eigencore.errors import UnknownNameError, UsageError
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.models.params import select


def test_a_pattern_selects_a_diagonal_block(small, hessian):
    whole, last = hessian(small()), hessian(small(), "2.*")
    torch.testing.assert_close(last, whole[35:, 35:], rtol=0, atol=1e-12)
    biases = hessian(small(), "*.bias")
    where = torch.cat([torch.arange(28, 35), torch.arange(56, 59)])
    torch.testing.assert_close(biases, whole[where][:, where], rtol=0, atol=1e-12)


def test_several_globs_select_their_union_in_the_models_order(small, hessian):
    whole, problem = hessian(small()), small()
    where = torch.cat([torch.arange(28), torch.arange(56, 59)])
    expected = whole[where][:, where]
    for params in (
        *("2.bias,0.weight", ["2.bias", "0.weight"], ("0.we*", "2.bias", "0.weight")),
        *("re:^(0.weight|2.bias)$", "0.weight,re:^2.b", lambda name: name in ("2.bias", "0.weight")),
    ):
        torch.testing.assert_close(hessian(problem, params), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(hessian(problem, "2.*, *.bias, 0.*"), whole, rtol=0, atol=1e-12)
    bound, params = bind(problem, TorchOptions()), ["2.bias", "0.weight"]
    assert [(one.name, one.where) for one in bound.layout(params)] == [
        ("0.weight", slice(0, 28)),
        ("2.bias", slice(28, 31)),
    ]
    v, w = torch.linspace(-1, 1, 31, dtype=torch.float64), torch.zeros(59, dtype=torch.float64)
    w[where] = v
    assert bound.loss(v, params) == pytest.approx(bound.loss(w), rel=1e-12)
    x, y = problem.data[0]
    mine = bound.sample_curvature(CrossEntropy(), v, x, y, params)
    theirs = bound.sample_curvature(CrossEntropy(), w, x, y)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    by_function = eigencore.operator(problem.model, problem.data, problem.loss, params=params)
    assert by_function.shape == (31, 31)


@pytest.mark.parametrize("params", [None, "*.bias", "re:weight"])
def test_vectors_in_the_shapes_of_parameters(small, device, params):
    """The Hessian moves the gradients, which PyTorch gives by parameter, in the direction of the pieces."""
    problem = small()
    bound = bind(problem, TorchOptions(), device=device)
    operator = bound.operator(params=params)
    v = torch.randn(operator.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pieces = operator.unflatten(v.to(device))
    weights = dict(problem.model.named_parameters())
    assert {name: piece.shape for name, piece in pieces.items()} == {
        one.name: weights[one.name].shape for one in bound.layout(params)
    }
    assert torch.equal(operator.flatten(pieces).cpu(), v)
    V = torch.stack([v, -v], dim=1)
    assert torch.equal(operator.flatten(operator.unflatten(V)).cpu(), V)

    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    chosen = [weights[name] for name in pieces]
    gradients = torch.autograd.grad(problem.loss(problem.model(x), y), chosen, create_graph=True)
    along = sum((g * piece.cpu()).sum() for g, piece in zip(gradients, pieces.values(), strict=True))
    products = dict(zip(pieces, torch.autograd.grad(along, chosen), strict=True))
    for name, piece in operator.unflatten(operator @ v.to(device)).items():
        torch.testing.assert_close(piece.cpu(), products[name], rtol=0, atol=1e-12)


def test_weights_and_gradients_are_put_together_to_a_vector_without_a_graph(small):
    problem = small(dtype=torch.float32)
    operator = bind(problem, TorchOptions()).operator()
    weights = dict(problem.model.named_parameters())
    vector = operator.flatten(weights)
    assert (vector.dtype, vector.requires_grad) == (torch.float32, False)
    assert torch.equal(vector, torch.cat([p.detach().reshape(-1) for p in weights.values()]))
    vector.zero_()
    assert all(p.any() for p in weights.values())


def test_a_tied_parameter_is_there_once(small):
    tied = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    operator = eigencore.operator(tied, [(torch.randn(9, 4), torch.randint(4, (9,)))], nn.CrossEntropyLoss())
    pieces = operator.unflatten(torch.arange(24.0))
    assert list(pieces) == ["0.weight", "0.bias", "2.bias"]
    assert torch.equal(operator.flatten(dict(tied.named_parameters()))[16:20], tied[0].bias)


def test_each_of_several_globs_must_select_something(small):
    problem = small()
    bound = bind(problem, TorchOptions())
    with pytest.raises(UnknownNameError, match=r"unknown parameter: '1\.\*'"):
        bound.operator(params=["0.*", "1.*"])
    with pytest.raises(
        UsageError, match="expected a pattern of parameter names, or a list of patterns"
    ) as caught:
        bound.operator(params=list(problem.model.parameters()))
    assert "params=[" in caught.value.hint
    problem.model[0].requires_grad_(False)
    with pytest.raises(UsageError, match=r"only frozen parameters match '0\.\*'"):
        bound.operator(params="2.*,0.*")
    with pytest.raises(UsageError, match=r"only frozen parameters match 're:\^0'"):
        bound.operator(params="re:^0")
    with pytest.raises(UsageError, match=r"only frozen parameters match .*<lambda>"):
        bound.operator(params=lambda name: name.startswith("0"))
    assert bound.layout("*.weight")[0].name == "2.weight"


@pytest.mark.parametrize(("pattern", "near"), [("2.wieght", "2.weight"), ("layer.*", "2.*"), ("0", "0.*")])
def test_a_pattern_that_matches_nothing_is_reported_with_the_nearest_names(pattern, near, small):
    with pytest.raises(UnknownNameError, match="unknown parameter: ") as caught:
        bind(small(), TorchOptions()).operator(params=pattern)
    assert near in caught.value.hint


def test_a_pattern_that_matches_only_frozen_parameters_is_refused(small):
    problem = small()
    problem.model[0].requires_grad_(False)
    assert select(problem.model).names == ("2.weight", "2.bias")
    with pytest.raises(UsageError, match="only frozen parameters match"):
        bind(problem, TorchOptions()).operator(params="0.*")


def test_tied_parameters_are_counted_once_and_selected_by_each_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(6, 4), nn.Linear(4, 6)
            self.head.weight = self.embed.weight

    layout = select(Tied())
    assert (layout.names, layout.n) == (("embed.weight", "head.bias"), 30)
    assert select(Tied(), "head.*").names == ("embed.weight", "head.bias")


def test_adding_is_the_inverse_of_splitting():
    model = nn.Sequential(nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last), nn.Linear(3, 4))
    layout = select(model)
    v = torch.arange(float(layout.n))
    pieces = layout.split(v)
    assert [piece.shape for piece in pieces] == [p.shape for p in model.parameters()]
    out = torch.ones(layout.n)
    layout.add(out, pieces, 2.0)
    torch.testing.assert_close(out, 1 + 2 * v)
    layout.add(out, [None] * len(pieces), 2.0)
    torch.testing.assert_close(out, 1 + 2 * v)


def test_flat_vectors_have_the_order_of_parameters_to_vector(small):
    """PyTorch's own vector_to_parameters can therefore turn an eigenvector into weights."""
    problem = small()
    layout = select(problem.model)
    out = torch.zeros(layout.n, dtype=torch.float64)
    layout.add(out, [p.detach() for p in layout.parameters], 1.0)
    torch.testing.assert_close(out, nn.utils.parameters_to_vector(problem.model.parameters()).detach())
