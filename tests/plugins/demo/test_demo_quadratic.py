"""The quadratic: its spectrum is exact, and its products are those of that matrix."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.errors import OptionError
from eigencore.options import describe_keywords
from eigencore_demo.quadratic import make


@pytest.mark.parametrize(("n", "outliers"), [(1, 0), (1, 1), (2, 1), (60, 10), (200, 0), (200, 25)])
def test_the_spectrum_is_exact(n, outliers):
    problem = make(n=n, outliers=outliers)
    A = problem.operator.matmat(np.eye(n))
    np.testing.assert_allclose(A, A.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.linalg.eigvalsh(A)[::-1], problem.spectrum, rtol=0, atol=1e-12)


def test_products_of_vectors_and_blocks_agree():
    operator = make(n=50).operator
    V = np.random.default_rng(0).standard_normal((50, 4))
    columns = np.stack([operator.matvec(V[:, i]) for i in range(4)], axis=1)
    np.testing.assert_allclose(operator.matmat(V), columns, rtol=0, atol=1e-13)


def test_the_spectrum_resembles_that_of_a_hessian():
    values = make().spectrum
    assert len(values) == 2000
    assert (values[:10] >= 4).all()
    assert values[10] <= 1
    assert -0.5 < values[-1] < 0
    assert np.median(np.abs(values)) < 0.2


def test_the_seed_changes_the_vectors_and_keeps_the_values():
    first, same, other = make(n=40), make(n=40, seed=0), make(n=40, seed=1)
    v = np.ones(40)
    np.testing.assert_array_equal(first.operator.matvec(v), same.operator.matvec(v))
    assert not np.allclose(first.operator.matvec(v), other.operator.matvec(v))
    np.testing.assert_array_equal(first.spectrum, other.spectrum)


def test_eigenvectors_are_spread_over_the_coordinates():
    """A solver that starts from a coordinate vector must not start at the solution."""
    _, vectors = np.linalg.eigh(make(n=60).operator.matmat(np.eye(60)))
    assert np.abs(vectors[:, -10:]).max() < 0.999


def test_its_keywords_can_be_set_from_the_command_line():
    assert [(spec.name, spec.types, spec.default) for spec in describe_keywords(make)] == [
        ("n", (int,), 2000),
        ("outliers", (int,), 10),
        ("seed", (int,), 0),
    ]


@pytest.mark.parametrize("keywords", [{"n": 0}, {"outliers": -1}, {"seed": -1}, {"n": 5, "outliers": 6}])
def test_arguments_out_of_range_are_refused(keywords):
    with pytest.raises(OptionError, match="problem"):
        make(**keywords)


def test_the_description_reports_the_arguments():
    assert make(n=1234, outliers=3).description.startswith("quadratic of 1,234 weights · 3 outliers")
