"""The memory that a solve takes beside its operator, for which the operator may leave room."""

from __future__ import annotations

from eigencore import arrays
from eigencore.interfaces import LinearOperator
from eigencore.request import Request
from eigencore.solving.certificate import certificate_vectors
from eigencore.solving.selected import SelectedSolver

# The chain that searches for missed eigenvalues, with its temporary vectors.
_CHAIN = 8


def solve_bytes(operator: LinearOperator, selected: SelectedSolver, request: Request, level: str) -> int:
    """The most bytes of vectors at once where the operator is: the solver's, the pairs', the certificate's.

    Args:
        level: that of the certificate.
    """
    k, rows = request.k, arrays.local_rows(operator)
    around = k + max(certificate_vectors(level, k), _CHAIN)
    return (_solver_vectors(operator, selected, k) + around) * rows * arrays.itemsize(operator)


def _solver_vectors(operator: LinearOperator, selected: SelectedSolver, k: int) -> int:
    if not (selected.on_device or arrays.on_processor(arrays.zeros((1,), operator))):
        return 2  # its own are on the host; those of a product are not
    n = operator.shape[0]
    if selected.vectors is None:
        return min(n, max(2 * k, 20)) + 6
    return selected.vectors(selected.options, k, n)
