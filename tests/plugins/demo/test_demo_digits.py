"""The digits: real data, a network that has learned them, and a script that its weights come from."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from eigencore.errors import PluginError
from eigencore_demo import digits, train_digits, training
from eigencore_torch.backend import TorchOptions, bind


@pytest.fixture(scope="module")
def problem():
    return digits.make()


def test_data_are_in_ragged_batches_within_their_bounds(problem):
    assert [len(y) for _, y in problem.data] == [256] * 5 + [157]
    ((x, y),) = problem.validation
    assert (x.shape, x.dtype, y.dtype) == ((360, 1, 8, 8), torch.float32, torch.int64)
    every = torch.cat([x, *(part for part, _ in problem.data)])
    assert len(every) == 1797
    assert (float(every.min()), float(every.max())) == problem.bounds


def test_training_and_test_images_share_none_and_have_all_classes(problem):
    training = torch.cat([x for x, _ in problem.data]).flatten(1)
    ((held_out, labels),) = problem.validation
    assert float(torch.cdist(held_out.flatten(1), training).min()) > 0
    assert sorted(set(labels.tolist())) == list(range(10))


def test_the_network_has_learned_and_its_loss_has_converged(problem):
    model = problem.model
    ((x, y),) = problem.validation
    assert float((model(x).argmax(1) == y).float().mean()) >= 0.97
    images, labels = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    loss = functional.cross_entropy(model(images), labels)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    assert 0.005 < float(loss.detach()) < 0.05  # not so small that curvature is gone
    assert float(slope.norm()) < 0.1


def test_the_description_is_computed(problem):
    ((x, y),) = problem.validation
    right = int((problem.model(x).argmax(1) == y).sum())
    size = sum(p.numel() for p in problem.model.parameters())
    assert problem.description == (
        f"CNN, {size:,} weights · 1,437 images of 8x8 · test accuracy {100 * right / 360:.1f} %"
    )


def test_making_it_twice_gives_the_same_and_draws_no_random_numbers(problem):
    before = torch.get_rng_state()
    again = digits.make()
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(problem.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) and b.requires_grad for a, b in pairs)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(problem.data, again.data, strict=True))


def test_the_backend_takes_it_and_finds_the_reduction_that_it_states(problem):
    few = replace(problem, data=problem.data[-1:])
    operator = bind(few, TorchOptions()).operator()
    assert operator.shape[0] == sum(p.numel() for p in problem.model.parameters())
    v = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0))
    product = operator.matvec(v)
    inferred = bind(replace(few, reduction="infer"), TorchOptions()).operator().matvec(v)
    torch.testing.assert_close(inferred, product, rtol=0, atol=0)
    exact = bind(few, TorchOptions(), dtype="float64").operator().matvec(v.double())
    assert float((exact - product).norm() / exact.norm()) < 1e-4


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(PluginError, match="needs sklearn") as caught:
        digits.make()
    assert "eigencore[torch,demo]" in caught.value.hint


def test_the_module_is_light_until_it_is_used():
    code = (
        "import sys, eigencore_demo.digits, eigencore_demo.quadratic; "
        "assert not {'torch', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_weights_need_no_pickle():
    with np.load(digits.WEIGHTS, allow_pickle=False) as saved:
        assert {saved[name].dtype for name in saved} == {np.dtype(np.float32)}


def test_training_is_reproducible(tmp_path):
    with torch.random.fork_rng([]):
        files = [tmp_path / "a.npz", tmp_path / "b.npz"]
        for file in files:
            training.save(train_digits.train(epochs=1), file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_the_script_makes_a_network_like_the_shipped_one(problem):
    """Bit for bit only on the same PyTorch and processor; as good on any."""
    with torch.random.fork_rng([]):
        model = train_digits.train()
    ((x, y),) = problem.validation
    shipped, made = (functional.cross_entropy(net(x), y).item() for net in (problem.model, model))
    assert float((model(x).argmax(1) == y).float().mean()) >= 0.97
    assert made == pytest.approx(shipped, abs=0.03)
