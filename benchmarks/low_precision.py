"""Claim: products in 16 bits are faster where matrix products take the time, and their error is measured.

    python benchmarks/low_precision.py [--networks mlp digits ...] [--device cuda] [--rounds 5] [--no-float16]

For each network and type of products: the time of a product relative to a full one, over the same data and
in one process, in rounds that take one after the other (medians, with kept graphs); the error of the product
with the first eigenvector, relative to the eigenvalue; and a solve for five eigenpairs at a tolerance of 1 %:
how it ended, its products, and its time relative to that with full products. Writes no file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from networks import NETWORKS, Encoder
from records import now, placed
from torch import nn

import eigencore
from eigencore import Problem
from eigencore.errors import OperatorError

K, TOL = 5, 1e-2


def wide_mlp() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10)
    )
    x, y = torch.randn(16384, 784), torch.randint(0, 10, (16384,))
    return _problem("wide MLP", model, x, y, 8192)


def wide_transformer() -> Problem:
    torch.manual_seed(0)
    x, y = torch.randint(0, 100, (2048, 32)), torch.randint(0, 10, (2048,))
    return _problem("wide transformer", Encoder(width=1024), x, y, 1024)


def _problem(name: str, model: nn.Module, x: Any, y: Any, batch: int) -> Problem:
    data = list(zip(x.split(batch), y.split(batch), strict=True))
    return Problem(model.eval(), data, nn.CrossEntropyLoss(), reduction="mean", name=name)


ALL: dict[str, Callable[[], Problem]] = {
    **NETWORKS,
    "wide_mlp": wide_mlp,
    "wide_transformer": wide_transformer,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=ALL, default=list(NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-float16", action="store_true")
    given = parser.parse_args()
    for name in given.networks:
        measure(placed(ALL[name](), given.device), given.device, given.rounds, not given.no_float16)


def measure(problem: Problem, device: str, rounds: int, float16: bool) -> None:
    """Prints a line for each type of products."""
    ways = {"full": {}, "bfloat16": {"products": "bfloat16"}, "float16": {"products": "float16"}}
    if not float16:
        del ways["float16"]
    if device != "cpu":
        ways["tf32"] = {"precision": "tf32"}
    operators = {way: eigencore.bind(problem, backend="torch", **one).operator() for way, one in ways.items()}
    full = operators["full"]
    top = eigencore.solve(full, 1, tol=1e-4, complete=None)
    v, theta = top.vectors[:, 0], abs(float(top.values[0]))
    true = full.matvec(v)
    multiplied = {way: getattr(A.approximation, "operator", A) for way, A in operators.items()}
    errors = {way: float(torch.linalg.vector_norm(A.matvec(v) - true)) for way, A in multiplied.items()}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, A in multiplied.items():
            times[way].append(seconds(partial(A.matvec, v), device))
    base = median(times["full"])
    solved = {way: solve(A, device) for way, A in operators.items()}
    for way in ways:
        said, took = solved[way]
        print(
            f"{problem.name:16} {way:9} {1e3 * median(times[way]):8.1f} ms {median(times[way]) / base:5.2f}  "
            f"error {errors[way] / theta:.1e}  solve {took / solved['full'][1]:5.2f}  {said}",
            flush=True,
        )


def solve(operator: Any, device: str) -> tuple[str, float]:
    """How a solve ends, and its time."""
    operator.release()
    began = now(device)
    try:
        found = eigencore.solve(operator, K, tol=TOL)
    except OperatorError as error:
        return f"refused: {error.message}", now(device) - began
    took, own = now(device) - began, found.certificate
    full = own.matvecs + own.complete_matvecs if operator.approximation else found.matvecs
    complete = "complete" if found.complete else "not complete"
    said = f"{found.status}, {complete}, {found.matvecs:g} products, {full:g} of them full"
    return said, took


def seconds(call: Callable[[], object], device: str) -> float:
    began = now(device)
    call()
    return now(device) - began


if __name__ == "__main__":
    main()
