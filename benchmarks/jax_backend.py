"""Claim: a product on JAX takes 1.2 times as long as on PyTorch for an MLP, and 1.4 times for a small CNN.

    python benchmarks/jax_backend.py

docs/benchmarks.md has what was measured. The networks are an MLP of 669,706 weights on random inputs, and
`demo:digits` with its twin `demo:digits-jax`. Products are of the Hessian over all samples, after
compilation, on a processor; on each backend, the best of ten, in CPU time on one thread. `lanczos` is run on
the MLP twice, and the second run is divided into products and the rest.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

import eigencore
from eigencore.objectives import CrossEntropy

SIZES = (784, 512, 512, 10)
SAMPLES, BATCH = 2048, 256


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    torch.set_num_threads(1)
    mlp = mlp_problems()
    compare("MLP", *mlp)
    compare("digits CNN", "demo:digits-jax", "demo:digits")
    share = outside(eigencore.bind(mlp[0], backend="jax").operator())
    print(f"lanczos on the MLP: {share:.1%} outside products")


def compare(name: str, on_jax: Any, on_torch: Any) -> None:
    """Prints what products and gradients take on both backends."""
    import jax.numpy as jnp

    ours, theirs = eigencore.bind(on_jax, backend="jax"), eigencore.bind(on_torch, backend="torch")
    A, B = ours.operator(), theirs.operator()
    v = np.random.default_rng(0).normal(size=A.shape[0]).astype(np.float32)
    on_device, tensor = jnp.asarray(v), torch.tensor(v)
    print(f"{name}: {A.shape[0]:,} weights")
    for what, jax_time, torch_time in (
        ("product", best(lambda: A.matvec(on_device)), best(lambda: B.matvec(tensor))),
        ("gradient", best(ours.gradient), best(theirs.gradient)),
    ):
        print(f"  {what}: JAX {jax_time:.3f} s, PyTorch {torch_time:.3f} s, {jax_time / torch_time:.2f}")


def mlp_problems() -> tuple[eigencore.Problem, eigencore.Problem]:
    """The MLP with the same weights and data, for JAX and for PyTorch."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)).astype(np.float32) / n**0.5 for n, m in pairwise(SIZES)]
    biases = [0.1 * rng.normal(size=m).astype(np.float32) for m in SIZES[1:]]
    x, y = rng.normal(size=(SAMPLES, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], SAMPLES)
    params = {f"w{i}": jnp.asarray(w) for i, w in enumerate(weights)}
    params |= {f"b{i}": jnp.asarray(b) for i, b in enumerate(biases)}

    def network(params: dict[str, Any], x: Any) -> Any:
        for i in range(len(weights)):
            x = x @ params[f"w{i}"] + params[f"b{i}"]
            x = jax.nn.relu(x) if i < len(weights) - 1 else x
        return x

    layers: list[nn.Module] = []
    for w, b in zip(weights, biases, strict=True):
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(w.T))
            layer.bias.copy_(torch.tensor(b))
        layers += [layer, nn.ReLU()]
    places = [slice(start, start + BATCH) for start in range(0, SAMPLES, BATCH)]
    batches = [(x[place], y[place]) for place in places]
    tensors = [(torch.tensor(a), torch.tensor(b)) for a, b in batches]
    on_jax = eigencore.Problem((network, params), batches, CrossEntropy(), reduction="mean")
    return on_jax, eigencore.Problem(nn.Sequential(*layers[:-1]), tensors, nn.CrossEntropyLoss())


def best(compute: Callable[[], Any]) -> float:
    """The least CPU time of ten calls, after one that compiles."""
    import jax

    times = []
    for _ in range(11):
        began = time.process_time()
        jax.block_until_ready(compute())
        times.append(time.process_time() - began)
    return min(times[1:])


def outside(operator: Any) -> float:
    """The share of a solve that is not spent in products."""
    import jax

    multiply, inside = operator.matvec, [0.0]

    def timed(v: Any) -> Any:
        began = time.perf_counter()
        product = jax.block_until_ready(multiply(v))
        inside[0] += time.perf_counter() - began
        return product

    operator.matvec = timed
    eigencore.solve(operator, k=5, seed=0)
    inside[0], began = 0.0, time.perf_counter()
    eigencore.solve(operator, k=5, seed=0)
    return 1 - inside[0] / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
