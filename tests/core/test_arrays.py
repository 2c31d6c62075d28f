"""Transfers between the host and array libraries preserve numbers; norms are correct at extreme scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eigencore import arrays
from eigencore.operators import FunctionOperator, as_operator
from kit.read_only import read_only_operator


@pytest.fixture
def operator(array_library):
    return as_operator(array_library.array(np.eye(4)))


SHAPES = [(), (1,), (5,), (3, 4), (4, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_round_trip_preserves_the_array(operator, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    x = x.astype(np.float32).astype(np.float64)  # so that both precisions can represent it
    array = arrays.from_host(x, operator)
    assert (tuple(array.shape), array.dtype) == (shape, operator.dtype)
    assert arrays.device_of(array) == operator.device
    back = arrays.to_host(array)
    assert (type(back), back.dtype) == (np.ndarray, np.float64)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    "layout", [np.transpose, np.flip, lambda x: x[::2, 1:], np.asfortranarray], ids=["T", "flip", "cut", "F"]
)
def test_any_memory_layout_is_transferred(operator, layout):
    x = layout(np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(arrays.to_host(arrays.from_host(x, operator)), x)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (1, 4), (4, 1)], ids=str)
def test_bytes_give_the_same_array_in_the_same_layout_again(operator, shape, transposed):
    x = arrays.from_host(np.random.default_rng(0).standard_normal(shape), operator)
    x = x.T if transposed and len(shape) == 2 else x
    column_major = arrays.is_column_major(x)
    written = bytearray(arrays.native_bytes(x.T if column_major else x))
    dtype = str(x.dtype).rpartition(".")[2]
    again = arrays.from_native_bytes(written, dtype, tuple(x.shape), operator, column_major=column_major)
    assert (again.shape, again.dtype, arrays.device_of(again)) == (x.shape, x.dtype, arrays.device_of(x))
    assert arrays.is_column_major(again) == column_major
    assert arrays.native_bytes(again) == arrays.native_bytes(x)
    if min(shape) > 1 and not isinstance(x, np.ndarray):  # memory of its own
        written[:] = bytes(len(written))
        assert arrays.native_bytes(again) == arrays.native_bytes(x)


def test_copies_share_no_memory(operator):
    x = np.arange(4.0)
    x.setflags(write=False)
    array = arrays.from_host(x, operator)
    back = arrays.to_host(array)
    nine = arrays.from_host(np.array(9.0), operator)
    assert arrays.to_host(arrays.write(array, 0, nine))[0] == 9
    assert x[0] == back[0] == 0
    back[1] = 7
    assert arrays.to_host(array)[1] == 1


def test_arrays_are_writeable_unless_their_library_forbids_it(operator, array_library):
    assert arrays.writeable(operator) == (array_library.name != "jax")
    assert not arrays.writeable(read_only_operator(np.eye(4)))


def test_writing_changes_only_the_given_index(operator):
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


def test_arrays_are_recognised(operator):
    assert arrays.is_array(arrays.zeros((2,), operator))
    assert not arrays.is_array([1.0])
    assert not arrays.is_array(1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32", "float64", "int64", "bool"])
def test_tensors_of_any_type_are_transferred_without_their_graph(precision):
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, 0.0, 1.0]]).to(getattr(torch, precision))
    if x.is_floating_point():
        x = x.requires_grad_() * 1.5
    expected = [[1.5, 0, 1.5]] if x.is_floating_point() else [[1, 0, 1]]
    host = arrays.to_host(x)
    assert host.dtype == np.float64
    np.testing.assert_array_equal(host, expected)
    np.testing.assert_array_equal(arrays.to_host(x.T), host.T)


def test_a_round_trip_preserves_half_precision():
    torch = pytest.importorskip("torch")
    import array_api_compat.torch as xp

    operator = FunctionOperator(lambda v: v, 3, xp=xp, dtype=torch.bfloat16, device="cpu")
    array = arrays.from_host(np.array([1.0, -2.5, 0.0]), operator)
    assert array.dtype is torch.bfloat16
    np.testing.assert_array_equal(arrays.to_host(array), [1.0, -2.5, 0.0])
    assert arrays.norm(array) == pytest.approx(math.sqrt(7.25), rel=arrays.eps(operator))
    assert arrays.eps(operator) == 2**-7


def test_several_arrays_are_transferred_at_once(operator, monkeypatch):
    calls = []
    to_host = arrays.to_host
    monkeypatch.setattr(arrays, "to_host", lambda x: (calls.append(x), to_host(x))[1])
    given = [np.array(2.0), np.arange(6.0).reshape(2, 3), np.zeros((0, 2)), np.array([5.0])]
    found = arrays.to_host_at_once(*(arrays.from_host(x, operator) for x in given))
    assert len(calls) == 1
    for one, expected in zip(found, given, strict=True):
        assert one.shape == expected.shape
        np.testing.assert_array_equal(one, expected)


def test_arrays_on_a_processor_are_recognised(operator):
    assert arrays.on_processor(arrays.zeros((2,), operator))


# -- norms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-10, 1.0, 1e10, 1e17, 1e30, 2e37])
def test_the_norm_is_right_at_any_scale(operator, scale):
    x = scale * np.random.default_rng(0).standard_normal(1000)
    array = arrays.from_host(x, operator)
    expected = math.sqrt(math.fsum((arrays.to_host(array) / scale) ** 2)) * scale
    assert arrays.norm(array) == pytest.approx(expected, rel=100 * arrays.eps(operator))


def test_the_norm_of_one_tiny_number_and_of_no_numbers(operator):
    tiny = float(operator.xp.finfo(operator.dtype).smallest_normal)
    assert arrays.norm(arrays.from_host(np.array([0.0, -tiny]), operator)) == tiny
    assert arrays.norm(arrays.zeros((3,), operator)) == 0
    assert arrays.norm(arrays.zeros((0,), operator)) == 0


def test_the_norm_of_a_block_is_the_frobenius_norm(operator):
    x = np.random.default_rng(0).standard_normal((20, 3))
    for scale in (1.0, 1e30):
        norm = arrays.norm(arrays.from_host(scale * x, operator))
        assert norm == pytest.approx(scale * np.linalg.norm(x), rel=100 * arrays.eps(operator))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_norm_of_non_finite_numbers_is_not_finite(operator, bad):
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
def test_an_array_is_finite_if_every_number_is(operator, numbers, finite):
    assert arrays.is_finite(arrays.from_host(np.array(numbers), operator)) is finite


# -- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [lambda x: x, np.transpose, np.flip, lambda x: x[::2, 1:]])
def test_native_bytes_are_those_of_the_array_in_its_own_type(operator, layout):
    x = layout(np.arange(12.0).reshape(4, 3))
    array = arrays.from_host(x, operator)
    expected = np.ascontiguousarray(x, dtype=str(operator.dtype).rpartition(".")[2]).tobytes()
    assert bytes(arrays.native_bytes(array)) == expected


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "complex64", "U3", "datetime64[s]"])
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 2)], ids=str)
def test_native_bytes_of_any_numpy_type(dtype, shape):
    x = np.zeros(shape, dtype=dtype)
    assert bytes(arrays.native_bytes(x)) == x.tobytes()


def test_a_contiguous_array_is_not_copied_for_its_bytes():
    x = np.zeros((3, 4))
    view = arrays.native_bytes(x)
    x[0, 0] = 1.0
    assert bytes(view) == x.tobytes()


def test_trimmed_arrays_keep_no_larger_array(operator):
    whole = arrays.from_host(np.arange(12.0).reshape(4, 3), operator)
    for view in (whole[:2, :], whole.T[:, :1]):
        cut = arrays.trimmed(view)
        np.testing.assert_array_equal(arrays.to_host(cut), arrays.to_host(view))
        if isinstance(cut, np.ndarray):
            assert cut.base is None
        elif hasattr(cut, "untyped_storage"):
            assert cut.untyped_storage().nbytes() == cut.nbytes
    assert arrays.trimmed(whole) is whole
    turned = whole.T
    assert arrays.trimmed(turned) is turned
