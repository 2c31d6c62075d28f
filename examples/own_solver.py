"""How do I write my own solver, and how do I test it?

    python examples/own_solver.py

A solver is a generator that yields a snapshot after every product. It does not print, count products or know
the budget. The core does all this, and certifies the result with fresh products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import eigencore
from eigencore import arrays
from eigencore.testing import check_solver, solver_checks


def subspace_iteration(
    operator: eigencore.LinearOperator, request: eigencore.Request, options: Any, *, state: Any = None
) -> Iterator[eigencore.Snapshot]:
    """Subspace iteration: repeatedly multiply a block by the operator and orthonormalise it.

    The approximations are the Ritz pairs of the block (Saad, Numerical methods for large eigenvalue problems,
    2011, chapter 5).
    """
    n, k, xp = operator.shape[0], request.k, operator.xp
    # More vectors than pairs: convergence depends on the gap to the first eigenvalue outside the block.
    width = min(n, k + options.spare)
    V = arrays.random_normal(np.random.default_rng(request.seed), (n, width), operator)
    while True:
        V = xp.linalg.qr(V)[0]
        AV = operator.matmat(V)
        # Ritz pairs of the block: the eigenpairs of V'AV, a small matrix that is solved on the host.
        small = arrays.to_host(V.T @ AV)
        values, rotation = np.linalg.eigh((small + small.T) / 2)
        wanted = request.order(values)  # the k requested values, in the requested order
        Q = arrays.from_host(rotation[:, wanted], operator)
        X, AX = V @ Q, AV @ Q
        R = AX - X * arrays.from_host(values[wanted], operator)
        residuals = arrays.to_host(xp.linalg.vector_norm(R, axis=0))
        yield eigencore.Snapshot(
            values=values[wanted],
            residuals=residuals,
            vectors=lambda X=X: X,
            norm=float(np.abs(values).max()),
        )
        V = AV


def main() -> eigencore.EigenResult:
    """Compares the solver with `lanczos`, and runs the conformance checks on it."""
    A = np.cov(load_digits().data.T)  # the covariance of the 64 pixels of handwritten digits

    # `solver` accepts a function instead of a name. Keywords that `solve` does not have are options of the
    # solver.
    own = eigencore.solve(A, k=3, solver=subspace_iteration, tol=1e-6, spare=5)
    lanczos = eigencore.solve(A, k=3, solver="lanczos", tol=1e-6)
    print(own.values.round(3), own.advice)
    print(f"{own.matvecs:.0f} products; lanczos needs {lanczos.matvecs:.0f}")

    # The conformance checks cover difficult spectra, budgets, seeds, errors and other array libraries. The
    # entry declares what the solver supports, which determines the checks that apply. This solver finds only
    # the eigenvalues of largest magnitude, and does not use start vectors.
    entry = eigencore.SolverEntry(
        name="subspace_iteration",
        summary="subspace iteration: multiplies and orthonormalises a block",
        load="own_solver:subspace_iteration",
        which=("LM",),
        warm_start=False,
    )
    arguments = {
        "entry": entry,
        "libraries": ["numpy-float64", "torch-float32"],
        # A limitation that the checks revealed. A check also fails if its known failure no longer occurs.
        "known_failures": {"scale-1e*30/torch-float32": "the squares of such numbers overflow float32"},
        "spare": 5,
    }
    check_solver(subspace_iteration, **arguments)  # raises an error that details every failed check
    names = [check.name for check in solver_checks(subspace_iteration, **arguments)]
    print(f"{len(names)} checks: {', '.join(names[:3])}, ...")
    return own


if __name__ == "__main__":
    main()
