"""Operators that keep intermediate results, such as gradient graphs, and how these are freed."""

from __future__ import annotations

from eigencore.interfaces import CachingOperator, LinearOperator
from eigencore.operators.conversion import approximation_of


def release(*operators: LinearOperator, needed: int | None = None) -> None:
    """Frees what the operators and their approximations keep between products, or only if memory is short.

    Args:
        operators: any operators; those that keep nothing are left alone.
        needed: the bytes that the caller is about to allocate, as in `CachingOperator.release`.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators import release

        release(as_operator(np.eye(3)))
    """
    for operator in operators:
        if isinstance(operator, CachingOperator):
            operator.release(needed)
        approximation = approximation_of(operator)
        if approximation is not None:
            release(approximation.operator, needed=needed)
