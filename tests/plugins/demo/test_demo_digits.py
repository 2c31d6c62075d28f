"""The digits: real data, a trained network, and the script that trained it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from eigencore_demo import digits, train_digits, training


@pytest.fixture(scope="module")
def problem():
    return digits.make()


def test_training_and_test_images_are_disjoint_and_have_all_classes(problem):
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
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    assert 0.005 < float(loss.detach()) < 0.05  # not so small that the curvature vanishes
    assert float(gradient.norm()) < 0.1


def test_importing_the_module_imports_no_framework():
    code = (
        "import sys, eigencore_demo.digits, eigencore_demo.quadratic; "
        "assert not {'torch', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_is_reproducible(tmp_path):
    with torch.random.fork_rng([]):
        files = [tmp_path / "a.npz", tmp_path / "b.npz"]
        for file in files:
            training.save(train_digits.train(epochs=1), file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_the_script_makes_a_network_like_the_shipped_one(problem):
    """Bitwise equality requires the same PyTorch and processor; the quality is the same on any."""
    with torch.random.fork_rng([]):
        model = train_digits.train()
    ((x, y),) = problem.validation
    shipped, trained = (functional.cross_entropy(net(x), y).item() for net in (problem.model, model))
    assert float((model(x).argmax(1) == y).float().mean()) >= 0.97
    assert trained == pytest.approx(shipped, abs=0.03)
