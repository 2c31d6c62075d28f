"""What crosses between the host and an array library comes over whole, and norms survive extreme scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eigencore import arrays
from eigencore.operators import FunctionOperator, as_operator


@pytest.fixture
def operator(array_library):
    return as_operator(array_library.array(np.eye(4)))


SHAPES = [(), (1,), (5,), (3, 4), (4, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_over_and_back_is_the_same(operator, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    x = x.astype(np.float32).astype(np.float64)  # so that both precisions hold it
    over = arrays.from_host(x, operator)
    assert (tuple(over.shape), over.dtype) == (shape, operator.dtype)
    assert arrays.device_of(over) == operator.device
    back = arrays.to_host(over)
    assert (type(back), back.dtype) == (np.ndarray, np.float64)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    "twist", [np.transpose, np.flip, lambda x: x[::2, 1:], np.asfortranarray], ids=["T", "flip", "cut", "F"]
)
def test_any_memory_layout_comes_over(operator, twist):
    x = twist(np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(arrays.to_host(arrays.from_host(x, operator)), x)


def test_neither_side_shares_memory_with_the_other(operator):
    x = np.arange(4.0)
    x.setflags(write=False)
    over = arrays.from_host(x, operator)
    back = arrays.to_host(over)
    nine = arrays.from_host(np.array(9.0), operator)
    assert arrays.to_host(arrays.write(over, 0, nine))[0] == 9
    assert x[0] == back[0] == 0
    back[1] = 7
    assert arrays.to_host(over)[1] == 1


def test_writing_puts_the_value_there_and_nowhere_else(operator):
    x = arrays.zeros((4, 3), operator)
    block = arrays.from_host(np.ones((2, 3)), operator)
    x = arrays.write(x, (slice(1, 3), slice(None)), block)
    np.testing.assert_array_equal(arrays.to_host(x), [[0] * 3, [1] * 3, [1] * 3, [0] * 3])


def test_random_numbers_are_the_same_in_every_library(operator):
    drawn = arrays.random_normal(np.random.default_rng(3), (50, 2), operator)
    assert drawn.dtype == operator.dtype
    expected = np.random.default_rng(3).standard_normal((50, 2))
    np.testing.assert_allclose(arrays.to_host(drawn), expected, rtol=arrays.eps(operator))


def test_the_rounding_unit_is_that_of_the_precision(operator, array_library):
    assert arrays.eps(operator) == np.finfo(array_library.precision).eps


def test_what_counts_as_an_array(operator):
    assert arrays.is_array(arrays.zeros((2,), operator))
    assert not arrays.is_array([1.0])
    assert not arrays.is_array(1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32", "float64", "int64", "bool"])
def test_tensors_of_any_type_come_to_the_host_without_their_graph(precision):
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, 0.0, 1.0]]).to(getattr(torch, precision))
    if x.is_floating_point():
        x = x.requires_grad_() * 1.5
    expected = [[1.5, 0, 1.5]] if x.is_floating_point() else [[1, 0, 1]]
    host = arrays.to_host(x)
    assert host.dtype == np.float64
    np.testing.assert_array_equal(host, expected)
    np.testing.assert_array_equal(arrays.to_host(x.T), host.T)


def test_half_precision_goes_over_and_back():
    torch = pytest.importorskip("torch")
    import array_api_compat.torch as xp

    operator = FunctionOperator(lambda v: v, 3, xp=xp, dtype=torch.bfloat16, device="cpu")
    over = arrays.from_host(np.array([1.0, -2.5, 0.0]), operator)
    assert over.dtype is torch.bfloat16
    np.testing.assert_array_equal(arrays.to_host(over), [1.0, -2.5, 0.0])
    assert arrays.norm(over) == pytest.approx(math.sqrt(7.25), rel=arrays.eps(operator))
    assert arrays.eps(operator) == 2**-7


# -- norms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-10, 1.0, 1e10, 1e17, 1e30, 2e37])
def test_the_norm_is_right_at_any_scale(operator, scale):
    x = scale * np.random.default_rng(0).standard_normal(1000)
    over = arrays.from_host(x, operator)
    expected = math.sqrt(math.fsum((arrays.to_host(over) / scale) ** 2)) * scale
    assert arrays.norm(over) == pytest.approx(expected, rel=100 * arrays.eps(operator))


def test_the_norm_of_one_tiny_number_and_of_nothing(operator):
    tiny = float(operator.xp.finfo(operator.dtype).smallest_normal)
    assert arrays.norm(arrays.from_host(np.array([0.0, -tiny]), operator)) == tiny
    assert arrays.norm(arrays.zeros((3,), operator)) == 0
    assert arrays.norm(arrays.zeros((0,), operator)) == 0


def test_the_norm_of_a_block_is_frobenius(operator):
    x = np.random.default_rng(0).standard_normal((20, 3))
    for scale in (1.0, 1e30):
        norm = arrays.norm(arrays.from_host(scale * x, operator))
        assert norm == pytest.approx(scale * np.linalg.norm(x), rel=100 * arrays.eps(operator))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_does_not_hide_what_is_not_finite(operator, bad):
    assert not math.isfinite(arrays.norm(arrays.from_host(np.array([1.0, bad, 2.0]), operator)))


@pytest.mark.parametrize(
    ("numbers", "finite"),
    [
        ([1.0, -2.0], True),
        ([0.0], True),
        ([], True),
        ([3e38] * 10, True),
        ([3e38] * 5 + [-3e38] * 5, True),
        ([1.0, np.nan], False),
        ([np.inf, 1.0], False),
        ([np.inf, -np.inf], False),
        ([3e38] * 10 + [-np.inf], False),
    ],
)
def test_finite_means_every_number(operator, numbers, finite):
    assert arrays.is_finite(arrays.from_host(np.array(numbers), operator)) is finite
