"""The figures of the spectrum: their numbers are those of the columns and of the known eigenpairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.figures import Figure, check_figure
from eigencore_spectrum.course import Course
from eigencore_spectrum.diagonal import POINTS
from eigencore_spectrum.intervals import IntervalEstimate


def matrix(n: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = Q * np.concatenate([[40.0, 20.0], np.linspace(-1, 1, n - 2)]) @ Q.T
    return np.asarray((A + A.T) / 2)


def drawable(result: Any) -> tuple[Figure, ...]:
    for figure in result.figures:
        check_figure(figure)
        assert figure.caption.endswith(".")
    return tuple(result.figures)


def test_the_density_is_that_of_the_columns() -> None:
    A = matrix(300)
    found = eigencore.density(A, k=2, probes=3, steps=20, confidence=0.9)
    density, share = drawable(found)
    columns = found.columns
    assert np.array_equal(density.series["x"], columns["grid"])
    assert np.array_equal(density.series["density"], columns["density"])
    at, heights = density.atoms["known eigenvalues"]
    np.testing.assert_allclose(np.sort(at), [20, 40], rtol=1e-3)
    assert heights.tolist() == [1 / 300] * 2
    assert np.array_equal(share.series["share"], columns["cdf"])
    for end, name in zip(share.bands["share"], ("low", "high"), strict=True):
        assert np.array_equal(end, columns[name])
    assert "300 eigenvalues, from 3 random vectors" in density.caption
    assert "there are 2" in density.caption
    assert "90 % confidence" in share.caption


def test_without_known_eigenvalues_the_caption_names_none() -> None:
    density, _ = drawable(eigencore.density(matrix(100), k=0, probes=2, steps=10))
    assert not density.atoms
    assert "Known" not in density.caption
    assert "from 2 random vectors." in density.caption


def test_the_course_of_the_trace_is_that_of_the_columns() -> None:
    found = eigencore.trace(matrix(300), k=0, products=30, rtol=None)
    (figure,) = drawable(found)
    assert figure.kind == "line"
    assert np.array_equal(figure.series["x"], found.columns["products"])
    assert np.array_equal(figure.series["trace"], found.columns["trace"])
    for end, name in zip(figure.bands["trace"], ("low", "high"), strict=True):
        assert np.array_equal(end, found.columns[name])


def test_a_single_estimate_of_the_trace_is_a_point() -> None:
    course = Course("products")
    course.add(5, IntervalEstimate(2.0, 1.0))
    (figure,) = drawable(course.result(verdict="", title="", numbers={"confidence": 0.95}, tables={}))
    assert figure.kind == "scatter"
    assert (figure.series["x"], figure.series["trace"]) == ([5], [2.0])


def test_estimates_without_an_interval_are_counted() -> None:
    course = Course("draws")
    course.add(10, IntervalEstimate(2.0, 1.0), refused=True)
    course.add(20, IntervalEstimate(3.0, 1.0))
    (figure,) = drawable(course.result(verdict="", title="", numbers={"confidence": 0.95}, tables={}))
    assert np.array_equal(figure.bands["trace"], [[np.nan, 2.0], [np.nan, 4.0]], equal_nan=True)
    assert "1 of 2 estimates have none" in figure.caption


@pytest.mark.parametrize("n", [60, 1000])
def test_the_diagonal_is_that_of_the_columns_in_decreasing_order(n: int) -> None:
    found = eigencore.diagonal(matrix(n), k=0, products=20)
    (figure,) = drawable(found)
    ranks = figure.series["x"]
    assert (ranks[0], ranks[-1]) == (1, n)
    assert len(ranks) <= min(POINTS, n)
    order = np.argsort(-found.columns["diagonal"])[ranks - 1]
    assert np.array_equal(figure.series["diagonal"], found.columns["diagonal"][order])
    for end, name in zip(figure.bands["diagonal"], ("low", "high"), strict=True):
        np.testing.assert_allclose(end, found.columns[name][order])
    assert f"{n:,} entries" in figure.caption
    assert f"({len(ranks)} of them" in figure.caption


def test_an_exact_diagonal_has_no_band() -> None:
    A = matrix(40)
    (figure,) = drawable(eigencore.diagonal(A, k=0))
    np.testing.assert_allclose(figure.series["diagonal"], np.sort(np.diag(A))[::-1][figure.series["x"] - 1])
    assert not figure.bands
    assert "The values of 40 entries" in figure.caption


@pytest.mark.parametrize("n", [60, 1000])
def test_the_effective_dimension_is_that_of_the_table_and_of_the_eigenvalues(n: int) -> None:
    A = matrix(n)
    found = eigencore.norms(A, k=2, probes=6, steps=20, damping=0.5)
    (figure,) = drawable(found)
    x, dimension = figure.series["x"], figure.series["effective dimension"]
    row = next(row for row in found.tables["norms"].rows if row[0] == "effective dimension")
    at = list(x).index(0.5)
    assert dimension[at] == row[1]
    sizes = np.abs(np.linalg.eigvalsh(A))
    exact = (sizes / (sizes + x[:, None])).sum(axis=1)
    assert [(one.axis, one.value) for one in figure.references] == [("x", 0.5)]
    if n == 60:  # all eigenvalues are computed
        np.testing.assert_allclose(dimension, exact, rtol=1e-9)
        assert not figure.bands
        return
    low, high = figure.bands["effective dimension"]
    assert (low[at], high[at]) == row[2:]
    assert ((low <= exact) & (exact <= high)).all()


def test_a_zero_matrix_has_no_effective_dimension_to_draw() -> None:
    assert eigencore.norms(np.zeros((5, 5)), k=0).figures == ()


def test_the_sharpness_of_minibatches_is_that_of_the_columns() -> None:
    pytest.importorskip("sklearn")
    for largest in (True, False):
        run = eigencore.analyze(
            "demo:digits-numpy",
            k=1,
            analyses="batch_sharpness",
            options={"batch_sharpness": {"draws": 3, "largest": largest}},
        )
        found = run.analyses["batch_sharpness"]
        (figure,) = drawable(found)
        assert np.array_equal(figure.series["along its gradient"], found.columns["sharpness"])
        assert ("largest eigenvalue" in figure.series) == largest
        if largest:
            assert np.array_equal(figure.series["largest eigenvalue"], found.columns["lambda_max"])
        assert [one.value for one in figure.references] == [run.eigen.values[0]]
        assert "3 random minibatches" in figure.caption
