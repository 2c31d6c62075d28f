"""Analytic derivatives, compared with finite differences and dense Hessians in float64."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.interfaces import Problem
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore_numpy.backend import bind
from eigencore_numpy.layout import select
from eigencore_numpy.network import ACTIVATIONS, PARAMETERS, Pass, TwoLayer

STEP = 1e-5
OBJECTIVES = [CrossEntropy(), Margin(), Margin(against=1), DLR()]


@pytest.fixture(params=["softplus", "relu"])
def problem(request, small):
    return small(request.param)


@pytest.fixture(params=OBJECTIVES, ids=lambda one: f"{type(one).__name__}-{getattr(one, 'against', '')}")
def objective(request):
    return request.param


def difference(f, at, v, step=STEP):
    return (f(at + step * v) - f(at - step * v)) / (2 * step)


def jacobian(f, at):
    """d f / d at, with one column for each entry of `at`."""
    return np.stack([difference(f, at, e) for e in np.eye(len(at))], axis=-1)


def gradient_at(problem, all_samples):
    """The gradient of the mean loss as a function of the flat weights."""
    x, y = all_samples(problem)
    layout = select(problem.model)
    sample_weights = np.full(len(y), 1 / len(y))

    def gradient(w):
        passed = Pass(layout.unflatten(w), problem.loss, x, y, sample_weights)
        return layout.flatten(passed.weight_gradient())

    return gradient, layout.flatten(problem.model)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivatives_of_an_activation_are_correct(name):
    f, df, ddf = ACTIVATIONS[name]
    a = np.array([-40.0, -3.0, -0.5, 0.25, 2.0, 40.0])
    np.testing.assert_allclose(df(a), difference(f, a, 1.0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ddf(a), difference(df, a, 1.0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_does_not_overflow_and_keeps_its_data_type(name):
    a = np.array([-1e4, -200, 0, 200, 1e4], dtype=np.float32)
    for part in ACTIVATIONS[name]:
        assert part(a).dtype == np.float32
        assert np.all(np.isfinite(part(a)))


# -- over the weights --------------------------------------------------------------------------------------


def test_the_weight_gradient_is_the_derivative_of_the_loss(problem, all_samples):
    bound = bind(problem)
    gradient, w = gradient_at(problem, all_samples)
    expected = jacobian(lambda d: np.array(bound.loss(d)), np.zeros_like(w))
    np.testing.assert_allclose(gradient(w), expected, rtol=0, atol=1e-9)


def test_the_operator_is_the_dense_hessian(problem, all_samples):
    gradient, w = gradient_at(problem, all_samples)
    operator = bind(problem).operator()
    dense = operator.matmat(np.eye(len(w)))
    np.testing.assert_allclose(dense, jacobian(gradient, w), rtol=0, atol=1e-8)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-14)


def test_any_objective_can_be_the_loss(problem, objective, all_samples):
    problem = Problem(model=problem.model, data=problem.data, loss=objective)
    gradient, w = gradient_at(problem, all_samples)
    dense = bind(problem).operator().matmat(np.eye(len(w)))
    np.testing.assert_allclose(dense, jacobian(gradient, w), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("params", [*PARAMETERS, "W*", "?2"])
def test_params_select_a_block_of_the_hessian(params, problem):
    bound = bind(problem)
    whole = bound.operator().matmat(np.eye(bound.operator().shape[0]))
    where = {name: place for name, place, _ in bound.layout()}
    kept = np.concatenate([np.r_[where[name]] for name, _, _ in bound.layout(params)])
    block = bound.operator(params=params).matmat(np.eye(len(kept)))
    np.testing.assert_allclose(block, whole[np.ix_(kept, kept)], rtol=0, atol=1e-15)


def test_sample_curvature_is_the_second_derivative_of_each_objective(problem, objective, all_samples):
    x, y = all_samples(problem)
    bound, layout = bind(problem), select(problem.model)
    v = np.random.default_rng(1).standard_normal(layout.n)
    w = layout.flatten(problem.model)

    def values(t):
        moved = layout.unflatten(w + t * v)
        return objective.value(TwoLayer.logits(moved, x), y)

    step = 1e-4
    second = (values(step) + values(-step) - 2 * values(0)) / step**2
    found = bound.sample_curvature(objective, v, x, y)
    np.testing.assert_allclose(found, second, rtol=1e-5, atol=1e-5)


def test_the_mean_of_the_sample_curvatures_is_that_of_the_operator(problem, all_samples):
    bound = bind(problem)
    for params in (None, "W1", "?2"):
        operator = bound.operator(params=params)
        v = np.random.default_rng(2).standard_normal(operator.shape[0])
        each = bound.sample_curvature(problem.loss, v, *all_samples(problem), params=params)
        assert each.mean() == pytest.approx(v @ operator.matvec(v), rel=1e-12)


# -- over the input ----------------------------------------------------------------------------------------


def test_input_gradients_are_the_derivatives_of_the_values(problem, objective, all_samples):
    x, y = all_samples(problem)
    classifier = bind(problem).classifier()
    value, gradient = classifier.value_and_grad(objective, x, y)
    np.testing.assert_array_equal(value, objective.value(classifier.logits(x), y))

    def values(x):
        return objective.value(classifier.logits(x), y)

    v = np.random.default_rng(3).standard_normal(x.shape)
    np.testing.assert_allclose(np.sum(gradient * v, axis=1), difference(values, x, v), rtol=1e-6, atol=1e-8)


def test_input_products_are_those_of_dense_hessians(problem, objective, all_samples):
    x, y = all_samples(problem)
    classifier = bind(problem).classifier()
    product = classifier.input_products(objective, x, y)
    basis = np.eye(x.shape[1])
    dense = np.stack([product(np.broadcast_to(e, x.shape)) for e in basis], axis=-1)
    differences = np.stack(
        [
            difference(
                lambda x: classifier.value_and_grad(objective, x, y)[1], x, np.broadcast_to(e, x.shape)
            )
            for e in basis
        ],
        axis=-1,
    )
    np.testing.assert_allclose(dense, differences, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(dense, dense.transpose(0, 2, 1), rtol=1e-10, atol=1e-12)


def test_the_margin_of_relu_has_no_curvature_over_the_input(small, all_samples):
    problem = small("relu")
    product = bind(problem).classifier().input_products(Margin(), *all_samples(problem))
    assert not product(np.ones((15, 6))).any()
