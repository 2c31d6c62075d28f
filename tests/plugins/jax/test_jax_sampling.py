"""The mean over drawn samples on JAX: products, groups, curvatures and scores are those of single samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.arrays import to_host
from eigencore.errors import ProblemError
from eigencore.interfaces import MeanOperator
from eigencore.problems import bind
from kit.jax_networks import SIZES, C, cross_entropy, jax, jnp, ravel_pytree, small_jax

GROUPS = [[3, 1, 14], [7, 7, 8, 12], [2]]  # samples 1 and 2 are of the last class
DRAWN = [s for group in GROUPS for s in group]
DRAWS = np.array([0.5, 2.0, 1.0, 0.3, 0.3, 4.0, 1.5, 0.7])
N = sum(SIZES)
CLASS_WEIGHTS = np.array([0.2, 1.0, 3.0, 0.0])


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def in_float64(**replacements):
    problem = small_jax(**replacements)
    apply, params = problem.model
    return replace(problem, model=(apply, jax.tree.map(lambda w: jnp.asarray(w, dtype="float64"), params)))


def weighted_mean(logits, y):
    """The mean cross-entropy with class weights: 0 / 0 for a sample of the last class alone."""
    w = jnp.asarray(CLASS_WEIGHTS)[y]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]
    return jnp.sum(w * losses) / jnp.sum(w)


def weight(batch):
    return CLASS_WEIGHTS[batch[1]].sum()


def calling(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def named(problem):
    return replace(problem, data=[{"x": x, "y": y} for x, y in problem.data], loss=calling)


PROBLEMS = {
    "mean": in_float64,
    "sum": lambda: in_float64(loss=lambda z, y: y.shape[0] * cross_entropy(z, y)),
    "each": lambda: in_float64(loss=lambda z, y: jnp.sum((z - y[:, None]) ** 4, axis=1)),
    "weight": lambda: in_float64(loss=weighted_mean, weight=weight),
    "model": lambda: named(in_float64()),
}


def dense(A):
    return to_host(A.matmat(jnp.eye(A.shape[0])))


def of_each_sample(problem, kind, name):
    """N times what each sample adds to the operator (N, n, n), by dense derivatives of its loss alone."""
    apply, params = problem.model
    flat, unflatten = ravel_pytree(params)
    x, y = (np.concatenate(parts) for parts in zip(*in_float64().data, strict=True))

    def outputs(w, x):
        return apply(unflatten(w), x[None])

    def loss(z, y):
        if name == "weight":
            y = jnp.where(y == C - 1, 0, y)  # the loss of a sample without weight is 0 / 0
        return jnp.sum(problem.loss(z, y[None]))

    def hessian(x, y):
        return jax.hessian(lambda w: loss(outputs(w, x), y))(flat)

    def ggn(x, y):
        J = jax.jacobian(outputs)(flat, x)[0]
        H = jax.hessian(loss)(outputs(flat, x), y)[0, :, 0]
        return J.T @ H @ J

    factors = {"weight": CLASS_WEIGHTS[y] * N / CLASS_WEIGHTS[y].sum(), "sum": np.full(N, N)}
    each = jax.jit(jax.vmap({"hessian": hessian, "ggn": ggn}[kind]))(jnp.asarray(x), jnp.asarray(y))
    return factors.get(name, np.ones(N))[:, None, None] * np.asarray(each)


@pytest.mark.parametrize(
    ("name", "kind"), [("sum", "hessian"), ("weight", "hessian"), ("weight", "ggn"), ("each", "ggn")]
)
def test_the_mean_over_drawn_samples_is_that_of_the_samples(name, kind):
    problem = PROBLEMS[name]()
    each = of_each_sample(problem, kind, name)
    A = bind(problem, check=False).operator(kind, damping=0.5, weight_decay=0.25)
    assert isinstance(A, MeanOperator)
    shift, scale = 0.75, np.abs(each).max()
    identity, close = shift * np.eye(A.shape[0]), {"rtol": 1e-8, "atol": 1e-10 * scale}
    np.testing.assert_allclose(dense(A), each.mean(axis=0) + identity, **close)
    mean = A.sampled(GROUPS, DRAWS)
    weighted = DRAWS[:, None, None] * each[DRAWN]
    assert mean.shift == shift
    np.testing.assert_allclose(dense(mean), weighted.mean(axis=0) + identity, **close)
    V = np.random.default_rng(2).standard_normal((A.shape[0], 3))
    for start, group, product in zip((0, 3, 7), GROUPS, mean.group_products(jnp.asarray(V)), strict=True):
        part = weighted[start : start + len(group)].mean(axis=0)
        np.testing.assert_allclose(to_host(product), part @ V, rtol=1e-8, atol=1e-8 * scale)
    own = mean.group_products(lambda number: jnp.asarray(V[:, number : number + 1]))
    for number, product in enumerate(mean.group_products(jnp.asarray(V))):
        np.testing.assert_allclose(to_host(next(own))[:, 0], to_host(product)[:, number])
    expected = np.einsum("is,jik,ks->js", V, weighted, V)
    np.testing.assert_allclose(mean.curvatures(jnp.asarray(V)), expected, rtol=1e-7, atol=1e-8 * scale)


@pytest.mark.parametrize("microbatch", [None, 4])
def test_all_samples_once_are_the_operator(microbatch):
    A = bind(in_float64(), microbatch=microbatch, check=False).operator()
    mean = A.sampled(np.array_split(np.arange(N)[::-1], 4), np.ones(N))
    np.testing.assert_allclose(dense(mean), dense(A), rtol=1e-12, atol=1e-14)
    before = dense(mean)
    mean.release()
    np.testing.assert_allclose(dense(mean), before)


@pytest.mark.parametrize("name", ["mean", "sum", "weight", "model"])
def test_scores_are_the_traces_of_the_hessians_over_the_outputs(name):
    problem = PROBLEMS[name]()
    x, y = (np.concatenate(parts) for parts in zip(*in_float64().data, strict=True))
    p = np.asarray(jax.nn.softmax(problem.model[0](problem.model[1], jnp.asarray(x))))
    expected = {"weight": CLASS_WEIGHTS[y]}.get(name, np.ones(N))
    if name != "model":
        expected = expected * (1 - (p**2).sum(axis=1))
    scores = bind(problem, check=False).operator().sample_scores()
    np.testing.assert_allclose(scores / scores.sum(), expected / expected.sum(), rtol=1e-6, atol=1e-12)


def test_scores_of_confident_samples_have_digits_in_float32():
    with jax.enable_x64(False):
        apply, params = small_jax().model
        sure = small_jax(model=(apply, jax.tree.map(lambda w: 8 * w, params)))
        scores = bind(sure, check=False).operator().sample_scores()
        x = np.concatenate([x for x, _ in sure.data]).astype("float32")
        z = np.asarray(apply(sure.model[1], jnp.asarray(x)), np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    expected = (p * (1 - p)).sum(axis=1)
    assert expected.min() < 1e-6
    np.testing.assert_allclose(scores / scores.sum(), expected / expected.sum(), rtol=1e-4)


def test_more_outputs_than_pay_have_equal_scores(monkeypatch):
    monkeypatch.setattr("eigencore_jax.sample_mean.MOST_OUTPUTS", C - 1)
    assert np.ptp(bind(in_float64(), check=False).operator().sample_scores()) == 0


@pytest.mark.slow
def test_analyses_and_solves_take_samples():
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((600, 6)), rng.integers(0, C, 600)) for _ in range(2)]
    A = bind(in_float64(data=data), check=False).operator()
    values = np.linalg.eigvalsh(dense(A))[::-1]
    found = eigencore.trace(A, samples=640)
    assert found.numbers["low"] <= values.sum() <= found.numbers["high"]
    assert found.numbers["high"] - found.numbers["low"] < values.sum()
    solved = eigencore.solve(A, 1, which="LA", samples=640)
    (interval,) = solved.sampling.intervals
    assert interval.low <= values[0] <= interval.high


def test_a_loss_without_forward_derivatives_is_named():
    @jax.custom_vjp
    def own(z):
        return z**2

    own.defvjp(lambda z: (z**2, z), lambda z, g: (2 * z * g,))
    A = bind(in_float64(loss=lambda z, y: jnp.mean(own(z - y[:, None]))), check=False).operator()
    mean = A.sampled([[0, 1], [2]], np.ones(3))
    with pytest.raises(ProblemError, match="computing the curvature of the samples failed"):
        mean.curvatures(jnp.ones((A.shape[0], 1)))
