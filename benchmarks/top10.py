"""Claim: the ten largest eigenvalues, to a relative residual of 1e-3, take less time than in other libraries.

    python benchmarks/top10.py [--networks digits mlp] [--repeats 3] [--limit 60] [--device cuda]

Each contestant starts from the model and its data and computes the ten eigenpairs of largest magnitude, as
its own documentation recommends. The number of products, the CPU time in one thread (on a GPU, wall-clock
time), and this time divided by that of a gradient, measured immediately before and after, are reported. The
answer is then verified in float64: the largest relative residual ||A v - theta v|| / |theta| by fresh
products, whether there are ten different vectors, and whether the values are the ten largest, as ARPACK finds
them in float64. A peer that reaches `limit` seconds is stopped; a contestant that takes more than 15 seconds
runs only once.

Peers of benchmarks/peers.txt that are not installed are left out. Writes benchmarks/results/top10.json, or
top10-gpu.json.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from judge import Answer, Judge
from networks import NETWORKS, one_batch
from records import (
    PEERS,
    gradient,
    keep_freed_memory,
    machine,
    now,
    on_gpu,
    placed,
    save,
    seconds_of,
    spread,
)
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

import eigencore
from eigencore import Problem

K, TOL, SEED = 10, 1e-3, 0
LONG = 15.0
ENOUGH = {"digits CNN": 20, "MLP": 40}


class TimeUpError(Exception):
    """A contestant reached the limit of time."""


class Counter:
    """Counts a contestant's products, and stops it after `limit` seconds on the clock of a device."""

    def __init__(self, limit: float, device: str):
        self.products, self._device, self._end = 0, device, now(device) + limit

    def counting(self, product: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            if now(self._device) > self._end:
                raise TimeUpError
            self.products += 1
            return product(*arguments, **keywords)

        return counted


Contestant = Callable[[Problem, Counter], Answer]


def ours(solver: str) -> Contestant:
    def find(problem: Problem, counter: Counter) -> Answer:
        operator = eigencore.bind(problem).operator()
        result = eigencore.solve(operator, K, solver=solver, tol=TOL, seed=SEED)
        return Answer(result.values, result.vectors, result.matvecs)

    return find


def eigenthings(problem: Problem, counter: Counter) -> Answer:
    return _eigenthings(problem, counter)[0]


def eigenthings_doubled(problem: Problem, counter: Counter) -> Answer:
    """Doubles the steps until all convergence flags are set, as a user can who does not know the answer."""
    steps = 2 * K
    while True:
        answer, converged = _eigenthings(_whole(problem), counter, max_iter=steps, reorthogonalize=True)
        if converged:
            return answer
        steps *= 2


def eigenthings_known(problem: Problem, counter: Counter) -> Answer:
    """The smallest sufficient number of steps, found by runs that are not counted."""
    steps = ENOUGH[problem.name]
    return _eigenthings(_whole(problem), counter, max_iter=steps, reorthogonalize=True)[0]


def _eigenthings(problem: Problem, counter: Counter, **options: Any) -> tuple[Answer, bool]:
    from hessian_eigenthings import HessianOperator, LambdaOperator, lanczos, supervised_loss

    operator = HessianOperator(problem.model, problem.data, supervised_loss(problem.loss))
    device = next(problem.model.parameters()).device
    counted = LambdaOperator(counter.counting(operator.matvec), operator.size, device)
    result = lanczos(counted, k=K, tol=TOL, seed=SEED, **options)
    found = Answer(result.eigenvalues.cpu().numpy(), result.eigenvectors.T, counter.products)
    return found, bool(result.converged.all())


def pyhessian(tol: float) -> Contestant:
    """In one batch, for which PyHessian keeps the graph: a third faster than from a data loader."""

    def find(problem: Problem, counter: Counter) -> Answer:
        # By its full name, because the package exports a class with the name of this module.
        module = import_module("pyhessian.hessian")
        torch.manual_seed(SEED)
        original = module.hessian_vector_product
        module.hessian_vector_product = counter.counting(original)
        try:
            computer = module.hessian(
                problem.model, problem.loss, data=one_batch(problem), cuda=on_gpu(problem)
            )
            values, vectors = computer.eigenvalues(top_n=K, tol=tol)
        finally:
            module.hessian_vector_product = original
        columns = [torch.cat([piece.reshape(-1) for piece in vector]) for vector in vectors]
        return Answer(np.array(values), torch.stack(columns, dim=1), counter.products)

    return find


def curvlinops(one: bool = False, **options: Any) -> Contestant:
    def find(problem: Problem, counter: Counter) -> Answer:
        from curvlinops import HessianLinearOperator

        parameters = list(problem.model.parameters())
        data = _whole(problem).data if one else problem.data
        operator = HessianLinearOperator(problem.model, problem.loss, parameters, data).to_scipy()
        counted = LinearOperator(
            operator.shape, matvec=counter.counting(operator.matvec), dtype=operator.dtype
        )
        start = np.random.default_rng(SEED).standard_normal(operator.shape[0])
        values, vectors = eigsh(counted, k=K, which="LM", v0=start, **options)
        return Answer(values, torch.from_numpy(vectors), counter.products)

    return find


def _whole(problem: Problem) -> Problem:
    return replace(problem, data=[one_batch(problem)])


CONTESTANTS: dict[str, Contestant] = {
    "eigencore lanczos": ours("lanczos"),
    "eigencore accel_power": ours("accel_power"),
    "hessian-eigenthings lanczos, defaults": eigenthings,
    "hessian-eigenthings lanczos, one batch, steps doubled until its flags agree": eigenthings_doubled,
    "hessian-eigenthings lanczos, one batch, enough steps known beforehand": eigenthings_known,
    "PyHessian, defaults": pyhessian(1e-3),
    "PyHessian, tol=1e-6": pyhessian(1e-6),
    "curvlinops + eigsh, defaults": curvlinops(),
    "curvlinops + eigsh(tol=1e-3)": curvlinops(tol=TOL),
    "curvlinops, one batch + eigsh(tol=1e-3)": curvlinops(one=True, tol=TOL),
}


def contestants() -> list[str]:
    """The names of those whose library is installed."""
    packages = {
        "eigencore": "eigencore",
        "hessian-eigenthings": "hessian_eigenthings",
        "PyHessian": "pyhessian",
        "curvlinops": "curvlinops",
    }
    return [name for name in CONTESTANTS if find_spec(packages[name.split()[0].rstrip(",")])]


def measure(problem: Problem, repeats: int, limit: float) -> dict[str, Any]:
    judge, unit = Judge(problem, K, TOL), gradient(problem)
    rows: dict[str, dict[str, Any]] = {name: {"seconds": [], "gradients": []} for name in contestants()}
    for repeat in range(repeats):
        for name, row in rows.items():
            if repeat and max(row["seconds"]) > LONG:
                continue
            answer, seconds, in_gradients = _run(problem, CONTESTANTS[name], unit, limit)
            row["seconds"].append(seconds)
            row["gradients"].append(in_gradients)
            if repeat == 0:
                if isinstance(answer, Answer):
                    row |= judge.grade(answer)
                else:
                    row["verdict"] = f"stopped at {limit:.0f} s" if answer is None else f"failed: {answer}"
                print(f"  {name}: {row}", flush=True)
    for row in rows.values():
        row["repeats"] = len(row["seconds"])
        row |= {name: spread(row[name]) for name in ("seconds", "gradients")}
    return {"description": problem.description, "values": judge.values.round(5).tolist(), "contestants": rows}


def _run(
    problem: Problem, find: Contestant, unit: Callable[[], Tensor], limit: float
) -> tuple[Answer | str | None, float, float]:
    """The answer (None if stopped, or why it failed), its seconds, and these over those of a gradient."""
    own = replace(problem, model=copy.deepcopy(problem.model))  # some libraries modify it
    device = "cuda" if on_gpu(problem) else "cpu"
    counter = Counter(limit, device)

    def attempt() -> Answer | str | None:
        try:
            return find(own, counter)
        except TimeUpError:
            return None
        except Exception as error:  # a peer may refuse what this device computes
            return str(error).partition("\n")[0]

    gradients = [seconds_of(unit, device)[0] for _ in range(3)]
    seconds, answer = seconds_of(attempt, device)
    gc.collect()
    gradients += [seconds_of(unit, device)[0] for _ in range(3)]
    return answer, seconds, seconds / statistics.median(gradients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["digits", "mlp"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    record = {**machine(PEERS, arguments.device), "k": K, "tol": TOL, "networks": {}}
    for key in arguments.networks:
        problem = placed(NETWORKS[key](), arguments.device)
        print(f"{problem.name}: {problem.description}", flush=True)
        record["networks"][problem.name] = measure(problem, arguments.repeats, arguments.limit)
    print(save("top10", record, arguments.device))


if __name__ == "__main__":
    main()
