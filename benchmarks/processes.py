"""Claim: two processes take little more work for a product than one, and half of it each.

    python benchmarks/processes.py [--rounds 5]

For each network, one process computes products with all data, then two processes with half of the data each;
this is repeated, so that other load on the machine affects both alike. Each process has one thread. CPU time
includes what the exchange computes, but not what a process waits for another one; wall time does, and tells
something on a machine with nothing else to do. The efficiency is the time of one process over the sum of
both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from statistics import median
from typing import Any

PRODUCTS = 10
NETWORKS = ("mlp", "digits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            queue = context.Queue()
            given = (name, arguments.rounds, f"file://{folder}/store", queue)
            workers = [context.Process(target=_measure, args=(rank, *given)) for rank in range(2)]
            for worker in workers:
                worker.start()
            (_, first), (_, second) = sorted([queue.get(timeout=600), queue.get(timeout=600)])
            for worker in workers:
                worker.join()
        for clock in ("CPU", "wall"):
            alone = [one["alone"][clock] for one in first]
            both, exchange = (
                [one[what][clock] + other[what][clock] for one, other in zip(first, second, strict=True)]
                for what in ("together", "exchange")
            )
            efficiencies = [one / two for one, two in zip(alone, both, strict=True)]
            print(
                f"{name}, {clock} time: {1e3 * median(alone):.1f} ms by one process, "
                f"{1e3 * median(both):.1f} ms by two together, of which {1e3 * median(exchange):.1f} ms for "
                "the exchange; efficiency "
                f"{median(efficiencies):.2f} ({min(efficiencies):.2f} to {max(efficiencies):.2f})"
            )


def _measure(rank: int, name: str, rounds: int, store: str, queue: Any) -> None:
    import torch
    import torch.distributed as dist

    import eigencore
    from eigencore.processes import processes_of

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    problem = _problem(name)
    alone = eigencore.bind(problem, processes="none").operator()
    together = eigencore.bind(problem, processes="whole").operator()
    v = torch.randn(alone.shape[0], generator=torch.Generator().manual_seed(0))
    processes, found = processes_of(together), []
    for operator in (alone, together):
        operator.matvec(v)  # makes the graphs
    for _ in range(rounds):
        dist.barrier()
        row = {"alone": _times(lambda: alone.matvec(v))} if rank == 0 else {}
        dist.barrier()  # the other process waits
        row["together"] = _times(lambda: together.matvec(v))
        row["exchange"] = _times(lambda: processes.sum(lambda: v, "a vector", v))
        found.append(row)
    queue.put((rank, found))
    dist.destroy_process_group()


def _times(product: Any) -> dict[str, float]:
    """The CPU time and the wall time of one product, in seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(PRODUCTS):
        product()
    times = time.process_time() - cpu, time.perf_counter() - wall
    return {clock: seconds / PRODUCTS for clock, seconds in zip(("CPU", "wall"), times, strict=True)}


def _problem(name: str) -> Any:
    import torch

    import eigencore

    if name == "digits":
        return "demo:digits"
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 10),
    )
    x = torch.rand(2048, 784, generator=generator)
    y = torch.randint(10, (2048,), generator=generator)
    data = list(zip(x.split(256), y.split(256), strict=True))
    return eigencore.Problem(model, data, torch.nn.CrossEntropyLoss())


if __name__ == "__main__":
    main()
