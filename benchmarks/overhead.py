"""Claim: outside its product, a step of `lanczos` costs at most 2.5 Gram-Schmidt passes over a full basis.

    python benchmarks/overhead.py [--parameters 670000] [--k 10]

A pass over a full basis V (m, n) computes c = V w and w - c V. It is timed after every product of the same
solve, in the same process and thread, so that both run under the same conditions. CPU time, float32, PyTorch.
"""

from __future__ import annotations

import argparse
import time

import array_api_compat.torch as xp
import numpy as np
import torch

from eigencore.operators import FunctionOperator
from eigencore.request import Request
from eigencore_krylov.lanczos import LanczosOptions, basis_size, lanczos

RESTARTS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parameters", type=int, default=670_000)
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    n, k = arguments.parameters, arguments.k
    torch.set_num_threads(1)
    m = basis_size(None, k, n)
    diagonal = torch.cat([torch.linspace(100, 5, k + 2), torch.linspace(-1, 2.5, n - k - 2)])
    basis, w = torch.randn(m, n), torch.randn(n)
    passes: list[float] = []
    outside = 0.0
    mark = time.process_time()

    def product(v: torch.Tensor) -> torch.Tensor:
        nonlocal outside, mark
        outside += time.process_time() - mark
        image = diagonal * v
        began = time.process_time()
        _ = w - (basis @ w) @ basis
        passes.append(time.process_time() - began)
        mark = time.process_time()
        return image

    operator = FunctionOperator(product, n, xp=xp, dtype=torch.float32, device="cpu")
    for snapshot in lanczos(operator, Request(k, tol=1e-12), LanczosOptions()):
        if snapshot.restarts >= RESTARTS:
            break
    step, one = outside / len(passes), float(np.mean(passes))
    print(f"{n} parameters, k = {k}, basis {m}: {len(passes)} products, {snapshot.restarts} restarts")
    print(f"a step without its product: {1e3 * step:.1f} ms; a Gram-Schmidt pass: {1e3 * one:.1f} ms")
    print(f"ratio: {step / one:.2f}")


if __name__ == "__main__":
    main()
