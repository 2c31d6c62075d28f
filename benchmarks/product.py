"""Claim: a Hessian product costs 1.5 to 2.5 gradients, a quarter less than in other libraries, same batches.

    python benchmarks/product.py [--rounds 5] [--networks mlp digits transformer resnet20] [--device cuda]

CPU time in one process and thread; on a GPU, wall-clock time. In each round, every contestant computes one
product, immediately after a gradient over the same data and immediately before another one; its time is
divided by the mean of the two. The median, lowest and highest ratio of the rounds are reported, and the
relative error of each product compared with float64. All use PyTorch's plain attention kernel: the fused one
has no second derivative, and only eigencore avoids it automatically. Gradients and the other libraries use
PyTorch's own kernels of matrix products, and eigencore those that `torch.kernels=auto` selects.

Peers of benchmarks/peers.txt that are not installed are left out. Writes benchmarks/results/product.json, or
product-gpu.json.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from networks import NETWORKS, one_batch
from records import PEERS, cost_in_gradients, gradient, measure_networks, on_gpu
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import eigencore
from eigencore import Problem

Product = Callable[[Tensor], Tensor]


def eigencore_kept(problem: Problem) -> Product:
    return eigencore.bind(problem).operator().matvec


def eigencore_first(problem: Problem) -> Product:
    """Everything until the first product: checking the data, building the graphs, the product itself."""
    return lambda v: eigencore.bind(problem).operator().matvec(v)


def eigencore_scratch(problem: Problem) -> Product:
    return eigencore.bind(problem, memory="none").operator().matvec


def eigenthings(problem: Problem) -> Product:
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(problem.model, problem.data, supervised_loss(problem.loss)).matvec


def pyhessian(problem: Problem) -> Product:
    from pyhessian import hessian

    computer = hessian(problem.model, problem.loss, dataloader=problem.data, cuda=on_gpu(problem))
    return lambda v: _flat(computer.dataloader_hv_product(_pieces(v, computer.params))[1])


def pyhessian_one_batch(problem: Problem) -> Product:
    """PyHessian also keeps the graph if all data are in one batch."""
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    computer = hessian(problem.model, problem.loss, data=one_batch(problem), cuda=on_gpu(problem))
    return lambda v: _flat(
        hessian_vector_product(computer.gradsH, computer.params, _pieces(v, computer.params))
    )


def curvlinops(problem: Problem) -> Product:
    from curvlinops import HessianLinearOperator

    parameters = list(problem.model.parameters())
    operator = HessianLinearOperator(problem.model, problem.loss, parameters, problem.data)
    return lambda v: operator @ v


def in_one_batch(make: Callable[[Problem], Product]) -> Callable[[Problem], Product]:
    return lambda problem: make(replace(problem, data=[one_batch(problem)]))


CONTESTANTS: dict[str, Callable[[Problem], Product]] = {
    "eigencore, graph kept": eigencore_kept,
    "eigencore, one batch (graph kept)": in_one_batch(eigencore_kept),
    "eigencore, from scratch": eigencore_scratch,
    "eigencore, all until the first product": eigencore_first,
    "hessian-eigenthings": eigenthings,
    "hessian-eigenthings, one batch": in_one_batch(eigenthings),
    "PyHessian": pyhessian,
    "PyHessian, one batch (graph kept)": pyhessian_one_batch,
    "curvlinops": curvlinops,
    "curvlinops, one batch": in_one_batch(curvlinops),
}


@sdpa_kernel(SDPBackend.MATH)
def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    """The cost of each contestant's product relative to a gradient, and its error relative to float64."""
    torch.backends.mha.set_fastpath_enabled(False)
    unit = gradient(problem)
    v = torch.randn(unit().shape, generator=torch.Generator().manual_seed(1)).to(unit().device)
    truth = eigencore.bind(problem, dtype="float64").operator().matvec(v.double())
    # Each contestant gets its own model, because some of them modify it.
    products, errors = {}, {}
    for name, make in CONTESTANTS.items():
        try:
            product = make(replace(problem, model=copy.deepcopy(problem.model)))
            errors[name] = _distance(product(v), truth)
        except Exception as error:  # a peer is not installed, or refuses what this device computes
            print(f"  {name} is left out: {str(error).partition(chr(10))[0]}")
        else:
            products[name] = product
    calls = {name: partial(product, v) for name, product in products.items()}
    ratios, seconds = cost_in_gradients(calls, unit, rounds)
    return {
        "description": problem.description,
        "gradient_seconds": seconds,
        "products": {
            name: {"ratio": ratios[name], "error": float(f"{errors[name]:.2g}")} for name in products
        },
    }


def _distance(product: Tensor, truth: Tensor) -> float:
    product = product.detach().double()
    return float(torch.linalg.vector_norm(product - truth) / torch.linalg.vector_norm(truth))


def _pieces(v: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    sizes = [p.numel() for p in parameters]
    return [piece.view_as(p) for piece, p in zip(v.split(sizes), parameters, strict=True)]


def _flat(pieces: Sequence[Tensor]) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces])


if __name__ == "__main__":
    measure_networks("product", __doc__, NETWORKS, measure, peers=PEERS)
