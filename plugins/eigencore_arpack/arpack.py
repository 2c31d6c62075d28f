"""ARPACK's implicitly restarted Lanczos for the extreme eigenpairs of a symmetric operator, through SciPy.

Memory: `ncv` vectors on the host, one product per step. Lehoucq, Sorensen & Yang, ARPACK Users' Guide
(SIAM, 1998); `scipy.sparse.linalg.eigsh`.

This differs from a bare `eigsh` in:
1. The vectors stay in the operator's own precision: float32 products are not asked for float64's digits.
2. The operator is scaled to a norm near 1. ARPACK takes what is below eps^(2/3) for zero, whatever the
   operator's norm, so that at 1e-30 everything would pass at once.
3. Where ARPACK can't go (k >= n, ncv > n), n products give all there is.
4. What had converged is kept when it gives up, and a zero matrix has an answer.

It looks for convergence only when its basis is full, and answers once, at the end. Like any method with a
single start vector it may miss copies of a repeated eigenvalue.
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
    ncv: int | None = option(
        None,
        low=2,
        help="vectors kept, above k; none: max(2 k + 1, 20)",
        when="raise it where gaps are small or eigenvalues repeat; it looks for convergence only every "
        "time all are filled, so more of them cost more where gaps are wide",
    )
    maxiter: int = option(
        300,
        low=1,
        help="restarts, of about ncv - k products each, before it gives up",
        when="raise it where it gave up, or raise ncv",
    )


def arpack(
    operator: LinearOperator, request: Request, options: ArpackOptions, *, state: None = None
) -> Generator[Snapshot, None, None]:
    """Yields one Snapshot, of what converged.

    Its `residuals` are the bound that ARPACK stops at, tol |theta|, not estimates of their own; those of a
    dense answer are exact.

    Raises:
        OptionError: ncv is not above k.
        UsageError: a state is given; it keeps none.
    """
    n, k = operator.shape[0], request.k
    if state is not None:
        raise UsageError("arpack keeps no state", hint="Give the vectors as start instead of a state.")
    if options.ncv is not None and options.ncv <= k:
        raise OptionError(f"arpack.ncv is {options.ncv} and k is {k}; expected ncv > k")
    ncv = max(2 * k + 1, 20) if options.ncv is None else options.ncv
    product = _HostProduct(operator)
    if k >= n or ncv > n:
        yield _dense(product, request)
    else:
        yield _sparse(product, request, ncv, options.maxiter)


class _HostProduct:
    """v -> (A / scale) v on host arrays of the operator's precision.

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


# All that is not wanted of a full basis has converged, but not all that is: the basis is too narrow.
_NO_SHIFTS = "ARPACK error 3:"


def _sparse(product: _HostProduct, request: Request, ncv: int, maxiter: int) -> Snapshot:
    import scipy.sparse.linalg as sla

    n, rng = product.operator.shape[0], np.random.default_rng(request.seed)
    # Our thresholds have a floor of 4 eps ||A||; a tol below 4 eps would ask ARPACK for more than that.
    tol = max(request.tol, 4 * product.eps)
    notes: tuple[str, ...] = ()
    # Newer SciPy draws what it needs after a breakdown from `rng`, older ones from a seed of their own.
    seeded = {"rng": rng} if "rng" in inspect.signature(sla.eigsh).parameters else {}
    try:
        values, V = sla.eigsh(
            sla.LinearOperator((n, n), matvec=product, dtype=product.dtype),
            request.k,
            # One eigenvalue of both ends is the high end's; ARPACK refuses it.
            which="LA" if (request.which, request.k) == ("BE", 1) else request.which,
            v0=_start(product, request, rng),
            ncv=ncv,
            maxiter=maxiter,
            tol=tol,
            **seeded,
        )
    except sla.ArpackNoConvergence as gave_up:
        values, V = gave_up.eigenvalues, gave_up.eigenvectors
        notes = (
            f"ARPACK gave up after {maxiter} restarts with {len(values)} of {request.k} pairs: "
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
    """The sum of the start block's unit columns, with a trace of chance so that nothing is shut out."""
    v = rng.standard_normal(product.operator.shape[0])
    v /= np.linalg.norm(v)
    if request.start is not None:
        v *= math.sqrt(product.eps)
        for column in arrays.to_host(request.start).reshape(len(v), -1).T:
            v += column / (arrays.norm(column) or 1.0)
    return (v / np.linalg.norm(v)).astype(product.dtype)


def _dense(product: _HostProduct, request: Request) -> Snapshot:
    """All eigenpairs from n products with the columns of the identity, of which the wanted are told."""
    A = product(np.eye(product.operator.shape[0])).astype(np.float64)
    values, V = np.linalg.eigh((A + A.T) / 2)
    residuals = np.linalg.norm(A @ V - V * values, axis=0)
    return _snapshot(product, request, values, V, residuals, ("answered densely: n products give all",))


def _snapshot(
    product: _HostProduct, request: Request, values: Floats, V: Any, residuals: Floats, notes: tuple[str, ...]
) -> Snapshot:
    """The wanted of these pairs of A / scale, as pairs of A."""
    wanted, scale = request.order(values), product.scale or 1.0
    return Snapshot(
        values=values[wanted] * scale,
        residuals=residuals[wanted] * scale,
        vectors=lambda: arrays.from_host(V[:, wanted], product.operator),
        norm=float(np.max(np.abs(values), initial=0.0)) * scale,
        notes=notes,
    )
