"""r1: exact on a linear network; within bounds, the shortest perturbation that the bounds allow."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from eigencore.objectives import Margin
from eigencore_robustness.over_inputs.first_order import first_order


class Linear:
    """z = W x + b."""

    def __init__(self, W, b, bounds=None):
        self.W, self.b = W, b
        self.bounds = None if bounds is None else tuple(np.full(W.shape[1], bound) for bound in bounds)
        self.xp, self.dtype, self.device = xp, np.float64, "cpu"
        self.shape, self.classes = (W.shape[1],), len(W)

    def logits(self, x):
        return x @ self.W.T + self.b

    def value_and_grad(self, objective, x, y):
        z = self.logits(x)
        return objective.value(z, y), objective.grad(z, y) @ self.W


PER_ENTRY = np.linspace(-3, 0.5, 6), np.linspace(1, 2, 6)


@pytest.fixture(
    params=[None, (0.0, 1.0), (-3.0, 5.0), PER_ENTRY], ids=["no bounds", "0 to 1", "-3 to 5", "per entry"]
)
def linear(request):
    rng = np.random.default_rng(0)
    low, high = request.param or (0.0, 1.0)
    classifier = Linear(rng.standard_normal((5, 6)), rng.standard_normal(5), request.param)
    x = low + (high - low) * rng.random((30, 6))
    return classifier, x, classifier.logits(x).argmax(axis=1)


def test_r1_is_the_distance_to_the_nearest_hyperplane(linear):
    classifier, x, y = linear
    found = first_order(classifier, x, y)
    z = classifier.logits(x)
    for i, label in enumerate(y):
        others = [k for k in range(5) if k != label]
        exact = [
            (z[i, label] - z[i, k]) / np.linalg.norm(classifier.W[label] - classifier.W[k]) for k in others
        ]
        assert found.radius[i] == pytest.approx(min(exact), rel=1e-12)
        assert found.nearest[i] == others[int(np.argmin(exact))]


def test_r1_is_at_most_the_distance_to_the_runner_up(linear):
    classifier, x, y = linear
    margin, gradient = classifier.value_and_grad(Margin(), x, y)
    runner_up = margin / np.linalg.norm(gradient, axis=1)
    radius = first_order(classifier, x, y).radius
    assert (radius <= runner_up * (1 + 1e-12)).all()
    assert (radius < runner_up * (1 - 1e-6)).any()


def test_r1_within_bounds_is_the_shortest_perturbation_that_a_solver_finds(linear):
    classifier, x, y = linear
    found = first_order(classifier, x, y)
    assert (found.radius_in_box >= found.radius * (1 - 1e-12)).all()
    if classifier.bounds is None:
        assert np.array_equal(found.radius_in_box, found.radius)
        return
    assert (found.radius_in_box > found.radius * (1 + 1e-6)).any()
    for i in range(10):
        assert found.radius_in_box[i] == pytest.approx(_shortest(classifier, x[i], y[i]), rel=1e-4)


def test_r1_within_bounds_is_infinite_if_the_bounds_allow_no_perturbation():
    """There are two classes, and the second is never predicted within the bounds."""
    classifier = Linear(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([5.0, 0.0]), (0.0, 1.0))
    x = np.array([[0.2, 0.3]])
    found = first_order(classifier, x, np.array([0]))
    assert np.isinf(found.radius_in_box[0])
    assert found.radius[0] == pytest.approx(4.5 / np.sqrt(2))


def test_r1_is_infinite_if_all_gradients_are_zero():
    classifier = Linear(np.zeros((3, 2)), np.array([1.0, 0.0, 0.5]), (0.0, 1.0))
    found = first_order(classifier, np.array([[0.5, 0.5]]), np.array([0]))
    assert np.isinf(found.radius[0])
    assert np.isinf(found.radius_in_box[0])


def _shortest(classifier: Linear, x: np.ndarray, label: int) -> float:
    """Returns the minimum over the reachable classes, by sequential quadratic programming."""
    limits, best = list(zip(*(bound - x for bound in classifier.bounds), strict=True)), np.inf
    z = classifier.W @ x + classifier.b
    for k in set(range(classifier.classes)) - {label}:
        g, m = classifier.W[label] - classifier.W[k], z[label] - z[k]
        inside = linprog(np.zeros_like(x), A_ub=[g], b_ub=[-m], bounds=limits)
        if not inside.success:
            continue
        constraint = {"type": "ineq", "fun": lambda delta, g=g, m=m: -(m + g @ delta)}
        found = minimize(
            lambda delta: delta @ delta,
            inside.x,
            jac=lambda delta: 2 * delta,
            bounds=limits,
            constraints=[constraint],
            options={"ftol": 1e-12, "maxiter": 500},
        )
        if m + g @ found.x <= 1e-9:  # it reports some correct solutions as failures
            best = min(best, float(np.sqrt(found.fun)))
    return best
