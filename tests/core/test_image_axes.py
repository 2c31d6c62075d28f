"""Which axis of an input counts its channels, and rows as images with the channels first."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from eigencore.errors import ProblemError, UsageError
from eigencore.operators import as_operator
from eigencore.problems.sharing import (
    ImageAxes,
    bounds_of_rows,
    channel_axis,
    check_channels,
    infer_channel_axis,
)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((), None), ((7,), None), ((28, 28), None), ((3, 100), None)),
        *(((1, 28, 28), 0), ((3, 32, 32), 0), ((4, 8, 8), 0), ((3, 4, 4), 0)),
        *(((28, 28, 1), 2), ((32, 32, 3), 2), ((8, 9, 4), 2), ((16, 32, 32, 3), 3)),
    ],
)
@pytest.mark.parametrize("usual", ["first", "last"])
def test_the_shape_decides_if_one_end_alone_can_be_the_channels(shape, axis, usual):
    assert infer_channel_axis(shape, usual=usual) == axis


@pytest.mark.parametrize("shape", [(16, 8, 8), (8, 8, 16), (3, 3, 3), (3, 32, 3), (2, 8, 8), (1, 1, 5)])
def test_otherwise_the_usual_axis_of_the_library_does(shape):
    assert infer_channel_axis(shape) == 0
    assert infer_channel_axis(shape, usual="last") == 2


@pytest.mark.parametrize("shape", [(3, 32, 32), (32, 32, 3), (16, 100)])
def test_what_the_problem_states_comes_first(shape):
    assert infer_channel_axis(shape, "first", usual="last") == 0
    assert infer_channel_axis(shape, "last", usual="first") == len(shape) - 1


def test_what_cannot_be_stated_is_refused():
    with pytest.raises(UsageError, match="channels is 'middle'; expected 'first', 'last' or None"):
        check_channels("middle")
    with pytest.raises(ProblemError, match=r"inputs of shape \(7,\) have no axis of channels") as caught:
        infer_channel_axis((7,), "first")
    assert caught.value.hint is not None


def test_a_classifier_without_the_attribute_is_one_of_its_shape():
    assert channel_axis(SimpleNamespace(shape=(32, 32, 3))) == 2
    assert channel_axis(SimpleNamespace(shape=(32, 32, 3), channel_axis=None)) is None


@pytest.mark.parametrize(
    ("shape", "axis", "sizes"),
    [
        *(((), None, (1, 1, 1)), ((6,), None, (1, 1, 6)), ((4, 5), None, (1, 4, 5))),
        *(((3, 4, 5), 0, (3, 4, 5)), ((4, 5, 3), 2, (3, 4, 5)), ((4, 3, 5), 1, (3, 4, 5))),
        *(((2, 6), 0, (2, 1, 6)), ((6, 2), 1, (2, 1, 6))),
        *(((2, 3, 4, 5), 0, (2, 1, 60)), ((3, 4, 5, 2), 3, (2, 1, 60)), ((3, 4, 5), None, (1, 1, 60))),
    ],
)
def test_rows_are_images_with_the_channels_first_and_back(shape, axis, sizes, array_library):
    axes, d = ImageAxes(shape, axis), int(np.prod(shape))
    assert axes.sizes == sizes
    host = np.arange(2.0 * d).reshape(2, d)
    rows = array_library.array(host)
    images = axes.images(rows)
    expected = host.reshape(2, *shape) if axis is None else np.moveaxis(host.reshape(2, *shape), axis + 1, 1)
    np.testing.assert_array_equal(np.asarray(images), expected.reshape(2, *sizes))
    np.testing.assert_array_equal(np.asarray(axes.rows(images)), host)


def test_bounds_of_each_channel_are_those_of_its_axis():
    space = as_operator(np.eye(2))
    low, _ = bounds_of_rows(([0, 1, 2], 5), (4, 5, 3), space, channel_axis=2)
    np.testing.assert_array_equal(low.reshape(4, 5, 3)[1, 2], [0, 1, 2])
    with pytest.raises(ProblemError, match=r"bounds of shape \(4,\) do not fit") as caught:
        bounds_of_rows(([0] * 4, 5), (4, 5, 3), space, channel_axis=2)
    assert "(1, 1, 3)" in caught.value.hint
