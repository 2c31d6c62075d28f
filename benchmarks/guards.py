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

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from networks import NETWORKS, one_batch
from records import cost_in_gradients, gradient, measure_networks

import eigencore
from eigencore import Problem

BATCHES = 12


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    (x, y), size = one_batch(problem), len(problem.data[0][0])
    rows = torch.arange(BATCHES * size) % len(x)
    problem = replace(problem, data=list(zip(x[rows].split(size), y[rows].split(size), strict=True)))
    checks = {
        f"reduction={reduction}": partial(prepare, replace(problem, reduction=reduction))
        for reduction in ("infer", "mean")
    }
    unit = gradient(problem)
    for call in (unit, *checks.values()):  # whatever is computed only once is computed here
        call()
    ratios, seconds = cost_in_gradients(checks, unit, rounds)
    return {
        "description": problem.description,
        "batches": len(problem.data),
        "gradient_seconds": seconds,
        "ratios": ratios,
    }


def prepare(problem: Problem) -> None:
    eigencore.bind(problem).operator()


if __name__ == "__main__":
    measure_networks("guards", __doc__, NETWORKS, measure)
