"""Programs that several processes run on weights that are cut into shards; see `kit.processes`.

Each compares with what a process computes alone, from a whole copy of the model and of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils import _pytree as pytree

import eigencore
from eigencore import arrays
from eigencore.interfaces import Problem
from eigencore_torch.models.shards import Shards
from kit.process_programs import answer_of, batches

SIZES = (12, 8)  # of which each process has the same number: PyTorch demands it of a cross-entropy
ALONE = {"processes": "none"}


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 7), nn.GELU(), nn.Linear(7, 3)).double()


def few() -> nn.Sequential:
    """A network of so few weights that all products of a run take little time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()


class Tied(nn.Module):
    """Two layers with one weight, and BatchNorm between them; of sizes that four processes can share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.second, self.third, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.third.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.norm(self.first(x)))))
        logits: Tensor = self.last(torch.tanh(self.third(hidden)))
        return logits


def tied() -> nn.Module:
    torch.manual_seed(0)
    model = Tied().double()
    with torch.no_grad():
        model.norm.running_mean.copy_(torch.linspace(-0.3, 0.3, 8))  # type: ignore[union-attr]
        model.norm.running_var.copy_(torch.linspace(0.5, 2.0, 8))  # type: ignore[union-attr]
    return model


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 4}
    model: nn.Module = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).double()
    return model


def language_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(input_ids=batch["ids"]).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["next"].flatten())


def texts() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    several = [torch.randint(30, (rows, 9), generator=generator) for rows in (8, 4)]
    return [{"ids": ids, "next": ids[:, 1:].clone()} for ids in several]


NETWORKS: dict[str, Callable[[], nn.Module]] = {"layers": layers, "tied": tied, "gpt2": gpt2, "few": few}


def problem_of(name: str, model: nn.Module, place: Any = None) -> Problem:
    """The problem of a network, with batches that are cut or copied as `place` says; None: plain tensors."""
    data: Any = texts() if name == "gpt2" else batches(SIZES)
    if place is not None:
        data = pytree.tree_map(lambda x: distribute_tensor(x, _mesh(), [place]), data)
    loss = language_loss if name == "gpt2" else nn.CrossEntropyLoss()
    return Problem(model, data, loss)


def cut(model: nn.Module, dim: int) -> nn.Module:
    """The model with all weights cut in a dimension; vectors are only cut in the first one."""
    made: dict[nn.Parameter, nn.Parameter] = {}

    def distribute(name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for key, p in list(module._parameters.items()):
            if p is not None:
                place = Shard(dim) if p.ndim > dim else Replicate()
                if p not in made:
                    made[p] = nn.Parameter(distribute_tensor(p.data, mesh, [place]))
                module._parameters[key] = made[p]

    return distribute_module(model, _mesh(), distribute)


def gaps(name: str, problem: Problem, **options: Any) -> dict[str, float]:
    """How far the operator of a problem is from that of a process alone, and how many rows a vector has."""
    one = eigencore.bind(problem_of(name, NETWORKS[name]()), backend="torch", **ALONE)
    bound: Any = eigencore.bind(problem, backend="torch", **options)
    whole, operator = one.operator(), bound.operator()
    V = np.random.default_rng(0).standard_normal((whole.shape[0], 2))
    expected = whole.matmat(torch.from_numpy(V)).numpy()
    found = operator.matmat(torch.from_numpy(arrays.shard(V, operator))).numpy()
    square = float(arrays.total(torch.from_numpy(found.T @ found), operator)[0, 0])
    gradient = arrays.shard(one.gradient().numpy(), operator)
    own = bound.gradient().numpy()
    return {
        "product": float(np.abs(arrays.shard(expected, operator) - found).max() / np.abs(expected).max()),
        "gradient": float(np.abs(own[: len(gradient)] - gradient).max())
        if len(own) == len(gradient)
        else 0.0,
        "loss": abs(one.loss() - bound.loss()),
        "rows": float(len(found)),
        "n": float(operator.shape[0]),
        "dot": abs(square / (expected.T @ expected)[0, 0] - 1),
    }


def products(rank: int, all_cases: bool) -> dict[str, dict[str, float]]:
    """The gaps of networks that are cut in several ways."""
    quick = {"check": False}  # the checks compute hundreds of operations, each with an exchange
    found = {
        "first dimension": gaps("layers", problem_of("layers", cut(layers(), 0), Shard(0))),
        "tied": gaps("tied", problem_of("tied", cut(tied(), 0), Shard(0)), **quick),
    }
    if all_cases:
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallel = parallelize_module(layers(), _mesh(), plan)
        found |= {
            "second dimension": gaps("layers", problem_of("layers", cut(layers(), 1), Shard(0)), **quick),
            "whole batches": gaps("layers", problem_of("layers", cut(layers(), 0), Replicate()), **quick),
            "plain batches": gaps("layers", problem_of("layers", cut(layers(), 0)), **quick),
            "gpt2": gaps("gpt2", problem_of("gpt2", cut(gpt2(), 0), Shard(0)), **quick),
            "tensor parallel": gaps("layers", problem_of("layers", parallel), **quick),
        }
    return found


def fully_sharded(name: str) -> Any:
    """A network under FSDP2, one of whose parts is a group of its own."""
    model: Any = NETWORKS[name]()
    part = model.transformer.h[0] if name == "gpt2" else next(model.children())
    fully_shard(part, mesh=_mesh())
    fully_shard(model, mesh=_mesh(), reshard_after_forward=name != "layers")
    return model


def fsdp(rank: int, all_cases: bool) -> dict[str, dict[str, float]]:
    """The gaps of networks under FSDP2, with whole weights or shards of them, and of vectors."""
    found = {}
    for name in ("layers", "tied", "gpt2") if all_cases else ("tied",):
        model = fully_sharded(name)
        found[f"{name}, whole"] = gaps(name, problem_of(name, model))
        found[f"{name}, vectors"] = gaps(name, problem_of(name, model), vectors="shards", check=False)
        cut_batches = problem_of(name, model, Shard(0))
        found[f"{name}, shards"] = gaps(name, cut_batches, weights="shards", check=False)
    return found


def trained(rank: int) -> bool:
    """Whether training under FSDP2 with analyses in between is that without, to the last bit."""

    def train(analyse: bool) -> list[Tensor]:
        model, (x, y) = fully_sharded("layers"), batches((20,))[0]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        broken = Problem(model, batches(SIZES), lambda outputs, y: 1 / 0)
        for step in range(4):
            loss = nn.functional.cross_entropy(model(x), y)
            if analyse and step % 2:  # between a forward pass and its backward pass
                for weights in ("whole", "shards"):
                    place = None if weights == "whole" else Shard(0)
                    problem = problem_of("layers", model, place)
                    eigencore.bind(problem, backend="torch", weights=weights, check=False).operator()
                assert "ZeroDivisionError" in answer_of(
                    lambda: eigencore.bind(broken, backend="torch").operator()
                )
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        return [p.full_tensor() for p in model.parameters()]

    return all(map(torch.equal, train(True), train(False)))


def solved(rank: int, folder: str) -> dict[str, Any]:
    """Eigenvalues, trace and density of shards and of a process alone, and what is saved of them."""
    found: dict[str, Any] = {}
    some: dict[str, Any] = {"trace": {"products": 8}, "density": {"probes": 2, "steps": 6}}
    same: dict[str, Any] = {"k": 2, "complete": None, "analyses": list(some)}
    reference = eigencore.analyze(problem_of("few", few()), **same, options={"torch": ALONE, **some})
    for name, model, place, options in (
        ("DTensor", cut(few(), 0), Shard(0), {}),
        ("FSDP2", fully_sharded("few"), None, {"vectors": "shards"}),
    ):
        run = eigencore.analyze(
            problem_of("few", model, place),
            **same,
            options={"torch": {**options, "check": False}, **some},
            out=f"{folder}/{name}",
        )
        found[name] = {
            "values": np.abs(run.eigen.values - reference.eigen.values).max()
            / np.abs(reference.eigen.values).max(),
            "rows": run.eigen.vectors.shape[0],
            "verdicts": [one.verdict for one in run.analyses.values()],
        }
        saved = eigencore.load(Path(folder) / name).eigen.vectors
        found[name]["aligned"] = np.abs(np.diag(saved.T @ reference.eigen.vectors.numpy())).min()
    found["verdicts"] = [one.verdict for one in reference.analyses.values()]
    difference = eigencore.bind(
        problem_of("few", cut(few(), 0), Shard(0)), backend="torch", derivative="difference", check=False
    )
    result = eigencore.solve(difference.operator(), 2, complete=None)
    found["difference"] = np.abs(result.values - reference.eigen.values[:2]).max(), result.certificate.floor
    return found


def forgetful(rank: int) -> str:
    """What is answered if the sums over the processes are forgotten."""
    Shards.sum = lambda self, x: x  # type: ignore[method-assign]
    bound = eigencore.bind(problem_of("layers", cut(layers(), 0), Shard(0)), backend="torch", check=False)
    return answer_of(lambda: eigencore.solve(bound.operator(), 1, complete=None))


def faults(rank: int) -> dict[str, str]:
    """What is answered to what is not available, or is not the same in all processes."""
    model, data = cut(layers(), 0), batches(SIZES)

    def bound(data: Any = data, model: nn.Module = model, **options: Any) -> Any:
        return eigencore.bind(Problem(model, data, nn.CrossEntropyLoss()), backend="torch", **options)

    def place(x: Tensor) -> Any:
        return distribute_tensor(x, _mesh(), [Shard(0)])

    odd: Any = layers()
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    torch.manual_seed(rank)
    nn.init.normal_(odd[4].weight)
    odd = parallelize_module(odd, _mesh(), plan)
    cases: dict[str, Callable[[], object]] = {
        "batches": lambda: bound(data[: 1 + rank]).operator(),
        "numbers": lambda: bound([(x + rank, y) for x, y in data]).operator(),
        "weights": lambda: bound(model=odd).operator(),
        "kind": lambda: bound().operator("ggn"),
        "route": lambda: bound(route="recorded"),
        "samples": lambda: eigencore.solve(bound().operator(), 2, samples=10),
        "solver": lambda: eigencore.solve(bound().operator(), 2, solver="lobpcg"),
        "blocks": lambda: bound().operator().block_products([], []),
        "classifier": lambda: bound().classifier(),
        "seed": lambda: eigencore.solve(bound().operator(), 2, seed=rank),
        "second derivative": lambda: _without_second_derivative(place).operator().matvec(torch.zeros(1)),
    }
    return {name: answer_of(call) for name, call in cases.items()}


def _without_second_derivative(place: Callable[[Tensor], Any]) -> Any:
    """A network for which PyTorch can't exchange the shards of a second derivative."""
    torch.manual_seed(0)
    model = cut(nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 3)).double(), 0)
    problem = Problem(model, batches(SIZES), nn.CrossEntropyLoss())
    operator = eigencore.bind(problem, backend="torch").operator()
    operator.matvec(torch.ones(arrays.local_rows(operator), dtype=torch.float64))
    raise AssertionError("PyTorch has learned it")
