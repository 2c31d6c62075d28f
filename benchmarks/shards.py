"""Claim: the memory of a process falls with the number of processes that hold vectors, or also weights.

    python benchmarks/shards.py [--processes 1,2,4]

A network of two million weights in float32 under `fully_shard` is solved for two eigenvalues, with a basis of
40 vectors and no kept graphs, by processes with one thread each. Printed are the weights and the vectors that
a process holds, and the growth of its resident memory during the solve, the largest of all processes.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

import eigencore
from eigencore import arrays

WIDTH, SAMPLES, CLASSES, BASIS, VECTORS_HELD = 1000, 64, 8, 40, 42
MODES = {
    "whole weights and vectors": {},
    "whole weights, vectors in shards": {"vectors": "shards"},
    "weights and vectors in shards": {"weights": "shards"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", default="1,2,4", help="numbers of processes, separated by commas")
    for count in map(int, parser.parse_args().processes.split(",")):
        for mode in MODES if count > 1 else list(MODES)[:1]:
            multiprocessing.spawn(measure, (count, mode), nprocs=count)


def measure(rank: int, count: int, mode: str) -> None:
    """Solves in one of several processes; the first one prints what each holds."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    mesh = init_device_mesh("cpu", (count,))
    torch.manual_seed(0)
    layers = [
        nn.Linear(WIDTH, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, CLASSES),
    ]
    model = nn.Sequential(*layers)
    fully_shard(model, mesh=mesh)
    batch = torch.randn(SAMPLES, WIDTH), torch.randint(CLASSES, (SAMPLES,))
    if "weights" in MODES[mode]:
        batch = tuple(distribute_tensor(x, mesh, [Shard(0)]) for x in batch)
    problem = eigencore.Problem(model, [batch], nn.CrossEntropyLoss())
    operator = eigencore.bind(problem, backend="torch", check=False, memory="none", **MODES[mode]).operator()
    rows = arrays.local_rows(operator)
    operator.matvec(torch.ones(rows))  # what the first product allocates for good does not count
    with Growth() as growth:
        eigencore.solve(operator, 2, basis=BASIS, max_matvecs=BASIS, complete=None)
    weights = 4 * (rows if "weights" in MODES[mode] else operator.shape[0])
    found = [None] * count
    dist.all_gather_object(found, np.array([weights, 4 * rows * VECTORS_HELD, growth.bytes]) / 1e6)
    if rank == 0:
        held, vectors, grown = np.max(found, axis=0)
        print(f"{count} processes, {mode}: {held:.1f} MB of weights, {vectors:.0f} of vectors; +{grown:.0f}")
    dist.destroy_process_group()


class Growth:
    """The growth of the resident memory of this process, to its largest value inside."""

    def __enter__(self) -> Growth:
        self._before, self.bytes, self._ended = _resident(), 0, threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            self.bytes = max(self.bytes, _resident() - self._before)
            time.sleep(0.002)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
