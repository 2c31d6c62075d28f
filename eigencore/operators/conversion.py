"""Linear operators from anything that multiplies vectors.

An operator is any object that implements `interfaces.LinearOperator`; no base class is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import LinearOperator
from eigencore.space import Array


class FunctionOperator:
    """A symmetric operator from a function on vectors, and one on blocks where that is cheaper."""

    def __init__(
        self,
        matvec: Callable[[Array], Array],
        n: int,
        *,
        xp: Any,
        dtype: Any,
        device: Any = None,
        matmat: Callable[[Array], Array] | None = None,
    ):
        self._matvec, self._matmat = matvec, matmat
        self.shape = (n, n)
        self.xp, self.dtype, self.device = xp, dtype, device

    def matvec(self, v: Array, /) -> Array:
        return self._matvec(v)

    def matmat(self, V: Array, /) -> Array:
        if self._matmat is not None:
            return self._matmat(V)
        return self.xp.stack([self._matvec(V[:, i]) for i in range(V.shape[1])], axis=1)


def as_operator(A: Any, n: int | None = None, dtype: Any = None) -> LinearOperator:
    """A symmetric operator from what multiplies.

    Args:
        A: an operator already; a square array of any library; a SciPy sparse matrix or LinearOperator; any
            object with `shape` and `@`; or a function of a vector.
        n: the length of the vectors, for a function only.
        dtype: the data type of the vectors; A's own, or float64 where it tells none, and float32 for an
            array of 16 bits. A function's dtype decides its library too: torch.float32 makes its vectors
            tensors.

    Raises:
        UsageError: A is none of these, is not square, holds no real numbers, or n is missing.
    """
    if isinstance(A, np.matrix):
        A = np.asarray(A)  # its products would be matrices, never vectors
    if hasattr(A, "shape"):
        _refuse_unless_square(tuple(A.shape))
        if all(hasattr(A, name) for name in ("matvec", "matmat", "xp", "dtype", "device")):
            return A  # type: ignore[no-any-return]
        if arrays.is_array(A):
            return _from_array(A, dtype)
        if hasattr(A, "__matmul__"):
            return _from_multiplier(A, dtype)
    if callable(A):
        return _from_function(A, n, dtype)
    raise UsageError(
        f"{type(A).__name__} is no operator",
        hint="Give a square array, a SciPy sparse matrix or LinearOperator, an object with shape and @, "
        "or a function with n and dtype.",
    )


def _from_array(A: Array, dtype: Any) -> LinearOperator:
    xp = arrays.namespace(A)
    if xp.isdtype(A.dtype, "complex floating"):
        raise UsageError("the matrix is complex; eigencore works on real symmetric operators")
    numbers = xp.isdtype(A.dtype, ("bool", "integral", "real floating"))
    if not numbers and A.dtype != object:
        raise UsageError(f"the matrix holds {A.dtype}; expected real numbers")
    if dtype is None:
        dtype = _wide_enough(A.dtype, xp)
    try:
        A = xp.astype(A, dtype, copy=False)
    except (TypeError, ValueError):
        raise UsageError(f"a matrix of {A.dtype} can't be made one of {dtype}") from None
    if getattr(A, "requires_grad", False):
        A = A.detach()
    apply = A.__matmul__
    return FunctionOperator(apply, A.shape[0], xp=xp, dtype=A.dtype, device=arrays.device_of(A), matmat=apply)


def _wide_enough(dtype: Any, xp: Any) -> Any:
    """A product in 16 bits can't be told from its rounding; 32 hold each of their numbers exactly."""
    if not xp.isdtype(dtype, "real floating"):
        return xp.float64
    return dtype if xp.finfo(dtype).bits > 16 else xp.float32


def _from_multiplier(A: Any, dtype: Any) -> LinearOperator:
    """SciPy's sparse matrices and LinearOperators, and other libraries' operators with shape and @."""
    own = dtype if dtype is not None else getattr(A, "dtype", None)
    if own is not None and getattr(own, "kind", "f") == "c":
        raise UsageError("the operator is complex; eigencore works on real symmetric operators")
    if own is not None and getattr(own, "kind", "f") in "iub":
        own = np.float64
    xp, own, device = _vectors_of(own)
    device = getattr(A, "device", device)

    def apply(V: Array) -> Array:
        return _plain(A @ V, xp, own)

    return FunctionOperator(apply, A.shape[0], xp=xp, dtype=own, device=device, matmat=apply)


def _from_function(A: Callable[[Array], Array], n: Any, dtype: Any) -> LinearOperator:
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
    xp, dtype, device = _vectors_of(dtype)
    return FunctionOperator(lambda v: _plain(A(v), xp, dtype), n, xp=xp, dtype=dtype, device=device)


def _plain(x: Array, xp: Any, dtype: Any) -> Array:
    """A product as an array of the operator's own type: a stranger's may carry gradients, or be wider."""
    if getattr(x, "requires_grad", False):
        x = x.detach()
    return xp.asarray(x, dtype=dtype)


def _vectors_of(dtype: Any) -> tuple[Any, Any, Any]:
    """Namespace, data type and device of the vectors that a bare data type stands for."""
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


def _refuse_unless_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise UsageError(f"the operator has shape {shape}; expected a square one, (n, n)")
    if shape[0] < 1:
        raise UsageError("the operator is empty; expected at least one row")
