"""An objective whose methods are not derivatives of each other is refused before the first product."""

from __future__ import annotations

import numpy as np
import pytest

import eigencore
from eigencore.errors import ProblemError
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore_numpy.backend import bind


class WrongGradient(CrossEntropy):
    def grad(self, logits, y):
        return 1.01 * super().grad(logits, y)


class WrongProduct(CrossEntropy):
    def hvp(self, logits, y, v):
        return 1.01 * super().hvp(logits, y, v)


class Forgotten(CrossEntropy):
    """A negative log-likelihood of another temperature than its gradient."""

    def value(self, logits, y):
        return super().value(logits / 2, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("objective", "gap", "method"),
    [
        (
            WrongGradient(),
            "the gradient differs by 0.99 % from the change of the loss",
            "grad of WrongGradient",
        ),
        (WrongProduct(), "direction, the Hessian product differs", "hvp of WrongProduct"),
        (Forgotten(), "the gradient differs", "grad of Forgotten"),
    ],
)
def test_a_wrong_method_is_named(objective, gap, method, dtype, small):
    problem = small(loss=objective)
    for attempt in (
        bind(problem, dtype=dtype).operator,
        lambda: eigencore.operator(problem.model, problem.data, objective, backend="numpy", dtype=dtype),
        lambda: eigencore.analyze(problem, k=1, dtype=dtype, analyses="none"),
    ):
        with pytest.raises(ProblemError, match=gap) as caught:
            attempt()
        assert method in caught.value.hint


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["softplus", "relu"])
@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), DLR()])
def test_right_objectives_are_accepted(objective, activation, dtype, small):
    for seed in range(5):
        bind(small(activation, seed=seed, loss=objective), dtype=dtype).operator()


def test_hidden_units_exactly_at_a_kink_raise_no_alarm(small):
    problem = small("relu")
    problem.model.b1[:] = 0
    data = [(0 * x, y) for x, y in problem.data]
    bind(small("relu", model=problem.model, data=data)).operator()


def test_the_probe_runs_once_and_leaves_the_random_state(small, monkeypatch):
    probed = []
    monkeypatch.setattr("eigencore_numpy.backend.probe", lambda *parts: probed.append(parts))
    bound = bind(small())
    before = np.random.get_state()[1].copy()
    bound.operator()
    bound.operator(params="W1")
    assert len(probed) == 1
    monkeypatch.undo()
    bind(small()).operator()
    assert np.array_equal(np.random.get_state()[1], before)
