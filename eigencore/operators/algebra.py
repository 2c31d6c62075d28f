"""The algebra of operators: sums, multiples, shifts, D A D, projections, restrictions.

Each is an operator of its operands' library, data type and device, for vectors and for blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import LinearOperator
from eigencore.operators.conversion import FunctionOperator
from eigencore.space import Array

if TYPE_CHECKING:
    from collections.abc import Sequence


def add(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """A + B; one product of each."""
    _refuse_unless_alike(A, B)
    return _derived(A, lambda V, by: by(A)(V) + by(B)(V))


def multiply(A: LinearOperator, c: float) -> LinearOperator:
    """c A."""
    c = float(c)  # a NumPy number would widen float32, and other libraries refuse it
    return _derived(A, lambda V, by: c * by(A)(V))


def shift(A: LinearOperator, s: float) -> LinearOperator:
    """A + s I: the same vectors, every eigenvalue moved by s."""
    s = float(s)
    return _derived(A, lambda V, by: by(A)(V) + s * V)


def congruence(A: LinearOperator, d: Array) -> LinearOperator:
    """D A D with the diagonal matrix of d, shape (n,)."""
    d = _of_its_kind(A, d, "d", 1)
    return _derived(A, lambda V, by: _rows(d, V) * by(A)(_rows(d, V) * V))


def project(A: LinearOperator, V: Array) -> LinearOperator:
    """(I - V V') A (I - V V') for orthonormal columns V, shape (n, k): A on their complement."""
    V = _of_its_kind(A, V, "V", 2)

    def outside(X: Array) -> Array:
        return X - V @ (V.T @ X)

    return _derived(A, lambda X, by: outside(by(A)(outside(X))))


def restrict(A: LinearOperator, where: slice | Sequence[int]) -> LinearOperator:
    """The diagonal block of A at a slice or a list of indices: one layer's own Hessian."""
    n = A.shape[0]
    try:
        chosen = np.atleast_1d(np.arange(n)[where])
    except IndexError:
        raise UsageError(f"a restriction to {where!r}; the operator has the indices 0 to {n - 1}") from None
    if len(chosen) == 0 or len(np.unique(chosen)) != len(chosen):
        raise UsageError(f"a restriction to {len(chosen)} indices; expected distinct ones, at least one")
    if isinstance(where, slice) and (where.step or 1) > 0:

        def apply(V: Array, by: _Product) -> Array:
            full = arrays.write(arrays.zeros((n, *V.shape[1:]), A), (where, ...), V)
            return by(A)(full)[where, ...]
    else:
        # Not every library writes at a list of indices, but each can take rows: also to spread them out,
        # the rows left out being copies of one row of zeros at the end.
        spread = np.full(n, len(chosen))
        spread[chosen] = np.arange(len(chosen))
        inside, outside = (A.xp.asarray(np.array(rows), device=A.device) for rows in (chosen, spread))

        def apply(V: Array, by: _Product) -> Array:
            padded = A.xp.concat([V, arrays.zeros((1, *V.shape[1:]), A)])
            return A.xp.take(by(A)(A.xp.take(padded, outside, axis=0)), inside, axis=0)

    return _derived(A, apply, n=len(chosen))


_Product = Callable[[LinearOperator], Callable[[Array], Array]]


def _derived(
    A: LinearOperator, apply: Callable[[Array, _Product], Array], n: int | None = None
) -> LinearOperator:
    """An operator of A's kind. `apply` is written once for vectors and blocks: `by` picks A's product."""
    return FunctionOperator(
        lambda v: apply(v, lambda operator: operator.matvec),
        A.shape[0] if n is None else n,
        xp=A.xp,
        dtype=A.dtype,
        device=A.device,
        matmat=lambda V: apply(V, lambda operator: operator.matmat),
    )


def _rows(d: Array, V: Array) -> Array:
    return d if V.ndim == 1 else d[:, None]


def _refuse_unless_alike(A: LinearOperator, B: LinearOperator) -> None:
    if A.shape != B.shape or A.dtype != B.dtype:
        raise UsageError(
            f"operators of shape {A.shape} {A.dtype} and {B.shape} {B.dtype} can't be added",
            hint="Both must have the same shape and data type.",
        )


def _of_its_kind(A: LinearOperator, x: Array, name: str, ndim: int) -> Array:
    """x as an array of A's library, data type and device, if its shape fits."""
    if len(x.shape) != ndim or x.shape[0] != A.shape[0]:
        expected = f"({A.shape[0]},)" if ndim == 1 else f"({A.shape[0]}, k)"
        raise UsageError(f"{name} has shape {tuple(x.shape)}; expected {expected}")
    if getattr(x, "requires_grad", False):
        x = x.detach()
    return A.xp.asarray(x, dtype=A.dtype, device=A.device)
