"""The JAX backend: conformance, dense references, refusals, and what is compiled."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from eigencore import solve
from eigencore.arrays import to_host
from eigencore.errors import CapabilityError, ProblemError, UnknownNameError, UsageError
from eigencore.objectives import CrossEntropy, Margin
from eigencore.problems import bind
from eigencore.testing import backend_checks
from eigencore_jax.classifier import compiled_rows
from kit.jax_networks import SIZES, C, D, cross_entropy, jax, jnp, ravel_pytree, small_jax, two_layers

N = sum(SIZES)


def detached(logits, y):
    """A cross-entropy whose derivative misses a factor."""
    return cross_entropy(logits + jax.lax.stop_gradient(logits), y)


@pytest.fixture(scope="module")
def bound():
    return bind(small_jax())


@pytest.fixture(scope="module")
def float64_checks():
    """All laws in float64, which is turned on for a block of code in this thread."""
    with jax.enable_x64(True):
        return backend_checks(small_jax(), dtype="float64", wrong_loss=detached)


def test_it_conforms_in_float64(float64_checks):
    with jax.enable_x64(True):
        for check in float64_checks:
            check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*has no float64")
def test_it_conforms_in_float32():
    assert not jax.config.jax_enable_x64
    for kind in ("hessian", "ggn"):
        for check in backend_checks(small_jax(), kind=kind):
            if check.law.__name__ != "agrees_with_float64":
                check()


def dense_hessian(problem):
    """The Hessian (n, n) of the mean loss over all samples at once, by another route."""
    apply, params = problem.model
    x, y = (np.concatenate(parts) for parts in zip(*problem.data, strict=True))
    flat, unflatten = ravel_pytree(params)
    return np.asarray(jax.hessian(lambda w: problem.loss(apply(unflatten(w), jnp.asarray(x)), y))(flat))


def dense(operator):
    return to_host(operator.matmat(jnp.eye(operator.shape[0], dtype=operator.dtype)))


def test_products_are_those_of_a_dense_hessian(bound):
    expected = dense_hessian(small_jax())
    for operator in (bound.operator(), bind(small_jax(), linearize=False, microbatch=4).operator()):
        np.testing.assert_allclose(dense(operator), expected, atol=3e-6 * np.abs(expected).max())


def test_the_gauss_newton_matrix_is_that_of_the_jacobian_and_the_hessian_over_the_outputs(bound):
    problem = small_jax()
    apply, params = problem.model
    x, _ = (np.concatenate(parts) for parts in zip(*problem.data, strict=True))
    flat, unflatten = ravel_pytree(params)
    J = np.asarray(jax.jacobian(lambda w: apply(unflatten(w), jnp.asarray(x)))(flat), np.float64)
    p = np.asarray(jax.nn.softmax(apply(params, jnp.asarray(x))), np.float64)
    H = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    expected = np.einsum("sci,scd,sdj->ij", J, H, J) / N
    found = dense(bound.operator("ggn"))
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_names_are_the_paths_of_the_pytree(bound):
    names = [one.name for one in bound.layout()]
    assert names == ["head.b", "head.w", "hidden.b", "hidden.w"]
    assert bound.operator(params="head.*").shape[0] == 5 * C + C
    with pytest.raises(UnknownNameError):
        bound.operator(params="tail.*")


@pytest.mark.parametrize(
    ("loss", "reduction", "scale"),
    [
        (cross_entropy, "infer", 1),
        (lambda z, y: y.shape[0] * cross_entropy(z, y), "infer", N),
        (lambda z, y: CrossEntropy().value(z, y), "infer", 1),
        (lambda z, y: CrossEntropy().value(z, y), "sum", N),
        (CrossEntropy(), "infer", 1),
    ],
    ids=["mean", "sum", "each sample", "each sample, summed", "objective"],
)
def test_the_reduction_is_found(loss, reduction, scale, bound):
    other = bind(small_jax(loss=loss, reduction=reduction), check=False)
    assert other.loss() == pytest.approx(scale * bound.loss(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"loss": lambda z, y: jnp.sum(cross_entropy(z, y)) * y.shape[0] ** 0.5}, ProblemError, "neither"),
        ({"loss": cross_entropy, "reduction": "sum"}, ProblemError, "reduction is 'sum'"),
        ({"loss": lambda z, y: 0.0 * jnp.sum(z)}, ProblemError, "can't be determined"),
        ({"loss": lambda z, y: jnp.log(jnp.mean(z) - jnp.mean(z))}, ProblemError, "Look for an overflow"),
        ({"loss": lambda z, y: z}, ProblemError, "has the shape"),
        ({"loss": lambda z, y: float(z[0, 0])}, ProblemError, "computing the loss failed"),
        ({"loss": detached}, ProblemError, "Hessian of the loss would be wrong"),
        ({"data": []}, ProblemError, "data is empty"),
        ({"data": [(np.full((2, D), np.nan), np.zeros(2, int))]}, ProblemError, "NaN or infinite"),
        ({"data": [(np.ones((2, D)), np.zeros(3, int))]}, ProblemError, "one row for each"),
        ({"model": two_layers}, ProblemError, "the model is a function"),
        ({"model": (two_layers, {"w": 3})}, ProblemError, "no weights"),
        ({"model": (two_layers, {"w": jnp.ones(3, "float16")})}, ProblemError, "the weights are float16"),
        (
            {"model": (two_layers, {"w": np.full(3, np.nan, "float32")})},
            ProblemError,
            "w contains NaN or infinite weights: 3 of 3",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unsound_problem_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        bind(small_jax(**changes)).loss()


def test_float64_is_refused_unless_it_is_turned_on(bound):
    assert bound.precisions == ("float32",)
    with pytest.raises(UsageError, match="computes in float32") as caught:
        bind(small_jax(), dtype="float64")
    assert "JAX_ENABLE_X64=1" in caught.value.hint
    with pytest.raises(UsageError, match="computes in float32"):
        bound.classifier("float64")
    with jax.enable_x64(True):
        assert bind(small_jax()).precisions == ("float32", "float64")
    assert not jax.config.jax_enable_x64


@pytest.mark.filterwarnings("ignore:.*has no float64")
def test_weights_of_float64_are_not_rounded_silently():
    apply, params = small_jax().model
    wide = small_jax(model=(apply, jax.tree.map(lambda w: np.asarray(w, np.float64), params)))
    with pytest.raises(ProblemError, match="the weights are float64, but JAX computes in float32") as caught:
        bind(wide)
    assert "JAX_ENABLE_X64=1" in caught.value.hint
    law = "operators_have_the_precision_of_the_weights"
    (check,) = (one for one in backend_checks(wide, dtype="float32") if one.name == law)
    check()
    with jax.enable_x64(True):
        assert bind(wide).operator().dtype == "float64"


def test_an_unknown_device_is_refused():
    assert bind(small_jax(), device="cpu:0").operator().device.platform == "cpu"
    with pytest.raises(UsageError, match="available: cpu"):
        bind(small_jax(), device="abacus")


def test_a_regression_offers_no_classifier():
    data = [(np.ones((3, D)), np.ones((3, C)))]
    regression = bind(small_jax(data=data, loss=lambda z, y: jnp.mean((z - y) ** 2)))
    assert len(regression.capabilities) == 3
    with pytest.raises(CapabilityError, match="one integer for each sample"):
        regression.classifier()


def test_other_batches_than_pairs_are_given_to_the_loss_with_the_model(bound):
    data = [{"x": x, "y": y} for x, y in small_jax().data]
    other = bind(small_jax(data=data, loss=lambda model, b: cross_entropy(model(b["x"]), b["y"])))
    v = np.random.default_rng(0).standard_normal(bound.operator().shape[0]).astype("float32")
    expected = to_host(bound.operator().matvec(jnp.asarray(v)))
    np.testing.assert_allclose(to_host(other.operator().matvec(jnp.asarray(v))), expected, atol=1e-5)
    with pytest.raises(CapabilityError, match="needs the outputs"):
        other.operator("ggn")


def test_what_is_kept_is_freed_and_products_stay_the_same(bound):
    operator = bound.operator()
    v = jnp.ones(operator.shape[0])
    first = to_host(operator.matvec(v))
    operator.release()
    assert np.array_equal(to_host(operator.matvec(v)), first)
    operator.release(1 << 60)
    np.testing.assert_allclose(to_host(operator.matvec(v)), first, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True)
class Around:
    """An objective that consists of others, as those of attacks do."""

    one: Margin
    other: CrossEntropy

    def value(self, logits, y):
        return self.one.value(logits, y) + self.other.value(logits, y)

    def grad(self, logits, y):
        return self.one.grad(logits, y) + self.other.grad(logits, y)


class Unhashable(CrossEntropy):
    """An objective that can't be hashed."""

    __hash__ = None


def test_an_objective_is_compiled_once_for_all_targets(bound):
    classifier = bound.classifier()
    x, y = classifier.samples()
    targets = [jnp.asarray((np.asarray(y) + shift) % C) for shift in (1, 2)]
    for target in targets:
        objective = Around(Margin(target), CrossEntropy())
        value, gradient = classifier.value_and_grad(objective, x, y)
        parts = [classifier.value_and_grad(part, x, y) for part in (Margin(target), CrossEntropy())]
        np.testing.assert_allclose(value, parts[0][0] + parts[1][0], rtol=1e-5)
        np.testing.assert_allclose(gradient, parts[0][1] + parts[1][1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(classifier.value_and_grad(Unhashable(), x, y)[0], parts[1][0])


@contextmanager
def compilations():
    """A list of the durations of what JAX compiles."""
    durations = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            durations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield durations
        found = len(durations)
        jax.jit(lambda x: 3 * x - 1)(jnp.ones(7))
        assert len(durations) > found  # what is compiled would have been seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_second_solve_of_the_same_shape_compiles_nothing(bound):
    solve(bound.operator(), 2, start=None, seed=0)
    with compilations() as found:
        solve(bound.operator(), 2, seed=0)
        solve(bind(small_jax()).operator(), 2, seed=0)
        assert not found


def test_an_attack_compiles_the_network_for_a_few_numbers_of_rows(bound):
    classifier = bound.classifier()
    x, y = (np.concatenate([part] * 8)[:48] for part in classifier.samples())
    counts = range(1, len(x) + 1)
    with compilations() as found:
        for count in counts:
            for objective in (CrossEntropy(), Margin(), Margin(y[:count])):
                classifier.value_and_grad(objective, x[:count], y[:count])
        assert len(found) <= 2 * len({compiled_rows(count) for count in counts}) == 8


def test_rows_on_an_accelerator_are_arrays_of_jax_with_the_same_numbers(bound, monkeypatch):
    host, objective = bound.classifier(), CrossEntropy()
    monkeypatch.setattr("eigencore_jax.classifier.rows_are_on_host", lambda device: False)
    there = bound.classifier()
    v = host.samples()[0][::-1].copy()

    def numbers(classifier):
        x, y = classifier.samples()
        products = classifier.input_products(objective, x, y)(classifier.xp.asarray(v))
        return [x, classifier.logits(x), *classifier.value_and_grad(objective, x, y), products]

    for one, other in zip(numbers(host), numbers(there), strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, jax.Array)
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)
    x, y = there.samples()
    curvature = bound.sample_curvature(objective, jnp.ones(bound.operator().shape[0]), x, y)
    assert isinstance(curvature, jax.Array)
