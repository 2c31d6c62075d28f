"""Anything that multiplies becomes an operator, and operations on operators match those on their matrices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse import linalg as sparse_linalg

import eigencore
from eigencore import arrays
from eigencore.errors import OperatorError, UsageError
from eigencore.interfaces import CachingOperator, MinibatchOperator
from eigencore.operators import FunctionOperator, WeightOperator, as_operator, release
from eigencore.operators.algebra import add, congruence, multiply, project, restrict, shift
from eigencore.operators.counting import counting

N = 12


def symmetric(seed: int = 0, n: int = N) -> np.ndarray:
    A = np.random.default_rng(seed).standard_normal((n, n))
    return (A + A.T) / 2


def dense(operator) -> np.ndarray:
    """The operator's matrix on the host, column by column; checks that products with blocks are the same."""
    identity = arrays.from_host(np.eye(operator.shape[0]), operator)
    columns = [operator.matvec(identity[:, i]) for i in range(operator.shape[0])]
    block = operator.matmat(identity)
    for product in (*columns, block):
        assert product.dtype == operator.dtype
    one_by_one = np.stack([arrays.to_host(column) for column in columns], axis=1)
    np.testing.assert_allclose(arrays.to_host(block), one_by_one, atol=20 * arrays.eps(operator))
    return one_by_one


def assert_is(operator, matrix: np.ndarray) -> None:
    assert operator.shape == matrix.shape
    scale = float(np.max(np.abs(matrix), initial=1.0))
    np.testing.assert_allclose(dense(operator), matrix, atol=100 * arrays.eps(operator) * scale)


# -- conversion --------------------------------------------------------------------------------------------


class Multiplies:
    """An operator of another library, with only `shape` and `@`."""

    shape = (N, N)

    def __init__(self, A):
        self.A = A

    def __matmul__(self, V):
        return self.A @ V


def test_a_square_array_of_any_library(array_library):
    operator = as_operator(array_library.array(symmetric()))
    assert operator.dtype == array_library.dtype
    assert_is(operator, symmetric())


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        np.asmatrix,
        np.asfortranarray,
        scipy.sparse.csr_array,
        scipy.sparse.coo_matrix,
        scipy.sparse.dia_array,
        sparse_linalg.aslinearoperator,
        Multiplies,
        lambda A: sparse_linalg.LinearOperator(A.shape, lambda v: np.float64(1) * A @ v, dtype=A.dtype),
    ],
    ids=["array", "matrix", "fortran", "csr", "coo", "dia", "linear-operator", "shape-and-@", "widening"],
)
def test_anything_that_multiplies_on_the_host(wrap, dtype):
    A = symmetric().astype(dtype)
    operator = as_operator(wrap(A))
    assert operator.dtype == (np.float64 if wrap is Multiplies else dtype)
    v = np.ones(N, dtype=operator.dtype)
    assert type(operator.matvec(v)) is np.ndarray
    assert operator.matvec(v).shape == (N,)
    assert_is(operator, A.astype(np.float64))


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array], ids=["array", "csr"])
def test_whole_numbers_are_multiplied_in_float64(wrap):
    A = np.arange(9).reshape(3, 3) + np.arange(9).reshape(3, 3).T
    operator = as_operator(wrap(A))
    assert operator.dtype == np.float64
    assert_is(operator, A.astype(np.float64))


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array, Multiplies], ids=["array", "csr", "@"])
def test_the_given_dtype_is_used(wrap):
    operator = as_operator(wrap(symmetric()), dtype=np.float32)
    assert operator.dtype == np.float32
    assert operator.matvec(np.ones(N, dtype=np.float32)).dtype == np.float32


@pytest.mark.parametrize("dtype", [None, np.float32, "float32", np.float64])
def test_a_function_on_numpy_vectors(dtype):
    A = symmetric()
    operator = as_operator(lambda v: A @ v, n=np.int64(N), dtype=dtype)
    assert operator.dtype == np.dtype(dtype or np.float64)
    assert_is(operator, A)


def test_tensors_and_functions_of_tensors():
    torch = pytest.importorskip("torch")
    A = torch.tensor(symmetric(), dtype=torch.float32)
    weights = A.clone().requires_grad_()
    for given in (A, weights, A.to_sparse(), Multiplies(weights)):
        operator = as_operator(given, dtype=torch.float32 if isinstance(given, Multiplies) else None)
        assert operator.dtype is torch.float32
        assert not operator.matvec(torch.ones(N)).requires_grad
        assert_is(operator, symmetric())
    operator = as_operator(lambda v: weights.double() @ v.double(), n=N, dtype=torch.float32)
    product = operator.matvec(torch.ones(N))
    assert (product.dtype, product.requires_grad) == (torch.float32, False)
    assert_is(operator, symmetric())


def test_a_function_works_in_the_space_of_an_array_or_an_operator(array_library):
    A = array_library.array(symmetric())
    for like in (A, A[0, :0], as_operator(A)):
        operator = as_operator(lambda v: A @ v, n=N, like=like)
        assert (operator.xp, operator.dtype) == (array_library.xp, array_library.dtype)
        assert operator.device == arrays.device_of(A)
        assert_is(operator, symmetric())


def test_an_object_with_at_works_in_the_space_of_an_array(array_library):
    A = array_library.array(symmetric())
    operator = as_operator(Multiplies(A), like=A)
    assert (operator.xp, operator.dtype) == (array_library.xp, array_library.dtype)
    assert_is(operator, symmetric())


def test_the_dtype_may_differ_from_that_of_like(array_library):
    for dtype in ("float32", array_library.xp.float32):
        like = array_library.xp.ones(1, dtype=array_library.xp.int32)  # JAX may have no float64
        operator = as_operator(lambda v: 2 * v, n=3, dtype=dtype, like=like)
        assert operator.dtype == array_library.xp.float32
        assert_is(operator, 2 * np.eye(3))


@pytest.mark.parametrize(
    ("A", "like", "dtype", "words"),
    [
        (abs, [1.0], None, "like is a list; expected an array or an operator"),
        (abs, np.float64, None, "like is a type; expected"),
        (abs, np.ones(1, int), None, "dtype is int64; expected a real floating type of numpy"),
        (abs, np.ones(1), "complex128", "dtype is complex128; expected a real"),
        (abs, np.ones(1), "float", "dtype is float; expected a real"),
        (abs, np.ones(1), 3, "dtype is 3; expected a real"),
        (np.eye(3), np.ones(1), None, "like can't be used: A is an array"),
        (as_operator(np.eye(3)), np.ones(1), None, "like can't be used: A is an operator"),
    ],
)
def test_a_wrong_like_is_refused(A, like, dtype, words):
    with pytest.raises(UsageError) as raised:
        as_operator(A, n=3, dtype=dtype, like=like)
    assert words in str(raised.value)


def test_a_type_of_another_library_than_like_is_refused():
    torch = pytest.importorskip("torch")
    for dtype in (np.float64, "no type", int, torch.int64):
        with pytest.raises(UsageError, match="expected a real floating type of torch"):
            as_operator(abs, n=3, dtype=dtype, like=torch.ones(1))


def test_operators_of_pytorch_in_the_manner_of_curvlinops():
    """They have `shape`, `dtype`, `device` and `@`; some only declare a data type."""
    torch = pytest.importorskip("torch")
    A = torch.tensor(symmetric())

    class Curvature(Multiplies):
        dtype, device = torch.float64, torch.device("cpu")

    class Declared(Multiplies):
        @property
        def dtype(self):
            raise NotImplementedError

        device = dtype

    for operator in (as_operator(Curvature(A)), as_operator(Declared(A), like=A)):
        assert (operator.dtype, operator.device) == (torch.float64, torch.device("cpu"))
        assert_is(operator, symmetric())
    assert as_operator(Declared(symmetric())).dtype == np.float64


def test_an_operator_of_curvlinops():
    torch = pytest.importorskip("torch")
    curvlinops = pytest.importorskip("curvlinops")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    data = [(torch.randn(n, 4).double(), torch.randint(2, (n,))) for n in (7, 4)]
    given = curvlinops.HessianLinearOperator(
        model, torch.nn.CrossEntropyLoss(), list(model.parameters()), data
    )
    operator = as_operator(given)
    n = sum(p.numel() for p in model.parameters())
    assert_is(operator, arrays.to_host(given @ torch.eye(n).double()))
    own = eigencore.operator(model, data, torch.nn.CrossEntropyLoss())
    np.testing.assert_allclose(dense(operator), dense(own), atol=1e-12)


def test_an_operator_is_returned_unchanged():
    operator = as_operator(symmetric())
    assert as_operator(operator) is operator


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ones((3, 4)), "shape (3, 4); expected a square shape"),
        (np.ones(3), "shape (3,)"),
        (np.ones((2, 3, 3)), "shape (2, 3, 3)"),
        (np.ones((0, 0)), "empty"),
        (scipy.sparse.csr_array((3, 4)), "shape (3, 4)"),
        (np.eye(3) * 1j, "complex"),
        (scipy.sparse.eye_array(3, dtype=complex), "complex"),
        (np.array([["a"]]), "expected real numbers"),
        ([[1.0]], "A is of type list; expected a linear operator"),
        ("matrix", "A is of type str; expected a linear operator"),
        (None, "A is of type NoneType; expected a linear operator"),
        (SimpleNamespace(shape=(3, 3)), "A is of type SimpleNamespace; expected a linear operator"),
        (SimpleNamespace(shape=(3, 3), dot=abs), "A is of type SimpleNamespace; expected a linear operator"),
    ],
)
def test_anything_else_is_refused(given, words):
    with pytest.raises(UsageError) as raised:
        as_operator(given)
    assert words in str(raised.value)


def test_an_operator_must_be_square():
    operator = FunctionOperator(abs, 3, xp=np, dtype=np.float64)
    operator.shape = (3, 4)
    with pytest.raises(UsageError, match="square"):
        as_operator(operator)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "needs the length"),
        ({"n": 0}, "empty"),
        ({"n": -1}, "empty"),
        ({"n": 2.5}, "n is 2.5"),
        ({"n": "3"}, "n is '3'"),
        ({"n": 3, "dtype": "float16"}, "expected float32 or float64"),
        ({"n": 3, "dtype": int}, "expected float32 or float64"),
        ({"n": 3, "dtype": complex}, "expected float32 or float64"),
        ({"n": 3, "dtype": "nonsense"}, "dtype is 'nonsense'"),
    ],
)
def test_a_function_needs_a_length_and_a_floating_type(keywords, words):
    with pytest.raises(UsageError) as raised:
        as_operator(abs, **keywords)
    assert words in str(raised.value)


def test_a_tensor_type_must_be_a_floating_type():
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match=r"torch\.int64"):
        as_operator(abs, n=3, dtype=torch.int64)
    with pytest.raises(UsageError, match="complex"):
        as_operator(torch.eye(3, dtype=torch.complex64))


# -- algebra -----------------------------------------------------------------------------------------------


@pytest.fixture(name="A")
def first(array_library):
    return as_operator(array_library.array(symmetric()))


@pytest.fixture(name="B")
def second(array_library):
    return as_operator(array_library.array(symmetric(1)))


def host(operator) -> np.ndarray:
    """The operator's matrix, rounded to its precision."""
    return dense(operator)


def test_sum(A, B):
    assert_is(add(A, B), host(A) + host(B))


@pytest.mark.parametrize("c", [0.0, -2.5, np.float64(1.5), np.float32(0.5), 3])
def test_multiple_and_shift(A, c):
    assert_is(multiply(A, c), float(c) * host(A))
    assert_is(shift(A, c), host(A) + float(c) * np.eye(N))


def test_congruence(A, array_library):
    d = np.linspace(-1, 2, N)
    assert_is(congruence(A, array_library.array(d)), d[:, None] * host(A) * d)
    assert_is(congruence(A, d), d[:, None] * host(A) * d)


@pytest.mark.parametrize("k", [1, 4, N])
def test_projection(A, array_library, k):
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((N, k)))[0]
    P = np.eye(N) - Q @ Q.T
    for V in (array_library.array(Q), Q):
        assert_is(project(A, V), P @ host(A) @ P)


@pytest.mark.parametrize(
    "where",
    [
        slice(3, 7),
        slice(None),
        slice(-4, None),
        slice(None, None, 3),
        slice(None, None, -1),
        [5],
        [7, 2, 11],
        [-1, 0],
        np.arange(N)[::-2],
        np.arange(N) % 3 == 0,
    ],
    ids=str,
)
def test_restriction(A, where):
    inside = np.arange(N)[where]
    assert_is(restrict(A, where), host(A)[np.ix_(inside, inside)])


def test_operations_can_be_combined(A, B):
    d = np.linspace(0.5, 2, N)
    combined = restrict(shift(add(congruence(A, d), multiply(B, -2.0)), 3.0), slice(2, 9))
    whole = d[:, None] * host(A) * d - 2 * host(B) + 3 * np.eye(N)
    assert_is(combined, whole[2:9, 2:9])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda A: add(A, as_operator(np.eye(N + 1))), "can't be added"),
        (lambda A: add(A, as_operator(np.eye(N, dtype=np.float32))), "can't be added"),
        (lambda A: congruence(A, np.ones(N - 1)), f"d has shape ({N - 1},); expected ({N},)"),
        (lambda A: congruence(A, np.ones((N, 1))), f"d has shape ({N}, 1)"),
        (lambda A: project(A, np.ones(N)), f"V has shape ({N},); expected ({N}, k)"),
        (lambda A: project(A, np.ones((3, N))), f"V has shape (3, {N})"),
        (lambda A: restrict(A, []), "0 indices"),
        (lambda A: restrict(A, slice(5, 5)), "0 indices"),
        (lambda A: restrict(A, [1, 1]), "2 indices; expected at least one, and no index twice"),
        (lambda A: restrict(A, [1, 1 - N]), "no index twice"),
        (lambda A: restrict(A, [N]), f"indices 0 to {N - 1}"),
        (lambda A: restrict(A, [1.5]), f"indices 0 to {N - 1}"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, words):
    with pytest.raises(UsageError) as raised:
        make(as_operator(symmetric()))
    assert words in str(raised.value)


# -- eigenvalues of derived operators ----------------------------------------------------------------------


def spectrum(operator) -> np.ndarray:
    return np.linalg.eigvalsh(dense(operator))


def test_eigenvalues_are_shifted_and_scaled(A, array_library):
    values, tolerance = spectrum(A), {"atol": 100 * array_library.eps}
    np.testing.assert_allclose(spectrum(shift(A, 7.0)), values + 7, **tolerance)
    np.testing.assert_allclose(spectrum(multiply(A, 3.0)), 3 * values, **tolerance)
    np.testing.assert_allclose(spectrum(multiply(A, -1.0)), -values[::-1], **tolerance)
    np.testing.assert_allclose(spectrum(add(A, A)), 2 * values, **tolerance)
    signs = np.where(np.arange(N) % 2 == 0, 1.0, -1.0)
    np.testing.assert_allclose(spectrum(congruence(A, signs)), values, **tolerance)
    np.testing.assert_allclose(spectrum(restrict(A, slice(None, None, -1))), values, **tolerance)


def test_projecting_out_eigenvectors_preserves_the_other_eigenvalues(A, array_library):
    values, vectors = np.linalg.eigh(host(A))
    remaining = spectrum(project(A, vectors[:, -3:]))
    np.testing.assert_allclose(remaining, np.sort([*values[:-3], 0, 0, 0]), atol=100 * array_library.eps)


def test_the_eigenvalues_of_a_restriction_interlace(A, array_library):
    values, tolerance = spectrum(A), 100 * array_library.eps
    inside = spectrum(restrict(A, slice(1, None)))
    assert np.all(values[:-1] <= inside + tolerance)
    assert np.all(inside <= values[1:] + tolerance)


# -- counting ----------------------------------------------------------------------------------------------


class Batches(FunctionOperator):
    """A mean of four matrices; a minibatch is one of them."""

    def __init__(self):
        self.parts = [symmetric(seed) for seed in range(4)]
        super().__init__(lambda v: sum(self.parts) @ v / 4, N, xp=np, dtype=np.dtype(np.float64))

    def minibatch(self, step, seed, batches=1):
        return as_operator(self.parts[(step + seed) % 4]), batches / 4


def test_every_column_counts_as_one_product(A):
    counted = counting(A)
    assert counted.matvecs == 0
    assert_is(counted, host(A))
    assert counted.matvecs == 2 * N  # N single products, and a block of N


def test_only_operators_with_minibatches_are_minibatch_operators():
    whole, batched = as_operator(symmetric()), Batches()
    assert not isinstance(whole, MinibatchOperator)
    assert not isinstance(counting(whole), MinibatchOperator)
    assert isinstance(batched, MinibatchOperator)
    assert isinstance(counting(batched), MinibatchOperator)
    assert isinstance(counting(counting(batched)), MinibatchOperator)


def test_a_minibatch_costs_its_share_of_the_data():
    counted = counting(Batches())
    sample, share = counted.minibatch(1, 0, 2)
    assert share == 0.5
    np.testing.assert_allclose(sample.matmat(np.eye(N)), symmetric(1))
    assert counted.matvecs == 0.5 * N
    np.testing.assert_array_equal(sample.matvec(np.ones(N)), symmetric(1) @ np.ones(N))
    assert counted.matvecs == 0.5 * (N + 1)
    counted.matvec(np.ones(N))
    assert counted.matvecs == 0.5 * (N + 1) + 1


def test_the_hooks_are_called_before_and_after_each_product():
    calls = []
    counted = counting(
        Batches(),
        before=lambda cost: calls.append(("before", cost, counted.matvecs)),
        after=lambda V, AV: calls.append(("after", V.shape, counted.matvecs)),
    )
    counted.matvec(np.ones(N))
    counted.matmat(np.ones((N, 3)))
    counted.minibatch(0, 0)[0].matmat(np.ones((N, 2)))
    assert calls == [
        ("before", 1.0, 0.0),
        ("after", (N,), 1.0),
        ("before", 3.0, 1.0),
        ("after", (N, 3), 4.0),
        ("before", 0.5, 4.0),
        ("after", (N, 2), 4.5),
    ]


def test_a_product_that_is_refused_or_fails_is_not_counted():
    class Enough(BaseException):
        pass

    def refuse(cost):
        raise Enough

    calls = []
    counted = counting(as_operator(calls.append, n=N), before=refuse)
    with pytest.raises(Enough):
        counted.matvec(np.ones(N))
    assert (calls, counted.matvecs) == ([], 0)

    def fail(v):
        raise RuntimeError("out of memory")

    counted = counting(as_operator(fail, n=N))
    with pytest.raises(OperatorError, match="a product failed: RuntimeError: out of memory") as raised:
        counted.matvec(np.ones(N))
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert counted.matvecs == 0


def test_an_error_of_eigencore_or_an_interruption_in_a_product_is_not_converted():
    for error in (UsageError("weights changed"), KeyboardInterrupt()):

        def fail(v, error=error):
            raise error

        with pytest.raises(type(error)) as raised:
            counting(as_operator(fail, n=N)).matvec(np.ones(N))
        assert raised.value is error


# -- what an operator keeps --------------------------------------------------------------------------------


def test_every_wrapper_passes_on_a_release():
    released = []
    n = 4

    def caching(name):
        def free(needed):
            released.append((name, needed))

        return FunctionOperator(lambda v: 2 * v, n, xp=np, dtype=np.float64, release=free)

    A, B = caching("A"), caching("B")
    for wrapped, names in (
        (A, "A"),
        (add(A, B), "AB"),
        (multiply(A, 2), "A"),
        (shift(A, 2), "A"),
        (congruence(A, np.ones(n)), "A"),
        (project(A, np.eye(n)[:, :1]), "A"),
        (restrict(A, [0, 2]), "A"),
        (restrict(A, slice(2)), "A"),
        (counting(shift(add(A, multiply(B, 3)), 1.0)), "AB"),
    ):
        for needed in (None, 7):
            released.clear()
            release(wrapped, needed=needed)
            assert released == [(name, needed) for name in names]


def test_an_operator_that_keeps_nothing_is_left_alone():
    class Plain:
        shape, xp, dtype, device = (2, 2), np, np.float64, "cpu"

        def matvec(self, v):
            return v

        matmat = matvec

    assert not isinstance(Plain(), CachingOperator)
    release(Plain(), counting(Plain()), as_operator(np.eye(2)), needed=10)


# -- products by @, and SciPy ------------------------------------------------------------------------------


def every_way(A) -> dict[str, tuple[object, np.ndarray]]:
    """Operators of each kind that is made from A, and their matrices."""
    matrix = host(A)
    signs = np.where(np.arange(N) % 3 == 0, -1.0, 1.0)
    return {
        "array": (A, matrix),
        "counted": (counting(A), matrix),
        "sum": (add(A, A), 2 * matrix),
        "multiple": (multiply(A, -2), -2 * matrix),
        "shift": (shift(A, 3), matrix + 3 * np.eye(N)),
        "congruence": (congruence(A, signs), signs[:, None] * matrix * signs),
        "restriction": (restrict(A, slice(2, 9)), matrix[2:9, 2:9]),
    }


def test_every_operator_multiplies_vectors_and_blocks_by_at(A):
    for name, (operator, matrix) in every_way(A).items():
        V = arrays.from_host(np.random.default_rng(3).standard_normal((len(matrix), 4)), operator)
        for x in (V, V[:, 0]):
            product = operator @ x
            assert product.dtype == operator.dtype, name
            expected = matrix @ arrays.to_host(x)
            np.testing.assert_allclose(arrays.to_host(product), expected, atol=200 * arrays.eps(operator))


def test_every_operator_is_an_operator_of_scipy(A):
    for name, (operator, matrix) in every_way(A).items():
        converted = operator.to_scipy()
        assert isinstance(converted, sparse_linalg.LinearOperator), name
        assert converted.dtype == (np.float64 if arrays.eps(operator) < 1e-15 else np.float32)
        V = np.random.default_rng(3).standard_normal((len(matrix), 4)).astype(converted.dtype)
        tolerance = {"atol": 200 * arrays.eps(operator)}
        for product in (converted, converted.T, converted.H):
            for x in (V, V[:, 0], V[:, :1]):
                assert (product @ x).dtype == converted.dtype
                np.testing.assert_allclose(product @ x, matrix @ x, **tolerance)
        top = sparse_linalg.eigsh(converted, k=1, which="LA", return_eigenvectors=False)
        np.testing.assert_allclose(top[0], np.linalg.eigvalsh(matrix)[-1], rtol=1e-4)


def test_to_scipy_and_back_is_the_same_operator(A):
    assert_is(as_operator(A.to_scipy()), host(A))


def test_minibatches_are_multiplied_by_at():
    for batched in (Batches(), counting(Batches())):
        sample, _ = batched.minibatch(1, 0)
        np.testing.assert_allclose(sample @ np.eye(N), symmetric(1))
        np.testing.assert_allclose(sample.to_scipy() @ np.ones(N), symmetric(1) @ np.ones(N))


def test_a_bfloat16_operator_gives_scipy_float32():
    torch = pytest.importorskip("torch")
    operator = as_operator(torch.eye(3, dtype=torch.bfloat16), dtype=torch.bfloat16).to_scipy()
    product = operator @ np.array([1.0, 2.0, 3.0], dtype=np.float32)
    assert product.dtype == np.float32
    np.testing.assert_array_equal(product, [1, 2, 3])


@pytest.mark.parametrize(
    ("V", "words"),
    [
        (np.ones(N + 1), f"V has shape ({N + 1},); expected ({N},) or ({N}, b)"),
        (np.ones((1, N)), f"V has shape (1, {N})"),
        (np.ones((N, 1, 1)), f"V has shape ({N}, 1, 1)"),
        (np.float64(2.0), "V has shape ()"),
    ],
)
def test_arrays_of_another_shape_are_not_multiplied(V, words):
    with pytest.raises(UsageError) as raised:
        as_operator(symmetric()) @ V
    assert words in str(raised.value)


def test_arrays_of_another_library_are_not_multiplied():
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match=r"arrays of numpy can't multiply an array of torch[^A]*A\.to_scipy"):
        as_operator(symmetric()) @ torch.ones(N, dtype=torch.float64)
    with pytest.raises(UsageError, match="arrays of torch can't multiply an array of numpy"):
        as_operator(torch.eye(N)) @ np.ones(N)


def test_what_is_not_an_array_is_not_multiplied():
    operator = as_operator(symmetric())
    for other in (operator, [1.0] * N, 2.0, None):
        with pytest.raises(TypeError, match="unsupported operand"):
            operator @ other


def test_complex_vectors_of_scipy_are_refused():
    with pytest.raises(UsageError, match="the vector is complex"):
        as_operator(symmetric()).to_scipy() @ np.full(N, 1j)


# -- vectors in the shapes of parameters -------------------------------------------------------------------

SHAPES = {"head.weight": (2, 3), "scale": (), "head.bias": (5,)}


class OverWeights(WeightOperator):
    def __init__(self, like):
        self.shape, self.parameter_shapes = (N, N), SHAPES
        self.xp, self.dtype, self.device = like.xp, like.dtype, like.device

    def matvec(self, v):
        return 2 * v

    matmat = matvec


@pytest.mark.parametrize("columns", [(), (1,), (4,)], ids=str)
def test_vectors_in_the_shapes_of_parameters_and_back(A, columns):
    operator = OverWeights(A)
    v = arrays.from_host(np.random.default_rng(0).standard_normal((N, *columns)), operator)
    pieces = operator.unflatten(v)
    assert {name: tuple(piece.shape) for name, piece in pieces.items()} == {
        name: (*shape, *columns) for name, shape in SHAPES.items()
    }
    flat = [arrays.to_host(piece).reshape(-1, *columns) for piece in pieces.values()]
    np.testing.assert_array_equal(np.concatenate(flat), arrays.to_host(v))
    again = operator.flatten(dict(reversed(pieces.items())))
    assert again.dtype == operator.dtype
    np.testing.assert_array_equal(arrays.to_host(again), arrays.to_host(v))
    np.testing.assert_array_equal(arrays.to_host(operator @ again), 2 * arrays.to_host(v))


def test_arrays_of_other_libraries_are_taken_apart_in_theirs_and_put_together_in_that_of_the_operator(A):
    operator, v = OverWeights(A), np.arange(N, dtype=np.float32)
    pieces = operator.unflatten(v)
    assert all(type(piece) is np.ndarray and piece.dtype == np.float32 for piece in pieces.values())
    assert np.shares_memory(pieces["head.weight"], v)
    vector = operator.flatten(pieces)
    assert arrays.library(arrays.namespace(vector)) == arrays.library(operator.xp)
    assert vector.dtype == operator.dtype
    np.testing.assert_array_equal(arrays.to_host(vector), v)


@pytest.mark.parametrize(
    ("v", "words"),
    [
        (np.ones(N + 1), f"v has shape ({N + 1},); expected an array ({N},) or ({N}, k)"),
        (np.ones((1, N)), f"v has shape (1, {N})"),
        (np.ones((N, 1, 1)), f"v has shape ({N}, 1, 1)"),
        ([1.0] * N, "v is a list; expected an array"),
        (None, "v is a NoneType"),
    ],
)
def test_what_is_no_vector_of_the_operator_is_not_taken_apart(v, words):
    with pytest.raises(UsageError) as raised:
        OverWeights(as_operator(symmetric())).unflatten(v)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"haed.bias": np.ones(5)}, "unknown parameter of the operator: 'haed.bias'\nDid you mean head.bias"),
        ({3: np.ones(5)}, "unknown parameter of the operator: '3'"),
        ({"scale": None}, "scale is a NoneType; expected an array (), or (k,) for a block"),
        (
            {"head.bias": np.ones(4)},
            "head.bias has shape (4,); expected an array (5,), or (5, k) for a block",
        ),
        (
            {"head.weight": np.ones((3, 2))},
            "head.weight has shape (3, 2); expected an array (2, 3), or (2, 3, k)",
        ),
        ({"head.weight": np.ones(6)}, "head.weight has shape (6,)"),
        ({"head.bias": np.ones((5, 2, 2))}, "head.bias has shape (5, 2, 2)"),
        ({"head.bias": np.ones((5, 2))}, "the arrays differ in the number of columns"),
        ({"head.bias": [1.0] * 5}, "head.bias is a list"),
    ],
)
def test_what_does_not_fit_the_parameters_is_not_put_together(changed, words):
    pieces = {name: np.ones(shape) for name, shape in SHAPES.items()}
    with pytest.raises(UsageError) as raised:
        OverWeights(as_operator(symmetric())).flatten({**pieces, **changed})
    assert words in str(raised.value)


def test_a_missing_parameter_is_named():
    with pytest.raises(
        UsageError, match=r"arrays are missing for head.weight, scale; expected one for each of the 3"
    ):
        OverWeights(as_operator(symmetric())).flatten({"head.bias": np.ones(5)})
