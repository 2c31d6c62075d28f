"""Small classifiers with known derivatives, bound to the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import eigencore
from eigencore.interfaces import Bound
from eigencore.objectives import CrossEntropy
from eigencore.problems import find_problem
from eigencore_numpy.network import TwoLayer


@pytest.fixture(scope="session")
def two_layers() -> Callable[..., Bound]:
    """Returns a function that binds a random network whose labels are its own predictions."""

    def bound(
        activation: str = "softplus", d: int = 8, classes: int = 4, samples: int = 40, scale: float = 1.0
    ) -> Bound:
        rng = np.random.default_rng(3)
        network = TwoLayer(
            rng.standard_normal((16, d)),
            rng.standard_normal(16),
            scale * rng.standard_normal((classes, 16)) / 4,
            np.zeros(classes),
            activation,
        )
        x = rng.random((samples, d))
        y = network.logits(x).argmax(axis=1)
        problem = eigencore.Problem(
            model=network, data=[(x, y)], loss=CrossEntropy(), bounds=(0.0, 1.0), backend="numpy"
        )
        return eigencore.bind(problem)

    return bound


@pytest.fixture(scope="session")
def digits_problem() -> eigencore.Problem:
    """`demo:digits-numpy`, a softplus network on real digits."""
    return find_problem("demo:digits-numpy")


@pytest.fixture(scope="session")
def digits_run(digits_problem: eigencore.Problem) -> eigencore.Run:
    """The analysis `robustness` of 150 digits."""
    options = {"robustness": {"images": 150}}
    return eigencore.analyze(digits_problem, k=2, analyses="robustness", options=options)


@pytest.fixture(scope="session")
def digits(digits_problem: eigencore.Problem) -> Bound:
    return eigencore.bind(digits_problem)
