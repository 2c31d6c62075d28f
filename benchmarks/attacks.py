"""Claim: PGD is at most a point weaker than foolbox's best, and DDN as close, in at most 1.2 times the time.

    python benchmarks/attacks.py [--images 200] [--rounds 5] [--networks demo:digits demo:mnist ...]

Strength: the fraction of images that are still classified correctly at each eps (Linf), and the median L2
distance of those that were correct without an attack, on the first test images of each network, with the CPU
time per image. Cost: on demo:digits, with equal numbers of steps, an attack of foolbox and one of eigencore
alternate in one process and thread; the median, lowest and highest ratio are reported. foolbox gets a copy of
the network whose weights require no gradient.

Needs foolbox; writes benchmarks/results/attacks.json.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from records import machine, save, seconds_of, spread

import eigencore
from eigencore.interfaces import Bound
from eigencore.problems import find_problem

NETWORKS = ("demo:digits", "demo:mnist", "demo:mnist-robust")
EPS = (0.02, 0.05, 0.1, 0.2, 0.3)
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "fgsm": ("fgsm", {}),
    "pgd": ("pgd", {}),
    "pgd, 5 restarts": ("pgd", {"restarts": 5}),
    "pgd, margin": ("pgd", {"loss": "margin"}),
    "apgd": ("apgd", {}),
    "apgd, dlr": ("apgd", {"loss": "dlr"}),
}
THEIRS = {  # the number of steps, and the step size in units of eps
    "foolbox PGD, 40 steps of .0625": (40, 0.0625),
    "foolbox PGD, 40 steps of .25": (40, 0.25),
    "foolbox PGD, 100 steps of .025": (100, 0.025),
}


@dataclass(frozen=True)
class Network:
    """A network that is bound to a backend, as a module without gradients of its weights, and for foolbox."""

    bound: Bound
    description: str
    model: Any
    peer: Any
    images: Any
    labels: Any

    @property
    def count(self) -> int:
        return len(self.labels)


def network(name: str, images: int) -> Network:
    import foolbox

    problem = find_problem(name)
    bound = eigencore.bind(problem)
    classifier = bound.classifier()
    x, y = classifier.samples(images)
    model = copy.deepcopy(problem.model).requires_grad_(False)
    peer = foolbox.PyTorchModel(model, bounds=problem.bounds)
    return Network(bound, problem.description, model, peer, x.reshape(-1, *classifier.shape), y)


def ours(at: Network, name: str, eps: float | None, **options: Any) -> Any:
    return eigencore.attack(at.bound, name, eps=eps, images=at.count, batch=at.count, **options)


def theirs(at: Network, run: Any, eps: float | None) -> Any:
    torch.manual_seed(0)
    return run(at.peer, at.images, at.labels, epsilons=eps)


def their_pgd(steps: int, step: float) -> Any:
    import foolbox

    return foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=step)


def their_ddn() -> Any:
    import foolbox

    return foolbox.attacks.DDNAttack(steps=100)


def strength(at: Network) -> dict[str, Any]:
    """Accuracy at each eps, and CPU milliseconds per image and eps."""
    found: dict[str, Any] = {}

    def measure(name: str, left: Callable[[float], float]) -> None:
        seconds, accuracies = seconds_of(lambda: [left(eps) for eps in EPS])
        found[name] = {
            "accuracy": [round(accuracy, 4) for accuracy in accuracies],
            "milliseconds": round(1e3 * seconds / at.count / len(EPS), 3),
        }
        print(f"  {name:32} {found[name]}", flush=True)

    for name, (kind, options) in OURS.items():
        measure(name, lambda eps, kind=kind, options=options: ours(at, kind, eps, **options).accuracy)
    for name, (steps, step) in THEIRS.items():
        run = their_pgd(steps, step)
        measure(name, lambda eps, run=run: 1 - float(theirs(at, run, eps)[2].double().mean()))
    return found


def nearness(at: Network) -> dict[str, Any]:
    """The median L2 distance of the correctly classified images, and CPU milliseconds per image."""
    rows = {}
    correct = None
    for name, steps in (("ddn", 100), ("ddn, 1000 steps", 1000)):
        seconds, found = seconds_of(partial(ours, at, "ddn", None, steps=steps))
        correct = found.correct
        rows[name] = _near(found.distance[correct], found.success[correct], seconds / at.count)
    seconds, (_, moved, broken) = seconds_of(partial(theirs, at, their_ddn(), None))
    far = torch.linalg.vector_norm((moved - at.images).flatten(1), dim=1).double().numpy()
    rows["foolbox DDN, 100 steps"] = _near(far[correct], broken.numpy()[correct], seconds / at.count)
    for name, row in rows.items():
        print(f"  {name:32} {row}", flush=True)
    return rows


def _near(distances: np.ndarray, broken: np.ndarray, seconds: float) -> dict[str, float]:
    return {
        "median": round(float(np.median(distances)), 4),
        "mean": round(float(np.mean(distances)), 4),
        "unbroken": int((~broken).sum()),
        "milliseconds": round(1e3 * seconds, 3),
    }


def cost(at: Network, rounds: int) -> dict[str, Any]:
    """Ratios of our CPU time to that of foolbox for equal numbers of steps, taking turns."""
    steps, step = THEIRS["foolbox PGD, 40 steps of .0625"]
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"pgd, 40 steps, eps {eps:g}": (
            partial(ours, at, "pgd", eps, steps=steps, step=step),
            partial(theirs, at, their_pgd(steps, step), eps),
        )
        for eps in (0.02, 0.1)
    }
    pairs["ddn, 100 steps"] = partial(ours, at, "ddn", None), partial(theirs, at, their_ddn(), None)
    ratios: dict[str, list[float]] = {name: [] for name in pairs}
    for one, other in pairs.values():  # whatever is computed only once is computed here
        one(), other()
    for _ in range(rounds):
        for name, (one, other) in pairs.items():
            ratios[name].append(seconds_of(one)[0] / seconds_of(other)[0])
    for name, found in ratios.items():
        print(f"  {name:32} {spread(found)} times foolbox's", flush=True)
    return {name: spread(found) for name, found in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of foolbox
    record = {**machine(("foolbox",)), "images": arguments.images, "eps": EPS, "networks": {}}
    for name in arguments.networks:
        at = network(name, arguments.images)
        print(f"{name}: {at.description}", flush=True)
        record["networks"][name] = {
            "description": at.description,
            "clean": round(ours(at, "pgd", 0.0).accuracy, 4),
            "strength": strength(at),
            "nearness": nearness(at),
        }
    record["rounds"] = arguments.rounds
    record["cost"] = cost(network("demo:digits", arguments.images), arguments.rounds)
    print(save("attacks", record))


if __name__ == "__main__":
    main()
