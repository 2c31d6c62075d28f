"""Claim: on a CPU, a product in batches of 128 or 256 samples costs at most 20 % more than at the best size.

    python benchmarks/batches.py [--rounds 5] [--networks mlp digits transformer]

The same data are divided into batches of several sizes, each with its graphs kept. The result is the CPU time
of a product in one thread divided by that of a gradient in the network's usual batches, measured immediately
before and after: the median, lowest and highest of the rounds. Writes benchmarks/results/batches.json.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from networks import NETWORKS, one_batch
from records import cost_in_gradients, gradient, measure_networks

import eigencore
from eigencore import Problem

SIZES = (16, 32, 64, 128, 256, 512)


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    unit = gradient(problem)
    x, y = one_batch(problem)
    v = torch.randn(unit().shape, generator=torch.Generator().manual_seed(1)).to(unit().device)
    products = {}
    for size in [*(size for size in SIZES if size < len(x)), len(x)]:
        data = list(zip(x.split(size), y.split(size), strict=True))
        products[str(size)] = partial(eigencore.bind(replace(problem, data=data)).operator().matvec, v)
        products[str(size)]()  # builds the graphs
    ratios, seconds = cost_in_gradients(products, unit, rounds)
    return {"description": problem.description, "gradient_seconds": seconds, "ratios": ratios}


if __name__ == "__main__":
    measure_networks("batches", __doc__, NETWORKS, measure, default=["mlp", "digits", "transformer"])
