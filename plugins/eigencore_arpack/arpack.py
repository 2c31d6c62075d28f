"""ARPACK's implicitly restarted Lanczos for the extreme eigenpairs of a symmetric operator, through SciPy.

Memory: `ncv` vectors on the host, one product per step. R. Lehoucq, D. Sorensen and C. Yang, ARPACK Users'
Guide (SIAM, 1998); `scipy.sparse.linalg.eigsh`.

This differs from a bare `eigsh` in:
1. The vectors stay in the operator's own precision: float32 products cannot show the digits of float64.
2. ARPACK's test is the one requested, also for eigenvalues near zero, and for any norm (`products`).
3. Pairs that do not pass all the same, because they are near zero, are refined by a Rayleigh-Ritz method
   (`refinement`), whose residuals are exact. It holds 2 (k + ncv) vectors.
4. A single start vector finds one copy of a repeated eigenvalue. If the core finds that an eigenvalue was
   missed, the refinement continues from what the core sends. Running ARPACK again, deflated, would take a
   full basis for each missed eigenvalue; the refinement takes k products once, and then a few for each.
5. Where ARPACK is not applicable (k >= n or ncv > n), the matrix is formed by n products and diagonalised.
6. If ARPACK stops early, the converged pairs are kept. A zero matrix has a result too.

ARPACK tests convergence only when its basis is full, and returns one result, at the end.
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
from eigencore.interfaces import Evidence, Snapshot
from eigencore.options import option
from eigencore.request import precision_floor
from eigencore_arpack.products import ArpackProduct, HostProduct
from eigencore_arpack.refinement import RitzBasis

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array, Floats


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


def vectors_held(options: ArpackOptions, k: int, n: int) -> int:
    """Returns the most vectors in memory: those of a refinement in float64, if the products are float32."""
    return 4 * (_basis_size(options, k) + k) + 6


def _basis_size(options: ArpackOptions, k: int) -> int:
    return max(2 * k + 1, 20) if options.ncv is None else options.ncv


def arpack(
    operator: LinearOperator, request: Request, options: ArpackOptions, *, state: None = None
) -> Generator[Snapshot, Array | None, None]:
    """ARPACK as a solver: see `eigencore.interfaces.Solver` for arguments and snapshots.

    The first Snapshot has the pairs that converged in ARPACK. Its `residuals` are the bounds at which ARPACK
    stops, rather than estimates for each pair. Those of later snapshots, and of a dense computation, are
    exact.

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
    ncv = _basis_size(options, k)
    product = HostProduct(operator)
    if k >= n or ncv > n:
        yield _dense(product, request)
        return
    values, V, bounds, notes = _eigsh(product, request, ncv, options.maxiter)
    missed = yield _snapshot(product, request, values, V, bounds, notes)
    passed = bounds <= request.thresholds(values, precision_floor(product.eps, product.norm))
    if len(values) < k or (missed is None and np.all(passed)):
        return
    basis = RitzBasis(product, request, k + ncv, V)
    while True:
        if missed is not None:
            basis.add(arrays.to_host(missed))
        basis.converge()
        missed = yield _snapshot(product, request, basis.values, basis.vectors, basis.residuals, notes)
        if missed is None:
            return


# All unwanted Ritz pairs of a full basis have converged, but not all wanted ones: the basis is too small.
_NO_SHIFTS = "ARPACK error 3:"


def _eigsh(
    product: HostProduct, request: Request, ncv: int, maxiter: int
) -> tuple[Floats, Any, Floats, tuple[str, ...]]:
    """Runs ARPACK. Returns the pairs that converged, the bounds of their residuals, and notes."""
    import scipy.sparse.linalg as sla

    n, rng = product.operator.shape[0], arrays.generator(request.seed, "arpack")
    apply = ArpackProduct(product, request)
    notes: tuple[str, ...] = ()
    # After a breakdown, newer versions of SciPy draw from `rng`, older ones from their own generator.
    seeded = {"rng": rng} if "rng" in inspect.signature(sla.eigsh).parameters else {}
    try:
        found, V = sla.eigsh(
            sla.LinearOperator((n, n), matvec=apply, dtype=product.dtype),
            request.k,
            # For BE with k = 1, the wanted eigenvalue is the largest; ARPACK rejects this combination.
            which="LA" if (request.which, request.k) == ("BE", 1) else request.which,
            v0=_start(product, request, rng),
            ncv=ncv,
            maxiter=maxiter,
            tol=apply.tol,
            **seeded,
        )
    except sla.ArpackNoConvergence as stopped:
        found, V = stopped.eigenvalues, stopped.eigenvectors
        notes = (
            f"ARPACK stopped after {maxiter} restarts with {len(found)} of {request.k} pairs converged: "
            "raise ncv or maxiter",
        )
    except sla.ArpackError as error:
        if product.norm == 0:  # every product was zero
            found, V = np.zeros(request.k), np.linalg.qr(rng.standard_normal((n, request.k)))[0]
        elif _NO_SHIFTS in str(error) and 2 * ncv <= n:
            return _eigsh(product, request, 2 * ncv, maxiter)
        else:
            raise
    values, bounds = apply.values_and_bounds(found)
    return values, V, bounds, notes


def _start(product: HostProduct, request: Request, rng: np.random.Generator) -> Any:
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


def _dense(product: HostProduct, request: Request) -> Snapshot:
    """Computes all eigenpairs from n products with the columns of the identity; returns the wanted ones."""
    A = product(np.eye(product.operator.shape[0]))
    values, V = np.linalg.eigh((A + A.T) / 2)
    residuals = np.linalg.norm(A @ V - V * values, axis=0)
    note = "computed from the dense matrix, formed by n products: ARPACK needs k < n and ncv <= n"
    return _snapshot(product, request, values, V, residuals, (note,), Evidence(values))


def _snapshot(
    product: HostProduct,
    request: Request,
    values: Floats,
    V: Any,
    residuals: Floats,
    notes: tuple[str, ...] = (),
    evidence: Evidence | None = None,
) -> Snapshot:
    """A snapshot of the wanted ones of the pairs."""
    wanted = request.order(values)
    return Snapshot(
        values=values[wanted],
        residuals=residuals[wanted],
        vectors=lambda: product.on_device(V[:, wanted]),
        norm=max(product.norm, float(np.max(np.abs(values), initial=0.0))),
        evidence=evidence,
        notes=notes,
    )
