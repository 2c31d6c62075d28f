"""One softplus network on NumPy, PyTorch and JAX gives the same numbers; on JAX without importing PyTorch."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import eigencore
from eigencore.arrays import from_host, to_host
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore.problems import bind
from eigencore_numpy.network import TwoLayer
from kit.jax_networks import D, H, cross_entropy, jax, jnp, small_jax, two_layers

SAMPLES = 100
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@pytest.fixture(scope="module", params=TOLERANCE)
def dtype(request):
    """A precision in which all backends compute while a test runs."""
    with jax.enable_x64(True) if request.param == "float64" else nullcontext():
        yield request.param


@pytest.fixture(scope="module")
def bounds(dtype):
    """The problem on each backend; flat vectors have one order: W1, b1, W2, b2."""
    torch = pytest.importorskip("torch")
    apply, params = small_jax().model
    host = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    W1, b1, W2, b2 = host["hidden"]["w"].T, host["hidden"]["b"], host["head"]["w"].T, host["head"]["b"]
    x = np.random.default_rng(1).uniform(size=(SAMPLES, D)).astype(dtype)
    y = np.asarray(apply(params, jnp.asarray(x))).argmax(axis=1)
    y[::10] = (y[::10] + 1) % 4  # some are misclassified
    data = [(x[:60], y[:60]), (x[60:], y[60:])]
    layers = torch.nn.Linear(D, H), torch.nn.Softplus(threshold=1e9), torch.nn.Linear(H, 4)
    model = torch.nn.Sequential(*layers).to(getattr(torch, dtype))
    with torch.no_grad():
        for own, w in zip(model.parameters(), (W1, b1, W2, b2), strict=True):
            own.copy_(torch.tensor(w))
    tensors = [(torch.tensor(a), torch.tensor(b)) for a, b in data]
    common = {"bounds": (0.0, 1.0), "reduction": "mean"}

    def network(p, rows):
        return two_layers({"hidden": {"w": p[0].T, "b": p[1]}, "head": {"w": p[2].T, "b": p[3]}}, rows)

    ordered = (network, [jnp.asarray(w, dtype=dtype) for w in (W1, b1, W2, b2)])
    two = TwoLayer(*(w.astype(dtype) for w in (W1, b1, W2, b2)))
    problems = {
        "jax": eigencore.Problem(ordered, data, cross_entropy, **common),
        "numpy": eigencore.Problem(two, data, CrossEntropy(), **common),
        "torch": eigencore.Problem(model, tensors, torch.nn.CrossEntropyLoss(), **common),
    }
    found = {name: bind(problem) for name, problem in problems.items()}  # by the class of the model
    assert [bound.description.split()[0] for bound in found.values()] == list(problems)
    return found


def test_products_and_samples_agree(bounds, dtype):
    v = np.random.default_rng(0).standard_normal(bounds["numpy"].operator().shape[0])
    found = {}
    for name, bound in bounds.items():
        operator, classifier = bound.operator(), bound.classifier()
        x, y = classifier.samples()
        u = from_host(np.random.default_rng(2).standard_normal(x.shape), classifier)
        along = from_host(v, operator)
        numbers = [to_host(operator.matvec(along)), np.array(bound.loss(along))]
        numbers.append(to_host(bound.operator("ggn").matvec(along)))
        for objective in (CrossEntropy(), Margin(), DLR()):
            value, gradient = classifier.value_and_grad(objective, x, y)
            product = classifier.input_products(objective, x, y)(u)
            curvature = bound.sample_curvature(objective, along, x, y)
            numbers += map(to_host, (value, gradient, product, curvature))
        found[name] = numbers
    for name in ("numpy", "torch"):
        for mine, theirs in zip(found["jax"], found[name], strict=True):
            error = np.linalg.norm(mine - theirs) / max(np.linalg.norm(theirs), 1e-30)
            assert error <= TOLERANCE[dtype], (name, error)


def test_eigenvalues_and_density_agree(bounds, dtype):
    solved = {name: eigencore.solve(bound.operator(), 3, tol=1e-5) for name, bound in bounds.items()}
    for name in ("numpy", "torch"):
        np.testing.assert_allclose(solved["jax"].values, solved[name].values, rtol=1e-5)
    density = {name: eigencore.density(bound.operator(), probes=2) for name, bound in bounds.items()}
    mine, theirs = (density[name].numbers for name in ("jax", "numpy"))
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-5)
        assert mine[name] == expected, name


@pytest.mark.parametrize(("attack", "options"), [("pgd", {"eps": 0.1}), ("ddn", {})], ids=str)
def test_attacks_agree_on_99_percent_of_the_samples(attack, options, bounds, dtype):
    if dtype == "float64":
        pytest.skip("the same code")
    found = {name: eigencore.attack(bound, attack, seed=3, **options) for name, bound in bounds.items()}
    for name in ("numpy", "torch"):
        same = found["jax"].success == found[name].success
        near = np.isclose(found["jax"].distance, found[name].distance, rtol=1e-3, atol=1e-4, equal_nan=True)
        assert np.mean(same & near) >= 0.99


@pytest.mark.slow
def test_the_demo_has_the_eigenvalues_of_the_one_for_pytorch():
    pytest.importorskip("torch")
    names = ("demo:digits-jax", "demo:digits")
    mine, theirs = (eigencore.solve(bind(name).operator(), 3, tol=1e-5).values for name in names)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_pytorch_is_never_imported():
    code = (
        "import sys, eigencore; from kit.jax_networks import small_jax;"
        "p = small_jax(bounds=(-9, 9)); run = eigencore.analyze(p, k=1, analyses='none');"
        "eigencore.attack(p, 'fgsm', eps=0.1);"
        "print(run.eigen.status, 'torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    assert ran.stdout.split() == ["converged", "False"]
