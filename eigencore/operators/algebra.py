"""The algebra of operators: sums, multiples, shifts, congruences D A D, projections, restrictions.

Each result is an operator in the array library, data type and device of its operands, for vectors and blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import LinearOperator
from eigencore.operators.caching import release
from eigencore.operators.conversion import FunctionOperator, notes_of
from eigencore.space import Array

if TYPE_CHECKING:
    from collections.abc import Sequence


def add(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """A + B. A product costs one product of A and one of B.

    Raises:
        UsageError: the operators differ in shape or data type.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators.algebra import add

        A, B = as_operator(np.diag([3.0, 1.0])), as_operator(np.eye(2))
        print(add(A, B).matvec(np.ones(2)))
    """
    _refuse_unless_compatible(A, B)
    return _derived(A, lambda V, product: product(A)(V) + product(B)(V), also=(B,))


def multiply(A: LinearOperator, c: float) -> LinearOperator:
    """c A, for a real number c: the eigenvectors of A, with every eigenvalue multiplied by c.

    Example:
        import numpy as np
        from eigencore import as_operator, solve
        from eigencore.operators.algebra import multiply

        print(solve(multiply(as_operator(np.diag([3.0, 1.0])), -1), k=1, which="LA").values)
    """
    c = float(c)  # a NumPy number would widen float32, and other libraries refuse it
    return _derived(A, lambda V, product: c * product(A)(V))


def shift(A: LinearOperator, s: float) -> LinearOperator:
    """A + s I: the eigenvectors of A, with s added to every eigenvalue.

    Example:
        import numpy as np
        from eigencore import as_operator, solve
        from eigencore.operators.algebra import shift

        print(solve(shift(as_operator(np.diag([3.0, 1.0])), 10), k=1).values)
    """
    s = float(s)
    return _derived(A, lambda V, product: product(A)(V) + s * V)


def congruence(A: LinearOperator, d: Array) -> LinearOperator:
    """D A D, for the diagonal matrix D of d, such as a preconditioned Hessian.

    Args:
        A: an operator on vectors (n,).
        d: the diagonal (n,), on the host or in the library of A.

    Raises:
        UsageError: d does not have the shape (n,).

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators.algebra import congruence

        print(congruence(as_operator(np.ones((2, 2))), np.array([1.0, 2.0])).matmat(np.eye(2)))
    """
    d = _like(A, d, "d", 1)
    return _derived(A, lambda V, product: _rows(d, V) * product(A)(_rows(d, V) * V))


def project(A: LinearOperator, V: Array) -> LinearOperator:
    """(I - V V') A (I - V V'): A on the orthogonal complement of the columns of V, zero on them.

    Args:
        A: an operator on vectors (n,).
        V: orthonormal columns (n, k), on the host or in the library of A. Orthonormality is not checked.

    Raises:
        UsageError: V does not have the shape (n, k).

    Example:
        import numpy as np
        from eigencore import as_operator, solve
        from eigencore.operators.algebra import project

        A = as_operator(np.diag(np.arange(1.0, 51.0)))
        first = solve(A, k=2)
        print(solve(project(A, first.vectors), k=2).values)
    """
    V = _like(A, V, "V", 2)

    def outside(X: Array) -> Array:
        return X - V @ arrays.total(V.T @ X, A)

    return _derived(A, lambda X, product: outside(product(A)(outside(X))))


def restrict(A: LinearOperator, where: slice | Sequence[int]) -> LinearOperator:
    """The diagonal block of A at the given indices, such as the Hessian of one layer.

    Args:
        A: an operator on vectors (n,).
        where: a slice, a sequence of distinct indices, or a boolean mask.

    Raises:
        UsageError: there are no indices, or some are out of range or repeated; or the vectors are shards.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators.algebra import restrict

        block = restrict(as_operator(np.diag([4.0, 3.0, 2.0, 1.0])), slice(1, 3))
        print(block.matmat(np.eye(2)))
    """
    n = A.shape[0]
    if arrays.is_sharded(A):
        raise UsageError("an operator on shards can't be restricted")
    try:
        chosen = np.atleast_1d(np.arange(n)[where])
    except IndexError:
        raise UsageError(
            f"the restriction is to {where!r}; the operator has the indices 0 to {n - 1}"
        ) from None
    if len(chosen) == 0 or len(np.unique(chosen)) != len(chosen):
        raise UsageError(
            f"the restriction is to {len(chosen)} indices; expected at least one, and no index twice"
        )
    if isinstance(where, slice) and (where.step or 1) > 0:

        def apply(V: Array, product: _Product) -> Array:
            full = arrays.write(arrays.zeros((n, *V.shape[1:]), A), (where, ...), V)
            return product(A)(full)[where, ...]
    else:
        # Not every library can write at a list of indices, but all can take rows. To embed a vector, rows are
        # taken from it with a row of zeros appended, which is taken for every index outside the restriction.
        positions = np.full(n, len(chosen))
        positions[chosen] = np.arange(len(chosen))
        inside, embedding = (A.xp.asarray(np.array(rows), device=A.device) for rows in (chosen, positions))

        def apply(V: Array, product: _Product) -> Array:
            padded = A.xp.concat([V, arrays.zeros((1, *V.shape[1:]), A)])
            return A.xp.take(product(A)(A.xp.take(padded, embedding, axis=0)), inside, axis=0)

    return _derived(A, apply, n=len(chosen))


_Product = Callable[[LinearOperator], Callable[[Array], Array]]


def _derived(
    A: LinearOperator,
    apply: Callable[[Array, _Product], Array],
    n: int | None = None,
    also: Sequence[LinearOperator] = (),
) -> LinearOperator:
    """An operator in the space of A, from a function that is written once for vectors and blocks.

    Args:
        A: the operator whose library, data type and device are used.
        apply: takes a vector or a block, and a function that returns the matching product of an operator.
        n: the length of the vectors; None: as for A.
        also: the other operators that the function multiplies by.
    """
    return FunctionOperator(
        lambda v: apply(v, lambda operator: operator.matvec),
        A.shape[0] if n is None else n,
        xp=A.xp,
        dtype=A.dtype,
        device=A.device,
        matmat=lambda V: apply(V, lambda operator: operator.matmat),
        space=A,
        notes=lambda: tuple(dict.fromkeys(note for operator in (A, *also) for note in notes_of(operator))),
        release=lambda needed: release(A, *also, needed=needed),
    )


def _rows(d: Array, V: Array) -> Array:
    return d if V.ndim == 1 else d[:, None]


def _refuse_unless_compatible(A: LinearOperator, B: LinearOperator) -> None:
    if A.shape != B.shape or A.dtype != B.dtype:
        raise UsageError(
            f"operators of shape {A.shape} {A.dtype} and {B.shape} {B.dtype} can't be added",
            hint="Both must have the same shape and data type.",
        )


def _like(A: LinearOperator, x: Array, name: str, ndim: int) -> Array:
    """x in the library, data type and device of A. Raises UsageError if its shape does not fit."""
    rows = arrays.local_rows(A)
    if len(x.shape) != ndim or x.shape[0] != rows:
        expected = f"({rows},)" if ndim == 1 else f"({rows}, k)"
        raise UsageError(f"{name} has shape {tuple(x.shape)}; expected {expected}")
    if getattr(x, "requires_grad", False):
        x = x.detach()
    return A.xp.asarray(x, dtype=A.dtype, device=A.device)
