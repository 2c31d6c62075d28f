"""What the benchmarks share: time, spread, versions, a JSON file, the program around a measurement.

On a processor, times are CPU times of one process and thread. On a GPU, they are wall-clock times, from an
idle device to an idle device.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from eigencore import Problem
from eigencore_torch.memory_limit import retain_freed_memory

T, Name = TypeVar("T"), TypeVar("Name")
RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("eigencore", "torch", "numpy", "scipy")
PEERS = ("hessian-eigenthings", "PyHessian", "curvlinops-for-pytorch")


def seconds_of(call: Callable[[], T], device: str = "cpu") -> tuple[float, T]:
    """The time that a call takes on a device, as in the text of the module, and what it returns."""
    began = now(device)
    result = call()
    return now(device) - began, result


def now(device: str) -> float:
    """The clock of a device, in seconds; it waits until a GPU has finished."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def placed(problem: Problem, device: str) -> Problem:
    """The problem with its model and its data on the device."""
    batches = [(x.to(device), y.to(device)) for x, y in problem.data]
    return replace(problem, model=problem.model.to(device), data=batches)


def on_gpu(problem: Problem) -> bool:
    return bool(next(problem.model.parameters()).is_cuda)


def spread(values: Sequence[float]) -> dict[str, float]:
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in numbers.items()}


def gradient(problem: Problem) -> Callable[[], Tensor]:
    """The gradient of the mean loss over the same data in the same batches: the unit of cost."""
    parameters = list(problem.model.parameters())

    def compute() -> Tensor:
        total = [torch.zeros_like(p) for p in parameters]
        for x, y in problem.data:
            pieces = torch.autograd.grad(problem.loss(problem.model(x), y), parameters)
            for sum_, piece in zip(total, pieces, strict=True):
                sum_.add_(piece, alpha=len(y))
        samples = sum(len(y) for _, y in problem.data)
        return torch.cat([sum_.reshape(-1) for sum_ in total]) / samples

    return compute


def cost_in_gradients(
    calls: Mapping[Name, Callable[[], object]], unit: Callable[[], Tensor], rounds: int
) -> tuple[dict[Name, dict[str, float]], dict[str, float]]:
    """The time of each call in gradients, and that of a gradient in seconds: spreads over the rounds.

    The time of a call is divided by the mean of those of the gradients immediately before and after it.
    """
    device = unit().device.type
    ratios: dict[Name, list[float]] = {name: [] for name in calls}
    gradients = [seconds_of(unit, device)[0]]
    for _ in range(rounds):
        for name, call in calls.items():
            seconds = seconds_of(call, device)[0]
            gc.collect()
            gradients.append(seconds_of(unit, device)[0])
            ratios[name].append(2 * seconds / (gradients[-2] + gradients[-1]))
    return {name: spread(values) for name, values in ratios.items()}, spread(gradients)


def measure_networks(
    name: str,
    description: str | None,
    networks: Mapping[str, Callable[[], Problem]],
    measure: Callable[[Problem, int], dict[str, Any]],
    *,
    default: Sequence[str] | None = None,
    peers: Sequence[str] = (),
) -> None:
    """The program of a benchmark: measures the networks of the command line, prints and saves the results.

    `measure(problem, rounds)` returns the result for a network, whose last value is printed row by row.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(default or networks))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    results: dict[str, Any] = {}
    for key in arguments.networks:
        problem = placed(networks[key](), arguments.device)
        results[problem.name] = result = measure(problem, arguments.rounds)
        print(f"{problem.name}: {problem.description}")
        for row, value in list(result.values())[-1].items():
            print(f"  {row:40} {value}", flush=True)
    record = {**machine(peers, arguments.device), "rounds": arguments.rounds, "networks": results}
    print(save(name, record, arguments.device))


def keep_freed_memory() -> None:
    """Makes glibc keep up to 256 MiB of freed memory from the start, as eigencore makes it do.

    Otherwise, it returns memory to the system after each batch of a convolutional network and requests it
    again, until eigencore is used, and the contestants after it are faster.
    """
    retain_freed_memory()


def machine(peers: Sequence[str] = (), device: str = "cpu") -> dict[str, Any]:
    """The properties of the environment that a measurement depends on."""
    return {
        "versions": {name: metadata.version(name) for name in (*LIBRARIES, *peers) if _installed(name)},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "dtype": "float32",
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device),
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = ()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def save(name: str, record: dict[str, Any], device: str = "cpu") -> Path:
    path = RESULTS / (f"{name}.json" if device == "cpu" else f"{name}-gpu.json")
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())
