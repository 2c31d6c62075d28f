"""The problem `example:clusters`: softmax regression on three overlapping clusters of points."""

from __future__ import annotations

import numpy as np
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy

from eigencore_example_plugin.softmax import SoftmaxRegression

DIMENSIONS, STEPS, RATE = 8, 200, 0.5


def make(samples: int = 300, seed: int = 0) -> Problem:
    """A trained softmax regression, with its training data as the problem's data.

    The keywords are also options on the command line: --set problem.samples=1000.

    Args:
        samples: the number of points.
        seed: the seed of the points.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=samples)
    x = rng.normal(size=(3, DIMENSIONS))[y] + rng.normal(size=(samples, DIMENSIONS))
    loss, model = CrossEntropy(), SoftmaxRegression(np.zeros((3, DIMENSIONS)), np.zeros(3))
    for _ in range(STEPS):
        g = -RATE / samples * loss.grad(model.logits(x), y)
        model = model.plus(SoftmaxRegression(g.T @ x, g.sum(axis=0)))
    correct = np.mean(model.logits(x).argmax(axis=1) == y)
    return Problem(
        model=model,
        data=[(x, y)],
        loss=loss,
        backend="softmax",
        description=f"softmax regression, {model.W.size + model.b.size} weights · {samples} points · "
        f"accuracy {100 * correct:.1f} %",
    )
