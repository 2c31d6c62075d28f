"""Claim: no route to a Hessian product pays within fifty products, compared with the default.

    python benchmarks/routes.py [--rounds 5] [--networks mlp digits transformer resnet20] [--device cuda]

Times every value of `torch.route` on the first batch of each network, and variants that are no option: data
and weights in the memory format channels-last, and on a GPU the convolutions that are used on processors. In
each round, every route computes one product, immediately after a gradient and immediately before another one;
its time is divided by the mean of the two. Printed are the median, lowest and highest ratio of the rounds,
the error relative to float64, the wall-clock seconds until the first product without the checks of the data,
and the number of products after which a route has made up for them, compared with graphs that are kept.
ResNet-20 is measured on request, since compiling its product takes minutes on a processor.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from networks import NETWORKS
from records import cost_in_gradients, gradient, measure_networks, on_gpu
from torch import Tensor

import eigencore
from eigencore import Problem
from eigencore_torch.evaluation.convolutions import CheaperConvolutions

Product = Callable[[Tensor], Tensor]


def of_options(problem: Problem, **options: Any) -> Product:
    return eigencore.bind(problem, check=False, **options).operator().matvec


def channels_last(problem: Problem) -> Product:
    def converted(x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    if problem.data[0][0].ndim != 4:
        raise ValueError("the data are not images")
    problem.model.to(memory_format=torch.channels_last)
    return of_options(replace(problem, data=[(converted(x), y) for x, y in problem.data]))


def convolutions_of_processors(problem: Problem) -> Product:
    operator = eigencore.bind(problem, check=False).operator()

    def product(v: Tensor) -> Tensor:
        with CheaperConvolutions() if on_gpu(problem) else nullcontext():
            return operator.matvec(v)

    return product


KEPT = "graph, kept"
ROUTES: dict[str, Callable[[Problem], Product]] = {
    KEPT: of_options,
    "graph, from scratch": partial(of_options, memory="none"),
    "recorded": partial(of_options, route="recorded"),
    "compiled": partial(of_options, route="compiled"),
    "graph, kept, channels-last": channels_last,
    "captured": partial(of_options, route="captured"),
    "graph, kept, convolutions of processors": convolutions_of_processors,
}
ON_GPU = list(ROUTES)[-2:]


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    """The cost of each route's product relative to a gradient, and what it takes before the first one."""
    problem = replace(problem, data=list(problem.data[:1]))
    unit = gradient(problem)
    device = unit().device
    v = torch.randn(unit().shape, generator=torch.Generator().manual_seed(1)).to(device)
    truth = eigencore.bind(problem, dtype="float64").operator().matvec(v.double())
    products: dict[str, Product] = {}
    first: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name, make in ROUTES.items():
        if name in ON_GPU and not on_gpu(problem):
            continue
        own = replace(problem, model=copy.deepcopy(problem.model))

        began = time.perf_counter()
        try:
            product = make(own)
            result = product(v).double()
            errors[name] = float(torch.linalg.vector_norm(result - truth) / torch.linalg.vector_norm(truth))
        except Exception as error:  # a route that this network or this machine does not allow
            print(f"  {name} is left out: {str(error).partition(chr(10))[0]}")
            continue
        products[name], first[name] = product, time.perf_counter() - began
    calls = {name: partial(product, v) for name, product in products.items()}
    ratios, seconds = cost_in_gradients(calls, unit, rounds)
    rows = {}
    for name in products:
        gain = (ratios[KEPT]["median"] - ratios[name]["median"]) * seconds["median"]
        extra = first[name] - first[KEPT]
        rows[name] = {
            "ratio": ratios[name],
            "error": float(f"{errors[name]:.2g}"),
            "first_product_seconds": float(f"{first[name]:.3g}"),
            "pays_after": round(extra / gain) if gain > 0 and extra > 0 else None,
        }
    return {"description": problem.description, "gradient_seconds": seconds, "routes": rows}


if __name__ == "__main__":
    measure_networks("routes", __doc__, NETWORKS, measure, default=("mlp", "digits", "transformer"))
