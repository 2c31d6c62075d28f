from __future__ import annotations

from dataclasses import replace

import eigencore
import numpy as np
import pytest
from eigencore.errors import ProblemError, UsageError
from eigencore.testing import backend_checks

from eigencore_example_plugin.clusters import make
from eigencore_example_plugin.softmax import SoftmaxRegression


@pytest.mark.parametrize(
    "check",
    backend_checks(make) + backend_checks(make(samples=40), dtype="float32"),
    ids=lambda check: check.__name__,
)
def test_conforms(check):
    check()


def test_the_top_eigenvalues_are_those_of_the_dense_hessian():
    problem = make()
    x, _ = problem.data[0]
    p = np.exp(problem.model.logits(x))
    p /= p.sum(axis=1, keepdims=True)
    x1 = np.hstack([x, np.ones((len(x), 1))])
    # The mean over the samples of (diag(p) - p p') ⊗ (x, 1)(x, 1)'. The order of the weights differs
    # from the backend's, which does not change the eigenvalues.
    curvature = np.einsum("ia,ab->iab", p, np.eye(3)) - np.einsum("ia,ib->iab", p, p)
    dense = np.einsum("iab,ij,ik->ajbk", curvature, x1, x1).reshape(27, 27) / len(x)
    found = eigencore.analyze("example:clusters", 4, solver="davidson", tol=1e-8, analyses="none").eigen
    assert found.values == pytest.approx(np.linalg.eigvalsh(dense)[::-1][:4], rel=1e-6)


def test_attacks_and_other_analyses_work_on_this_backend():
    bound = eigencore.bind(make())
    attacked = eigencore.attack(bound, "pgd", eps=0.5, norm="L2")
    assert attacked.accuracy < 1 - np.mean(~attacked.correct)
    run = eigencore.analyze(make(), 2, analyses="robustness")
    assert run.manifest["failed"] == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "linear"}, "the model is a str; expected a SoftmaxRegression"),
        ({"loss": print}, "without value, grad, hvp; expected an Objective"),
        ({"data": []}, "the data are empty"),
        ({"data": [(np.ones((2, 5)), [0, 1])]}, r"batch 0 have shape \(2, 5\); expected \(b, 8\)"),
        ({"data": [(np.ones((2, 8)), [0, 3])]}, "not 2 integers from 0 to 2"),
        ({"data": [np.ones((2, 8))]}, r"batch 0 is a ndarray; expected a pair \(x, y\)"),
        (
            {"model": SoftmaxRegression(np.ones((3, 8)), np.ones(1))},
            r"inconsistent: W \(3, 8\) and b \(1,\); expected",
        ),
        ({"weight": len}, "mean over all samples"),
    ],
)
def test_an_invalid_problem_is_refused(changes, message):
    with pytest.raises(ProblemError, match=message):
        eigencore.bind(replace(make(), **changes))


def test_an_unavailable_device_or_data_type_is_refused():
    for requested in ({"device": "cuda"}, {"dtype": "float16"}):
        with pytest.raises(UsageError, match=r"cuda|float16"):
            eigencore.bind(make(), **requested)
