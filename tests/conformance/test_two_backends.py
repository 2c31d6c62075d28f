"""One softplus network in float64 on both backends gives the same study, sample by sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import eigencore
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore.problems import find_problem

IMAGES = 120


@pytest.fixture(scope="module")
def problems() -> dict[str, eigencore.Problem]:
    mine = find_problem("demo:digits-numpy")
    network = mine.model.astype(np.float64)
    hidden, outputs = nn.Linear(64, len(network.b1)), nn.Linear(len(network.b1), 10)
    model = nn.Sequential(nn.Flatten(), hidden, nn.Softplus(threshold=1000), outputs).double()
    with torch.no_grad():
        for layer, W, b in ((hidden, network.W1, network.b1), (outputs, network.W2, network.b2)):
            layer.weight.copy_(torch.tensor(W))
            layer.bias.copy_(torch.tensor(b))

    def batches(data):
        return [(np.asarray(x, dtype=np.float64), y) for x, y in data]

    def tensors(data):
        return [(torch.tensor(x), torch.tensor(y)) for x, y in batches(data)]

    numpy = replace(mine, model=network, data=batches(mine.data), validation=batches(mine.validation))
    return {
        "numpy": numpy,
        "torch": replace(
            numpy,
            model=model,
            data=tensors(mine.data),
            validation=tensors(mine.validation),
            loss=nn.CrossEntropyLoss(),
            backend="torch",
        ),
    }


@pytest.fixture(scope="module")
def bounds(problems):
    return {name: eigencore.bind(problem) for name, problem in problems.items()}


def host(x) -> np.ndarray:
    return np.asarray(x)


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), Margin(3), DLR()], ids=lambda o: repr(o))
def test_gradients_and_products_agree(bounds, objective):
    found = {}
    for name, bound in bounds.items():
        classifier = bound.classifier()
        x, y = classifier.samples(IMAGES)
        v = classifier.xp.roll(x, 7, axis=1)
        values, gradients = classifier.value_and_grad(objective, x, y)
        found[name] = [host(a) for a in (values, gradients, classifier.input_products(objective, x, y)(v))]
    for mine, theirs in zip(*found.values(), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-6, atol=1e-9 * np.abs(mine).max())


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("fgsm", {"eps": 0.1}),
        ("pgd", {"eps": 0.1}),
        ("pgd", {"eps": 0.5, "norm": "L2"}),
        ("apgd", {"eps": 0.1}),
        ("apgd", {"eps": 0.1, "loss": "dlr"}),
        ("apgd_t", {"eps": 0.1, "steps": 30}),
        ("square", {"eps": 0.1, "queries": 100}),
        ("ddn", {}),
        ("fmn", {"norm": "Linf"}),
        ("deepfool", {}),
    ],
    ids=str,
)
def test_every_attack_finds_the_same_from_the_same_starts(bounds, attack, options):
    mine, theirs = (
        eigencore.attack(bound, attack, images=IMAGES, seed=3, **options) for bound in bounds.values()
    )
    assert np.array_equal(mine.correct, theirs.correct)
    assert (mine.forward, mine.backward) == (theirs.forward, theirs.backward)
    same = mine.success == theirs.success
    near = np.isclose(mine.distance, theirs.distance, rtol=1e-6, atol=1e-6)
    assert np.mean(same & near) >= 0.99


def test_the_analysis_columns_agree(problems):
    mine, theirs = (
        eigencore.analyze(
            problem,
            k=2,
            tol=1e-8,
            analyses="robustness",
            options={"robustness": {"images": IMAGES}},
        )
        for problem in problems.values()
    )
    assert np.allclose(mine.eigen.values, theirs.eigen.values, rtol=1e-9)
    ours, others = mine.analyses["robustness"].columns, theirs.analyses["robustness"].columns
    assert set(ours) == set(others)
    assert np.mean(ours["found_by"] == others["found_by"]) >= 0.9  # attacks may tie
    for name in set(ours) - {"distance", "distance_linf", "found_by"}:
        size = np.nanmax(np.abs(ours[name]))
        close = np.isclose(ours[name], others[name], rtol=1e-6, atol=1e-6 * size, equal_nan=True)
        assert close.all(), name
    for name in ("distance", "distance_linf"):
        assert np.mean(np.isclose(ours[name], others[name], rtol=1e-6, atol=1e-6)) >= 0.99, name
