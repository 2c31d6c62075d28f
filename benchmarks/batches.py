"""Claim: on a CPU, a product in batches of 128 or 256 samples costs at most 20 % more than at the best size.

    python benchmarks/batches.py [--rounds 5] [--networks mlp digits transformer]

The same data are divided into batches of several sizes, each with its graphs kept. The result is the CPU time
of a product in one thread divided by that of a gradient in the network's usual batches, measured immediately
before and after: the median, lowest and highest of the rounds. Writes benchmarks/results/batches.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from networks import NETWORKS, one_batch
from records import cpu_seconds, gradient, keep_freed_memory, machine, save, spread

import eigencore
from eigencore import Problem

SIZES = (16, 32, 64, 128, 256, 512)


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    unit = gradient(problem)
    x, y = one_batch(problem)
    v = torch.randn(unit().shape, generator=torch.Generator().manual_seed(1))
    products = {}
    for size in [*(size for size in SIZES if size < len(x)), len(x)]:
        data = list(zip(x.split(size), y.split(size), strict=True))
        products[size] = eigencore.bind(replace(problem, data=data)).operator().matvec
        products[size](v)  # builds the graphs
    ratios: dict[int, list[float]] = {size: [] for size in products}
    gradients = [cpu_seconds(unit)[0]]
    for _ in range(rounds):
        for size, product in products.items():
            seconds, _ = cpu_seconds(lambda product=product: product(v))
            gradients.append(cpu_seconds(unit)[0])
            ratios[size].append(2 * seconds / (gradients[-2] + gradients[-1]))
    return {
        "description": problem.description,
        "gradient_seconds": spread(gradients),
        "ratios": {str(size): spread(values) for size, values in ratios.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mlp", "digits", "transformer"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    record = {**machine(), "rounds": arguments.rounds, "networks": {}}
    for key in arguments.networks:
        problem = NETWORKS[key]()
        record["networks"][problem.name] = result = measure(problem, arguments.rounds)
        print(f"{problem.name}: {problem.description}")
        for size, ratio in result["ratios"].items():
            print(f"  {size:>5} {ratio}", flush=True)
    print(save("batches", record))


if __name__ == "__main__":
    main()
