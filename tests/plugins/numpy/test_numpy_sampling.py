"""The mean over drawn samples on NumPy, and intervals that hold for its trained network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore_numpy.network import TwoLayer

GROUPS = [[3, 0, 14], [7, 7, 8, 12], [1]]
DRAWN = [s for group in GROUPS for s in group]
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.3, 0.3, 4.0, 1.5, 0.7])
N, CLASSES = 15, 3


def problem(**fields: Any) -> Problem:
    rng = np.random.default_rng(1)
    shapes = {"W1": (5, 4), "b1": (5,), "W2": (CLASSES, 5), "b2": (CLASSES,)}
    network = TwoLayer(**{name: rng.standard_normal(shape) for name, shape in shapes.items()})
    x, y = rng.standard_normal((N, 4)), rng.integers(CLASSES, size=N)
    return Problem(network, [(x[:7], y[:7]), (x[7:], y[7:])], CrossEntropy(), backend="numpy", **fields)


def dense(A: Any) -> Any:
    return A.matmat(np.eye(A.shape[0]))


def of_each_sample(kind: str) -> list[Any]:
    whole = problem()
    x, y = (np.concatenate(parts) for parts in zip(*whole.data, strict=True))
    alone = [Problem(whole.model, [(x[s : s + 1], y[s : s + 1])], whole.loss) for s in range(N)]
    return [dense(eigencore.bind(one, backend="numpy").operator(kind)) for one in alone]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_the_mean_over_drawn_samples_is_that_of_the_samples(kind: str, reduction: str) -> None:
    each = [one * (N if reduction == "sum" else 1) for one in of_each_sample(kind)]
    A = eigencore.bind(problem(reduction=reduction)).operator(kind, damping=0.5, weight_decay=0.25)
    mean = A.sampled(GROUPS, WEIGHTS)  # type: ignore[attr-defined]
    weighted = [w * each[s] for s, w in zip(DRAWN, WEIGHTS, strict=True)]
    assert mean.shift == 0.75
    assert dense(mean) == pytest.approx(sum(weighted) / len(DRAWN) + 0.75 * np.eye(A.shape[0]))
    V, start = np.random.default_rng(2).standard_normal((A.shape[0], 3)), 0
    for group, product in zip(GROUPS, mean.group_products(V), strict=True):
        part = sum(weighted[start : start + len(group)]) / len(group)
        assert product == pytest.approx(part @ V)
        start += len(group)
    own = mean.group_products(lambda number: V[:, number : number + 1])
    for number, product in enumerate(mean.group_products(V)):
        assert next(own) == pytest.approx(product[:, number : number + 1])
    assert mean.curvatures(V) == pytest.approx(np.array([[v @ one @ v for v in V.T] for one in weighted]))


def test_all_samples_once_are_the_operator() -> None:
    A = eigencore.bind(problem()).operator()
    everything = A.sampled(np.array_split(np.arange(N)[::-1], 4), np.ones(N))  # type: ignore[attr-defined]
    assert dense(everything) == pytest.approx(dense(A), rel=1e-12, abs=1e-14)


def test_scores_are_the_traces_of_the_hessians_over_the_logits() -> None:
    whole = problem()
    x = np.concatenate([x for x, _ in whole.data])
    p = np.exp(whole.model.logits(x))
    p /= p.sum(axis=1, keepdims=True)
    expected = 1 - (p**2).sum(axis=1)
    scores = eigencore.bind(whole).operator().sample_scores()  # type: ignore[attr-defined]
    assert scores / scores.sum() == pytest.approx(expected / expected.sum())


@pytest.mark.slow
def test_intervals_cover_on_a_trained_network() -> None:
    A = eigencore.bind("demo:digits-numpy").operator()
    truth = eigencore.solve(A, 3, which="LA", tol=1e-4).values
    held = shown = 0
    for seed in range(30):
        sampling = eigencore.solve(
            A, 3, which="LA", samples=400, seed=seed, certify="none", complete=None
        ).sampling
        assert sampling is not None
        for one, value in zip(sampling.intervals, truth, strict=True):
            if one.low is not None and one.high is not None:
                shown += 1
                held += one.low <= value <= one.high
    assert shown > 60
    assert held / shown > 0.95 - 4 * math.sqrt(0.05 * 0.95 / shown)
