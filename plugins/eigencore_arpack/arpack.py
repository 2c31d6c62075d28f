"""ARPACK's implicitly restarted Lanczos for the extreme eigenpairs of a symmetric operator, through SciPy.

Memory: `ncv` vectors on the host, one product per step. Lehoucq, Sorensen & Yang, ARPACK Users' Guide
(SIAM, 1998); `scipy.sparse.linalg.eigsh`.

This differs from a bare `eigsh` in:
1. The vectors stay in the operator's own precision: float32 products cannot show the digits of float64.
2. The operator is scaled to a norm near 1. ARPACK treats values below eps^(2/3) as zero, whatever the norm of
   the operator, so that at a norm of 1e-30 all pairs would count as converged at once.
3. Where ARPACK is not applicable (k >= n or ncv > n), the matrix is formed by n products and diagonalised.
4. If ARPACK stops early, the converged pairs are kept. A zero matrix has a result too.

ARPACK tests convergence only when its basis is full, and returns one result, at the end. Like any method with
a single start vector, it may miss repeated eigenvalues.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import OptionError, UsageError
from eigencore.interfaces import Snapshot
from eigencore.options import option

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Floats


@dataclass(frozen=True)
class ArpackOptions:
    """The options of `arpack`."""

    ncv: int | None = option(
        None,
        low=2,
        help="number of Lanczos vectors, more than k; none: max(2 k + 1, 20)",
        when="raise it if gaps are small or eigenvalues are repeated; convergence is tested only when the "
        "basis is full, so more vectors cost more products if gaps are wide",
    )
    maxiter: int = option(
        300,
        low=1,
        help="maximum number of restarts, of about ncv - k products each",
        when="raise it, or raise ncv, if ARPACK stopped before all pairs had converged",
    )


def arpack(
    operator: LinearOperator, request: Request, options: ArpackOptions, *, state: None = None
) -> Generator[Snapshot, None, None]:
    """ARPACK as a solver: see `eigencore.interfaces.Solver` for arguments and snapshots.

    It yields one Snapshot, with the pairs that converged. Its `residuals` are the bound at which ARPACK
    stops, tol |theta|, rather than estimates for each pair; those of a dense computation are exact.

    Raises:
        OptionError: ncv is not larger than k.
        UsageError: a state is given, but ARPACK keeps no state.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 101.0)), 3, solver="arpack", ncv=30)
        print(result.values)
    """
    n, k = operator.shape[0], request.k
    if state is not None:
        raise UsageError("arpack keeps no state", hint="Pass the vectors as start instead of a state.")
    if options.ncv is not None and options.ncv <= k:
        raise OptionError(f"arpack.ncv is {options.ncv} and k is {k}; expected ncv > k")
    ncv = max(2 * k + 1, 20) if options.ncv is None else options.ncv
    product = _HostProduct(operator)
    if k >= n or ncv > n:
        yield _dense(product, request)
    else:
        yield _sparse(product, request, ncv, options.maxiter)


class _HostProduct:
    """The map v -> (A / scale) v on host arrays of the operator's precision.

    `scale` is a power of two near ||A||, set by the first product that is not zero.
    """

    def __init__(self, operator: LinearOperator):
        self.operator = operator
        kind = np.float64 if arrays.eps(operator) < 1e-12 else np.float32
        self.dtype, self.eps = np.dtype(kind), float(np.finfo(kind).eps)
        self.scale: float | None = None

    def __call__(self, v: Any) -> Any:
        V = arrays.from_host(v, self.operator)
        AV = arrays.to_host(self.operator.matvec(V) if v.ndim == 1 else self.operator.matmat(V))
        size = float(np.max(np.abs(AV)))
        if self.scale is None and size > 0:
            self.scale = 2.0 ** round(math.log2(size))
        return (AV / (self.scale or 1.0)).astype(self.dtype)


# All unwanted Ritz pairs of a full basis have converged, but not all wanted ones: the basis is too small.
_NO_SHIFTS = "ARPACK error 3:"


def _sparse(product: _HostProduct, request: Request, ncv: int, maxiter: int) -> Snapshot:
    import scipy.sparse.linalg as sla

    n, rng = product.operator.shape[0], np.random.default_rng(request.seed)
    # The thresholds of a request have a precision floor of 4 eps ||A||, below which ARPACK must not aim.
    tol = max(request.tol, 4 * product.eps)
    notes: tuple[str, ...] = ()
    # After a breakdown, newer versions of SciPy draw from `rng`, older ones from their own generator.
    seeded = {"rng": rng} if "rng" in inspect.signature(sla.eigsh).parameters else {}
    try:
        values, V = sla.eigsh(
            sla.LinearOperator((n, n), matvec=product, dtype=product.dtype),
            request.k,
            # For BE with k = 1, the wanted eigenvalue is the largest; ARPACK rejects this combination.
            which="LA" if (request.which, request.k) == ("BE", 1) else request.which,
            v0=_start(product, request, rng),
            ncv=ncv,
            maxiter=maxiter,
            tol=tol,
            **seeded,
        )
    except sla.ArpackNoConvergence as stopped:
        values, V = stopped.eigenvalues, stopped.eigenvectors
        notes = (
            f"ARPACK stopped after {maxiter} restarts with {len(values)} of {request.k} pairs converged: "
            "raise ncv or maxiter",
        )
    except sla.ArpackError as error:
        if product.scale is None:  # every product was zero
            values, V = np.zeros(request.k), np.linalg.qr(rng.standard_normal((n, request.k)))[0]
        elif _NO_SHIFTS in str(error) and 2 * ncv <= n:
            return _sparse(product, request, 2 * ncv, maxiter)
        else:
            raise
    values = values.astype(np.float64)
    return _snapshot(product, request, values, V, tol * np.abs(values), notes)


def _start(product: _HostProduct, request: Request, rng: np.random.Generator) -> Any:
    """Returns the normalised sum of the start block's unit columns, or a random vector if none is given.

    A small random perturbation is added to the sum, so that it is not orthogonal to any eigenvector.
    """
    v = rng.standard_normal(product.operator.shape[0])
    v /= np.linalg.norm(v)
    if request.start is not None:
        v *= math.sqrt(product.eps)
        for column in arrays.to_host(request.start).reshape(len(v), -1).T:
            v += column / (arrays.norm(column) or 1.0)
    return (v / np.linalg.norm(v)).astype(product.dtype)


def _dense(product: _HostProduct, request: Request) -> Snapshot:
    """Computes all eigenpairs from n products with the columns of the identity; returns the wanted ones."""
    A = product(np.eye(product.operator.shape[0])).astype(np.float64)
    values, V = np.linalg.eigh((A + A.T) / 2)
    residuals = np.linalg.norm(A @ V - V * values, axis=0)
    note = "computed from the dense matrix, formed by n products: ARPACK needs k < n and ncv <= n"
    return _snapshot(product, request, values, V, residuals, (note,))


def _snapshot(
    product: _HostProduct, request: Request, values: Floats, V: Any, residuals: Floats, notes: tuple[str, ...]
) -> Snapshot:
    """Returns the wanted pairs, given pairs of A / scale, as pairs of A."""
    wanted, scale = request.order(values), product.scale or 1.0
    return Snapshot(
        values=values[wanted] * scale,
        residuals=residuals[wanted] * scale,
        vectors=lambda: arrays.from_host(V[:, wanted], product.operator),
        norm=float(np.max(np.abs(values), initial=0.0)) * scale,
        notes=notes,
    )
