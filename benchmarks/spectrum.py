"""Claim: trace and diagonal take no more products than with curvlinops, matfree and PyHessian.

    python benchmarks/spectrum.py [--seeds 30] [--matrices outliers 1/i ...]

The matrices of `coverage.py`: four spectra, and the Hessians of two networks. The number of products is the
smallest of a grid at which the root mean square of the relative error over the seeds is at most 1 % for the
trace, and 30 % for the diagonal as a vector. The other libraries get the matrix as a tensor of PyTorch or an
array of JAX. The trace of PyHessian is that of `hutchinson_trace` of curvlinops, the mean over vectors of
independent signs. XNysTrace is for the matrices that are semidefinite, by construction. eigencore returns
intervals, and matfree standard errors; `coverage.py` measures how often the intervals hold the truth.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from coverage import DIAGONAL, MATRICES, SEMIDEFINITE, TRACE, last

from eigencore import as_operator
from eigencore_spectrum.diagonal import diagonal
from eigencore_spectrum.options import DiagonalOptions, TraceOptions
from eigencore_spectrum.trace import trace

GRID = (12, 18, 24, 30, 42, 60, 84, 120, 168, 240, 336, 480)
AT = 60
GOALS = {"trace": 0.01, "diagonal": 0.3}
Estimator = Callable[[Any, int, int], Any]  # of the matrix, the number of products and the seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--matrices", nargs="+", choices=MATRICES, default=list(MATRICES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.matrices:
        A = MATRICES[name]()
        for quantity, methods in estimators(semidefinite=name in SEMIDEFINITE).items():
            truth = np.trace(A) if quantity == "trace" else np.diag(A)
            print(f"{name}, n = {len(A)}: {quantity} to {100 * GOALS[quantity]:g} %")
            for method, estimator in methods.items():
                products = [count for count in GRID if count < len(A)]
                found, error = products_to(
                    partial(estimator, A), truth, products, GOALS[quantity], arguments.seeds
                )
                reached = f"{found} products" if found else f"not in {products[-1]}"
                print(f"  {method:32} {reached:16} error at {AT} products {error:.2g}", flush=True)


def products_to(
    estimate: Callable[[int, int], Any], truth: Any, grid: Sequence[int], goal: float, seeds: int
) -> tuple[int | None, float]:
    """The fewest products with an error of at most the goal, and the error at 60 products."""
    found, at = None, math.nan
    for count in grid:
        if found and count > AT:
            break
        gaps = [
            np.linalg.norm(estimate(count, seed) - truth) / np.linalg.norm(truth) for seed in range(seeds)
        ]
        error = math.sqrt(np.mean(np.square(gaps)))
        at = error if count == AT else at
        if found is None and error <= goal:
            found = count
    return found, at


def estimators(*, semidefinite: bool) -> Mapping[str, Mapping[str, Estimator]]:
    """The methods of each library, by quantity."""
    import curvlinops as peer
    import jax
    from matfree import stochtrace

    jax.config.update("jax_enable_x64", True)

    def traced(method: str, A: Any, count: int, seed: int) -> Any:
        options = TraceOptions(method=method, products=count, rtol=None)  # type: ignore[arg-type]
        return last(trace, options, as_operator(A), seed).numbers["trace"]

    def diagonals(method: str, A: Any, count: int, seed: int) -> Any:
        options = DiagonalOptions(method=method, products=count)  # type: ignore[arg-type]
        return last(diagonal, options, as_operator(A), seed).columns["diagonal"]

    def of_peer(function: Any, A: Any, count: int, seed: int) -> Any:
        torch.manual_seed(seed)
        return function(torch.from_numpy(A), count).numpy()

    def of_matfree(integrand: Any, vectors: float, A: Any, count: int, seed: int) -> Any:
        example, matrix = jax.numpy.zeros(len(A)), jax.numpy.asarray(A)
        sampler = stochtrace.sampler_sphere(example, num=int(vectors * count))
        key = jax.random.key(seed)
        return float(stochtrace.estimator_leave_one_out(integrand(), sampler)(lambda v: matrix @ v, key))

    nystrom = {
        "eigencore xnystrace": partial(traced, "xnystrace"),
        "matfree leave_one_out_xnystrace": partial(of_matfree, stochtrace.leave_one_out_xnystrace, 1),
    }
    return {
        "trace": {
            **{f"eigencore {method}": partial(traced, method) for method in TRACE},
            **(nystrom if semidefinite else {}),
            "matfree leave_one_out_xtrace": partial(of_matfree, stochtrace.leave_one_out_xtrace, 1 / 2),
            "curvlinops xtrace": partial(of_peer, peer.xtrace),
            "curvlinops hutchpp_trace": partial(of_peer, peer.hutchpp_trace),
            "curvlinops hutchinson_trace": partial(of_peer, peer.hutchinson_trace),
        },
        "diagonal": {
            **{f"eigencore {method}": partial(diagonals, method) for method in DIAGONAL},
            "curvlinops xdiag": partial(of_peer, peer.xdiag),
            "curvlinops hutchinson_diag": partial(of_peer, peer.hutchinson_diag),
        },
    }


if __name__ == "__main__":
    main()
