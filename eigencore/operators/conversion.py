"""Linear operators made from anything that multiplies vectors.

An operator is any object that implements `interfaces.LinearOperator`; no base class is required. Those made
here are also `MatrixLike`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, TypeVar, overload

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import (
    ApproximatedOperator,
    Approximation,
    InexactOperator,
    LinearOperator,
    NotedOperator,
)
from eigencore.operators.matrix_like import MatrixLike
from eigencore.processes import processes_of
from eigencore.space import Array, Space

Operator = TypeVar("Operator", bound=LinearOperator)
_SPACE = ("xp", "dtype", "device")  # the attributes of a Space


class FunctionOperator(MatrixLike):
    """A symmetric operator defined by a function of a vector.

    Args:
        matvec: computes A v for a vector v (n,).
        n: the length of the vectors.
        xp, dtype, device: the array-API namespace, data type and device of the vectors.
        matmat: computes A V for a block V (n, b); None: `matvec` is applied to each column.
        notes: returns facts about the products, as in `interfaces.NotedOperator`.
        release: frees what `matvec` and `matmat` keep between products, as `CachingOperator.release` does;
            None: they keep nothing.
        space: the space that the vectors belong to, if they are shards (see `ShardedSpace`), or an operator
            that `matvec` multiplies by, whose products several processes compute (see `Processes`).

    Example:
        import array_api_compat.numpy as xp
        from eigencore.operators import FunctionOperator

        A = FunctionOperator(lambda v: 2 * v, 3, xp=xp, dtype=xp.float64)
        print(A @ xp.ones(3))
    """

    def __init__(
        self,
        matvec: Callable[[Array], Array],
        n: int,
        *,
        xp: Any,
        dtype: Any,
        device: Any = None,
        matmat: Callable[[Array], Array] | None = None,
        notes: Callable[[], tuple[str, ...]] = tuple,
        release: Callable[[int | None], None] | None = None,
        space: Space | None = None,
    ):
        self._matvec, self._matmat, self._notes, self._release = matvec, matmat, notes, release
        self.shape = (n, n)
        self.xp, self.dtype, self.device = xp, dtype, device
        self.processes = processes_of(space)
        if arrays.is_sharded(space):
            self.sum, self.shard = space.sum, space.shard

    def matvec(self, v: Array, /) -> Array:
        return self._matvec(v)

    def matmat(self, V: Array, /) -> Array:
        if self._matmat is not None:
            return self._matmat(V)
        return self.xp.stack([self._matvec(V[:, i]) for i in range(V.shape[1])], axis=1)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes()

    def release(self, needed: int | None = None) -> None:
        if self._release is not None:
            self._release(needed)


def notes_of(A: LinearOperator) -> tuple[str, ...]:
    """The notes of an operator that has any; none for any other operator."""
    notes = A.notes if isinstance(A, NotedOperator) else ()
    # An operator of other people's code may have something else under this name.
    return notes if isinstance(notes, tuple) and all(isinstance(note, str) for note in notes) else ()


def is_inexact(A: LinearOperator) -> bool:
    """Whether products of A have a larger error than rounding, which A can measure."""
    return isinstance(A, InexactOperator) and A.inexact is True


def approximation_of(A: LinearOperator) -> Approximation | None:
    """The approximation of an operator that has one, by which solvers multiply; None for any other one."""
    found = A.approximation if isinstance(A, ApproximatedOperator) else None
    # An operator of other people's code may have something else under this name.
    return found if isinstance(found, Approximation) else None


@overload
def as_operator(A: Operator, n: None = None, dtype: Any = None) -> Operator: ...
@overload
def as_operator(A: Any, n: int | None = None, dtype: Any = None, *, like: Any = None) -> FunctionOperator: ...
def as_operator(A: Any, n: int | None = None, dtype: Any = None, *, like: Any = None) -> LinearOperator:
    """A symmetric operator from anything that multiplies vectors. Symmetry is not checked.

    Args:
        A: an operator, which is returned unchanged; a square array of any library; a SciPy sparse matrix or
            LinearOperator; any object with `shape` and `@`, such as an operator of curvlinops; or a function
            of a vector.
        n: the length of the vectors; for a function only.
        dtype: the data type of the vectors. By default that of `like` or of A, but float32 for an array of
            16-bit floats, and float64 if A holds integers or has no data type. For a function without `like`,
            it also determines the array library: with torch.float32, the vectors are tensors on the CPU.
        like: an array, or an operator, of the library and on the device that a function or an object with `@`
            works with; needed for other libraries than NumPy and PyTorch, and on a GPU.

    Raises:
        UsageError: A is none of these, is not square or does not contain real numbers, n is missing, or
            `like` is given for an array or an operator, or is none of both.

    Example:
        import numpy as np
        from eigencore import as_operator

        A = as_operator(np.diag([3.0, 2.0, 1.0]))
        B = as_operator(lambda v: 2 * v, n=3)
        C = as_operator(lambda v: 3 * v, n=3, like=np.zeros(1, np.float32))
        print(A.shape, A @ np.ones(3), B @ np.ones(3), C.dtype)
    """
    if isinstance(A, np.matrix):
        A = np.asarray(A)  # the product of an np.matrix with a vector is a matrix
    if hasattr(A, "shape"):
        _refuse_unless_square(tuple(A.shape))
        if all(hasattr(A, name) for name in ("matvec", "matmat", *_SPACE)):
            _refuse_like(like, "an operator")
            return A  # type: ignore[no-any-return]
        if arrays.is_array(A):
            _refuse_like(like, "an array")
            return _from_array(A, dtype)
        if hasattr(A, "__matmul__"):
            return _from_multiplier(A, dtype, like)
    if callable(A):
        return _from_function(A, n, dtype, like)
    raise UsageError(
        f"A is of type {type(A).__name__}; expected a linear operator",
        hint="Give a square array, a SciPy sparse matrix or LinearOperator, an object with shape and @, "
        "or a function with n and dtype.",
    )


def _refuse_like(like: Any, what: str) -> None:
    if like is not None:
        raise UsageError(f"like can't be used: A is {what}, whose products have its own library and device")


def _from_array(A: Array, dtype: Any) -> FunctionOperator:
    xp = arrays.namespace(A)
    if xp.isdtype(A.dtype, "complex floating"):
        raise UsageError("the matrix is complex; eigencore works on real symmetric operators")
    numbers = xp.isdtype(A.dtype, ("bool", "integral", "real floating"))
    if not numbers and A.dtype != object:
        raise UsageError(f"the matrix contains {A.dtype}; expected real numbers")
    if dtype is None:
        dtype = _wide_enough(A.dtype, xp)
    try:
        A = xp.astype(A, dtype, copy=False)
    except (TypeError, ValueError):
        raise UsageError(f"the matrix contains {A.dtype}, which can't be converted to {dtype}") from None
    if getattr(A, "requires_grad", False):
        A = A.detach()
    apply = A.__matmul__
    return FunctionOperator(apply, A.shape[0], xp=xp, dtype=A.dtype, device=arrays.device_of(A), matmat=apply)


def _wide_enough(dtype: Any, xp: Any) -> Any:
    """The data type for products with an array of a given data type.

    In 16 bits, rounding errors dominate a product. 32 bits represent every 16-bit number exactly.
    """
    if not xp.isdtype(dtype, "real floating"):
        return xp.float64
    return dtype if xp.finfo(dtype).bits > 16 else xp.float32


def _from_multiplier(A: Any, dtype: Any, like: Any) -> FunctionOperator:
    """An operator from a SciPy sparse matrix or LinearOperator, or another object with `shape` and `@`."""
    if dtype is None and like is None:
        dtype = _attribute(A, "dtype")
    if dtype is not None and getattr(dtype, "kind", "f") == "c":
        raise UsageError("the operator is complex; eigencore works on real symmetric operators")
    if dtype is not None and getattr(dtype, "kind", "f") in "iub":
        dtype = np.float64
    xp, dtype, device = _space_of(dtype, like)
    if like is None:
        device = _attribute(A, "device") or device

    def apply(V: Array) -> Array:
        return _converted(A @ V, xp, dtype)

    return FunctionOperator(apply, A.shape[0], xp=xp, dtype=dtype, device=device, matmat=apply)


def _attribute(A: Any, name: str) -> Any:
    """An attribute of an object of another library; None if it has none, or only declares it."""
    try:
        return getattr(A, name, None)
    except NotImplementedError:
        return None


def _from_function(A: Callable[[Array], Array], n: Any, dtype: Any, like: Any) -> FunctionOperator:
    if n is None:
        raise UsageError(
            "a function needs the length of its vectors",
            hint="Write eigencore.as_operator(function, n=..., dtype=...).",
        )
    try:
        n = index(n)
    except TypeError:
        raise UsageError(f"n is {n!r}; expected a whole number of at least 1") from None
    _refuse_unless_square((n, n))
    xp, dtype, device = _space_of(dtype, like)
    return FunctionOperator(lambda v: _converted(A(v), xp, dtype), n, xp=xp, dtype=dtype, device=device)


def _converted(x: Array, xp: Any, dtype: Any) -> Array:
    """A product in the operator's data type: foreign code may return a wider type, or track gradients."""
    if getattr(x, "requires_grad", False):
        x = x.detach()
    return xp.asarray(x, dtype=dtype)


def _space_of(dtype: Any, like: Any) -> tuple[Any, Any, Any]:
    """The namespace, data type and device of the vectors: those of `like`, or from a data type alone."""
    if like is not None:
        return _space_like(like, dtype)
    if type(dtype).__module__ == "torch":
        import array_api_compat.torch as xp

        if not dtype.is_floating_point:
            raise UsageError(f"dtype is {dtype}; expected a floating type")
        return xp, dtype, "cpu"
    import array_api_compat.numpy as xp_numpy

    try:
        kind = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError:
        raise UsageError(f"dtype is {dtype!r}; expected a NumPy or PyTorch floating type") from None
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise UsageError(f"dtype is {kind}; expected float32 or float64")
    return xp_numpy, kind, "cpu"


def _space_like(like: Any, dtype: Any) -> tuple[Any, Any, Any]:
    if arrays.is_array(like) and not isinstance(like, type):  # np.float64 has the attributes of an array
        xp, own, device = arrays.namespace(like), like.dtype, arrays.device_of(like)
    elif all(hasattr(like, name) for name in _SPACE):
        xp, own, device = like.xp, like.dtype, like.device
    else:
        raise UsageError(f"like is a {type(like).__name__}; expected an array or an operator")
    given = own if dtype is None else dtype
    try:
        dtype = getattr(xp, given) if isinstance(given, str) else given
        floating = xp.isdtype(dtype, "real floating")
    except (TypeError, AttributeError):  # something else than a data type, or one of another library
        floating = False
    if not floating:
        raise UsageError(f"dtype is {given}; expected a real floating type of {arrays.library(xp)}")
    return xp, dtype, device


def _refuse_unless_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise UsageError(f"the operator has shape {shape}; expected a square shape (n, n)")
    if shape[0] < 1:
        raise UsageError("the operator is empty; expected at least one row")
