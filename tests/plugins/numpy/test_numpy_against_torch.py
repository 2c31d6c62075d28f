"""The same softplus network on NumPy and on PyTorch gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.arrays import to_host
from eigencore.interfaces import Problem
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore.problems import bind
from eigencore_numpy.digits import make

torch = pytest.importorskip("torch")

OBJECTIVES = [CrossEntropy(), Margin(), Margin(against=3), DLR()]
TORCH_NAMES = {"W1": "0.weight", "b1": "0.bias", "W2": "2.weight", "b2": "2.bias"}


def assert_close(one, other, what, tolerance=1e-9):
    one, other = to_host(one), to_host(other)
    difference, size = np.linalg.norm(one - other), np.linalg.norm(other)
    assert difference <= tolerance * size, f"{what}: relative difference {difference / size:.1e}"


@pytest.fixture(scope="module")
def pair():
    """`demo:digits-numpy` with some of its samples, on both backends in float64."""
    problem = make()
    data, validation = problem.data[-1:], [(problem.validation[0][0][:40], problem.validation[0][1][:40])]
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Softplus(), torch.nn.Linear(64, 10))
    named = dict(model.named_parameters())
    with torch.no_grad():
        for own, name in TORCH_NAMES.items():
            named[name].copy_(torch.from_numpy(getattr(problem.model, own)))

    def as_tensors(batches):
        return [(torch.from_numpy(x.reshape(len(x), -1)), torch.from_numpy(y)) for x, y in batches]

    ours = Problem(model=problem.model, data=data, loss=CrossEntropy(), validation=validation)
    theirs = Problem(
        model=model,
        data=as_tensors(data),
        loss=torch.nn.CrossEntropyLoss(),
        validation=as_tensors(validation),
    )
    return bind(ours, backend="numpy", dtype="float64"), bind(theirs, backend="torch", dtype="float64")


@pytest.fixture
def directions(pair):
    """A random direction over all weights, and one over the weights of the second layer."""
    n, part = pair[0].operator().shape[0], pair[0].operator(params="?2").shape[0]
    rng = np.random.default_rng(0)
    return {None: rng.standard_normal(n), "2": rng.standard_normal(part)}


def patterns(params):
    """The glob for the parameter names of each backend."""
    return (None, None) if params is None else ("?2", "2.*")


@pytest.mark.parametrize("params", [None, "2"])
def test_layouts_agree_except_for_names(params, pair):
    ours, theirs = (bound.layout(glob) for bound, glob in zip(pair, patterns(params), strict=True))
    assert [TORCH_NAMES[one.name] for one in ours] == [one.name for one in theirs]
    assert [one.where for one in ours] == [one.where for one in theirs]
    assert [one.norm for one in ours] == pytest.approx([one.norm for one in theirs], rel=1e-12)


@pytest.mark.parametrize("params", [None, "2"])
def test_the_operators_and_losses_agree(params, pair, directions):
    v = directions[params]
    ours, theirs = pair
    mine, other = patterns(params)
    product = theirs.operator(params=other).matvec(torch.from_numpy(v))
    assert_close(ours.operator(params=mine).matvec(v), product, "products")
    for scale in (0.0, 1e-3, 0.3):
        loss = theirs.loss(torch.from_numpy(scale * v), other)
        assert ours.loss(scale * v, mine) == pytest.approx(loss, rel=1e-8)
    assert ours.loss() == pytest.approx(theirs.loss(), rel=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("params", [None, "2"])
def test_sample_curvatures_agree(params, objective, pair, directions):
    v = directions[params]
    (x, y), (tx, ty) = (bound.classifier().samples() for bound in pair)
    mine, other = patterns(params)
    expected = pair[1].sample_curvature(objective, torch.from_numpy(v), tx, ty, other)
    assert_close(pair[0].sample_curvature(objective, v, x, y, mine), expected, "sample curvatures", 1e-8)


def test_samples_and_logits_agree(pair):
    (x, y), (tx, ty) = (bound.classifier().samples() for bound in pair)
    assert_close(x, tx, "inputs")
    assert y.tolist() == ty.tolist()
    assert_close(pair[0].classifier().logits(x), pair[1].classifier().logits(tx), "logits")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_values_gradients_and_input_products_agree(objective, pair):
    ours, theirs = (bound.classifier() for bound in pair)
    (x, y), (tx, ty) = ours.samples(), theirs.samples()
    mine, other = ours.value_and_grad(objective, x, y), theirs.value_and_grad(objective, tx, ty)
    assert_close(mine[0], other[0], "values")
    assert_close(mine[1], other[1], "gradients")
    v = np.random.default_rng(1).standard_normal(x.shape)
    product = theirs.input_products(objective, tx, ty)(torch.from_numpy(v))
    assert_close(ours.input_products(objective, x, y)(v), product, "input products")
