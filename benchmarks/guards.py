"""Claim: on data of at least ten batches, the checks before the first product cost at most 1.3 gradients.

    python benchmarks/guards.py [--rounds 5] [--networks mlp digits transformer resnet20]

Binding a problem and making its operator runs every check of `torch.check`: two passes over the data, the
loss of every batch, the reduction if it has to be inferred, and the probe of the operator against the loss.
The result is the CPU time of that in one thread divided by that of a gradient over the same data, measured
immediately before and after: the median, lowest and highest of the rounds. The reduction is inferred once,
and declared once. The data are repeated until they fill twelve batches of the network's usual size. Writes
benchmarks/results/guards.json.
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

BATCHES = 12


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    (x, y), size = one_batch(problem), len(problem.data[0][0])
    rows = torch.arange(BATCHES * size) % len(x)
    problem = replace(problem, data=list(zip(x[rows].split(size), y[rows].split(size), strict=True)))
    unit = gradient(problem)
    unit()
    result: dict[str, Any] = {"description": problem.description, "batches": len(problem.data), "ratios": {}}
    for reduction in ("infer", "mean"):
        given = replace(problem, reduction=reduction)
        eigencore.bind(given).operator()
        ratios = []
        for _ in range(rounds):
            before, _ = cpu_seconds(unit)
            seconds, _ = cpu_seconds(lambda given=given: eigencore.bind(given).operator())
            after, _ = cpu_seconds(unit)
            ratios.append(2 * seconds / (before + after))
        result["ratios"][reduction] = spread(ratios)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    record = {**machine(), "rounds": arguments.rounds, "networks": {}}
    for key in arguments.networks:
        problem = NETWORKS[key]()
        record["networks"][problem.name] = result = measure(problem, arguments.rounds)
        print(f"{problem.name}: {problem.description}, here in {result['batches']}")
        for reduction, ratio in result["ratios"].items():
            print(f"  reduction={reduction:<6} {ratio}", flush=True)
    print(save("guards", record))


if __name__ == "__main__":
    main()
