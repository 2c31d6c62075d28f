"""Small two-layer networks on random samples, in ragged batches."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore_numpy.network import TwoLayer

D, H, C, SIZES = 6, 5, 4, (7, 5, 3)


@pytest.fixture(scope="session")
def small():
    """small(...) makes a problem; keywords replace its attributes."""

    def make(activation="softplus", dtype=np.float64, seed=0, **replacements):
        rng = np.random.default_rng(seed)
        W1, b1, W2, b2 = (rng.standard_normal(shape).astype(dtype) for shape in ((H, D), H, (C, H), C))
        data = [(rng.standard_normal((size, D)).astype(dtype), rng.integers(0, C, size)) for size in SIZES]
        defaults = {"model": TwoLayer(W1, b1, W2, b2, activation), "data": data, "loss": CrossEntropy()}
        return Problem(**(defaults | {"backend": "numpy"} | replacements))

    return make


@pytest.fixture(scope="session")
def all_samples():
    """all_samples(problem) returns the samples of all batches, with inputs as rows."""

    def join(problem):
        x, y = (np.concatenate(parts) for parts in zip(*problem.data, strict=True))
        return x.reshape(len(x), -1), y

    return join
