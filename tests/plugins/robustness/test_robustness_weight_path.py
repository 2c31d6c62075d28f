"""Loss and accuracy of the samples along directions of the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.objectives import CrossEntropy
from eigencore_robustness.directions.weight_curvature import loss_increases
from eigencore_robustness.directions.weight_path import MULTIPLES, weight_curves


@pytest.fixture(scope="module")
def problem(digits_problem):
    """Its samples are the data of the operator."""
    x, y = digits_problem.data[0]
    return replace(digits_problem, data=[(x[:120], y[:120])], validation=None)


@pytest.fixture(scope="module")
def eigen(bound):
    return eigencore.solve(bound.operator(), 4)


@pytest.fixture(scope="module")
def bound(problem):
    return eigencore.bind(problem, dtype="float64")


@pytest.fixture(scope="module")
def curves(bound, eigen):
    step, _ = loss_increases(bound, eigen, None, 0)
    x, y = bound.classifier().samples()
    return {one.name: one for one in weight_curves(bound, eigen, x, y, None, step, 50, 0)}


def test_along_eigenvectors_the_loss_is_that_of_the_moved_weights(curves, bound, eigen):
    step, increases = loss_increases(bound, eigen, None, 0)
    assert set(curves) == {"v_1", "v_2", "v_3", "random", "gradient"}
    for i in range(3):
        curve = curves[f"v_{i + 1}"]
        for m, loss in zip(MULTIPLES, curve.loss, strict=True):
            assert loss == pytest.approx(bound.loss(m * step * eigen.vectors[:, i]), rel=1e-9)
        there = [curve.loss[MULTIPLES.index(m)] for m in (-1.0, 1.0)]
        here = curve.loss[MULTIPLES.index(0.0)]
        assert np.mean(there) - here == pytest.approx(increases[i].along, rel=1e-9)


def test_the_accuracy_is_that_of_the_moved_network(curves, bound, problem, eigen):
    step, _ = loss_increases(bound, eigen, None, 0)
    (x, y), model = problem.data[0], problem.model
    rows = x.reshape(len(x), -1)
    names = ("W1", "b1", "W2", "b2")
    for m, accuracy in zip(MULTIPLES, curves["v_1"].accuracy, strict=True):
        weights = {name: np.array(getattr(model, name), dtype=float) for name in names}
        for name, where, _ in bound.layout():
            weights[name] += m * step * eigen.vectors[where, 0].reshape(weights[name].shape)
        assert accuracy == np.mean(replace(model, **weights).logits(rows).argmax(axis=1) == y)


def test_the_loss_rises_along_the_gradient_and_hardly_along_a_random_direction(curves, bound, eigen):
    step, _ = loss_increases(bound, eigen, None, 0)
    ahead, behind = (curves["gradient"].loss[MULTIPLES.index(m)] for m in (1.0, -1.0))
    g = bound.gradient()
    assert ahead > behind
    assert ahead == pytest.approx(bound.loss(step * g / np.linalg.norm(g)), rel=1e-9)
    assert abs(curves["random"].loss - curves["random"].loss[3]).max() < 0.1 * curves["v_1"].loss.max()


def test_over_some_parameters(bound):
    eigen = eigencore.solve(bound.operator(params="W2"), 1)
    x, y = bound.classifier().samples()
    found = weight_curves(bound, eigen, x, y, "W2", 0.1, 50, 0)
    assert [one.name for one in found] == ["v_1", "random", "gradient"]
    logits = bound.classifier(direction=0.4 * eigen.vectors[:, 0], params="W2").logits(x)
    assert found[0].loss[-1] == pytest.approx(np.mean(CrossEntropy().value(logits, y)), rel=1e-9)


def test_the_given_weights_are_unchanged(problem, curves):
    again = eigencore.bind(problem, dtype="float64")
    x, y = again.classifier().samples()
    assert np.mean(CrossEntropy().value(again.classifier().logits(x), y)) == pytest.approx(
        curves["v_1"].loss[MULTIPLES.index(0.0)], rel=1e-12
    )
