"""Claim: a product of every kind over the outputs costs about as much as one of the Hessian.

    python benchmarks/kinds.py [--networks mlp digits transformer resnet20] [--rounds 5]

CPU time of a product in gradients over the same data, in one process and thread: in each round, each kind
computes one product, immediately after a gradient and immediately before another one. The medians of the
rounds are printed, with graphs that are kept from product to product, and without. Writes no file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from networks import NETWORKS
from records import cost_in_gradients, gradient

import eigencore
from eigencore import Problem

KINDS: dict[str, dict[str, Any]] = {
    "hessian": {},
    "ggn": {},
    "fisher": {},
    "fisher, labels=100": {"labels": 100},
    "empirical_fisher": {},
    "scaled": {},
    "input_hessian": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mlp", "digits"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for name in given.networks:
        problem = NETWORKS[name]()
        for memory, graphs in (("auto", "graphs kept"), ("none", "no graphs kept")):
            costs, _ = cost_in_gradients(products(problem, memory), gradient(problem), given.rounds)
            for kind, cost in costs.items():
                print(f"{problem.name:12} {graphs:15} {kind:20} {cost['median']:5.2f}", flush=True)


def products(problem: Problem, memory: str) -> dict[str, Callable[[], object]]:
    """A call for each kind that computes a product, after a first one, which makes the graphs."""
    bound = eigencore.bind(problem, backend="torch", memory=memory)
    integers = not problem.data[0][0].is_floating_point()
    calls: dict[str, Callable[[], object]] = {}
    for kind, options in KINDS.items():
        if integers and kind == "input_hessian":
            continue
        operator = bound.operator(kind.partition(",")[0], **options)
        calls[kind] = partial(operator.matvec, torch.ones(operator.shape[0], dtype=operator.dtype))
        calls[kind]()
    return calls


if __name__ == "__main__":
    main()
