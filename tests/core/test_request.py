"""A request says which eigenvalues to compute, in which order and how accurately, for every solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigencore.errors import UsageError
from eigencore.request import WHICH, Request, precision_floor

VALUES = np.array([0.5, -4.0, 3.0, 4.0, -0.1, -5.0, 2.0])


@pytest.mark.parametrize(
    ("which", "k", "expected"),
    [
        ("LM", 3, [-5.0, 4.0, -4.0]),  # of two values of equal magnitude, the positive one first
        ("LM", 1, [-5.0]),
        ("LA", 3, [4.0, 3.0, 2.0]),
        ("SA", 3, [-5.0, -4.0, -0.1]),
        ("BE", 4, [4.0, 3.0, -4.0, -5.0]),
        ("BE", 3, [4.0, 3.0, -5.0]),  # odd: one more of the upper end
        ("BE", 2, [4.0, -5.0]),
        ("BE", 1, [4.0]),
        ("BE", 20, [4.0, 3.0, 2.0, 0.5, -0.1, -4.0, -5.0]),
        ("LM", 20, [-5.0, 4.0, -4.0, 3.0, 2.0, 0.5, -0.1]),
    ],
)
def test_the_requested_values_are_selected_in_order(which, k, expected):
    assert VALUES[Request(k=k, which=which).order(VALUES)].tolist() == expected


@given(
    st.lists(st.floats(-100, 100, allow_subnormal=False), max_size=12),
    st.sampled_from(list(WHICH)),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_the_selection_does_not_depend_on_the_order_of_the_values(values, which, k, random):
    request = Request(k=k, which=which)
    chosen = np.array(values)[request.order(np.array(values))]
    assert len(chosen) == min(k, len(values))
    random.shuffle(values)
    np.testing.assert_array_equal(np.array(values)[request.order(np.array(values))], chosen)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12, unique_by=abs), st.integers(1, 8))
def test_changing_the_sign_exchanges_the_ends(values, k):
    values = np.array(values)
    for which, other in (("LA", "SA"), ("SA", "LA"), ("LM", "LM")):
        negated = -values[Request(k=k, which=which).order(values)]
        np.testing.assert_array_equal(-values[Request(k=k, which=other).order(-values)], negated)


def test_the_threshold_is_relative_to_the_value_or_the_floor():
    thresholds = Request(tol=1e-3).thresholds(np.array([100.0, -2.0, 0.0]), floor=1e-2)
    np.testing.assert_array_equal(thresholds, [1e-3 * 100, 1e-2, 1e-2])
    assert precision_floor(1e-7, 50.0) == pytest.approx(2e-5)


def test_numbers_of_other_libraries_become_python_numbers():
    request = Request(k=np.int64(3), tol=np.float32(0.5), seed=np.uint8(7))
    assert request == Request(k=3, tol=0.5, seed=7)
    assert [type(value) for value in (request.k, request.tol, request.seed)] == [int, float, int]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"k": 0}, "k is 0; expected a whole number of at least 1"),
        ({"k": -3}, "k is -3"),
        ({"k": 2.0}, "k is 2.0"),
        ({"k": np.float32(2)}, f"k is {np.float32(2)!r}; expected a whole number"),
        ({"k": True}, "k is True"),
        ({"k": "5"}, "k is '5'"),
        ({"k": None}, "k is None"),
        ({"k": np.array([1, 2])}, "k is array([1, 2])"),
        (
            {"which": "lm"},
            "expected one of LM (largest magnitude), LA (largest), SA (smallest), BE (both ends)",
        ),
        ({"which": None}, "which is None"),
        ({"tol": 0}, "tol is 0; expected a number above 0 and below 1"),
        ({"tol": 1.0}, "tol is 1.0"),
        ({"tol": -1e-3}, "tol is -0.001"),
        ({"tol": float("nan")}, "tol is nan"),
        ({"tol": True}, "tol is True"),
        ({"tol": "1e-3"}, "tol is '1e-3'"),
        ({"seed": -1}, "seed is -1; expected a whole number of at least 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_an_invalid_request_is_refused(keywords, words):
    with pytest.raises(UsageError) as raised:
        Request(**keywords)
    assert words in str(raised.value)


def test_more_eigenvalues_than_the_operator_has_are_refused():
    Request(k=5).check_size(5)
    with pytest.raises(UsageError, match="k is 5, but the operator has only 4 eigenvalues") as raised:
        Request(k=5).check_size(4)
    assert raised.value.hint == "Ask for k <= 4."


@pytest.mark.parametrize("start", [np.ones(4), np.ones((4, 1)), np.ones((4, 3))])
def test_a_start_is_a_vector_or_a_block(start):
    Request(k=1, start=start).check_size(4)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (
            np.ones(3),
            "start has shape (3,); expected an array of shape (4,), or (4, b) with one vector per column",
        ),
        (np.ones((3, 4)), "start has shape (3, 4)"),
        (np.ones((4, 1, 1)), "start has shape (4, 1, 1)"),
        (np.ones(()), "start has shape ()"),
        ([1.0] * 4, "start is of type list"),
    ],
)
def test_a_start_of_another_shape_is_refused(start, words):
    with pytest.raises(UsageError) as raised:
        Request(k=1, start=start).check_size(4)
    assert words in str(raised.value)
