"""The digits without PyTorch: real data, a trained network, and the script that trained it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.errors import PluginError
from eigencore.objectives import CrossEntropy
from eigencore_numpy import digits, train_digits
from eigencore_numpy.backend import bind
from eigencore_numpy.network import PARAMETERS


@pytest.fixture(scope="module")
def problem():
    return digits.make()


def test_it_is_found_by_name(problem):
    found = eigencore.problems.find_problem("demo:digits-numpy")
    assert (found.name, found.description) == (problem.name, problem.description)


def test_data_are_in_batches_of_unequal_size_within_their_bounds(problem):
    assert [len(y) for _, y in problem.data] == [256] * 5 + [157]
    ((x, y),) = problem.validation
    assert (x.shape, x.dtype, y.dtype) == ((360, 8, 8), np.float32, np.int64)
    every = np.concatenate([x, *(part for part, _ in problem.data)])
    assert len(every) == 1797
    assert (every.min(), every.max()) == problem.bounds


def test_training_and_test_images_are_disjoint_and_have_all_classes(problem):
    training = {x.tobytes() for batch, _ in problem.data for x in batch}
    ((held_out, labels),) = problem.validation
    assert not training & {x.tobytes() for x in held_out}
    assert sorted(set(labels.tolist())) == list(range(10))


def test_the_network_has_learned_and_its_loss_has_converged(problem):
    bound = bind(problem)
    classifier = bound.classifier()
    x, y = classifier.samples()
    assert classifier.shape == (8, 8)
    assert (classifier.logits(x).argmax(1) == y).mean() >= 0.97
    assert 0.005 < bound.loss() < 0.05  # not so small that the curvature vanishes


def test_the_description_is_computed(problem):
    ((x, y),) = problem.validation
    right = (problem.model.logits(x.reshape(360, 64)).argmax(1) == y).sum()
    size = sum(getattr(problem.model, name).size for name in PARAMETERS)
    assert problem.description == (
        f"two layers, softplus, {size:,} weights · 1,437 images of 8x8 · "
        f"test accuracy {100 * right / 360:.1f} %"
    )


def test_the_top_eigenvalues_in_float32_are_those_of_float64(problem):
    few = replace(problem, data=problem.data[-1:])
    found, exact = (
        eigencore.analyze(few, k=3, solver="lanczos", dtype=dtype, analyses="none").eigen
        for dtype in ("float32", "float64")
    )
    assert found.status == exact.status == "converged"
    np.testing.assert_allclose(found.values, exact.values, rtol=1e-4)


def test_a_missing_package_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(PluginError, match="needs sklearn") as caught:
        digits.make()
    assert "eigencore[demo]" in caught.value.hint


def test_it_imports_neither_torch_nor_another_plugin():
    code = (
        "import sys, eigencore_numpy.digits, eigencore_numpy.backend;"
        "bound = eigencore_numpy.backend.bind(eigencore_numpy.digits.make()); bound.operator();"
        "print(*{'torch', 'eigencore_demo.digits', 'eigencore_torch.backend'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_the_weights_need_no_pickle():
    with np.load(digits.WEIGHTS, allow_pickle=False) as saved:
        assert {saved[name].dtype for name in saved} == {np.dtype(np.float32)}


def test_training_is_reproducible(tmp_path):
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file in files:
        train_digits.save(train_digits.train(steps=3), file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_the_script_makes_a_network_like_the_shipped_one(problem):
    """Bitwise equality requires the same libraries and processor; the quality is the same on any."""
    trained = train_digits.train()
    ((x, y),) = problem.validation
    x = x.reshape(len(x), -1)
    assert (trained.logits(x).argmax(1) == y).mean() >= 0.97
    shipped, again = (CrossEntropy().value(net.logits(x), y).mean() for net in (problem.model, trained))
    assert again == pytest.approx(shipped, abs=0.01)
