"""Claim: at equal steps, an attack is in the mean at most 1.2 points or 3 % behind its counterpart elsewhere.

    python benchmarks/attack_counterparts.py [--images 200] [--seeds 5] [--networks demo:mnist ...]

Each attack runs beside its counterpart in foolbox or AutoAttack, with the same number of gradient steps or
queries, on the first test images of each network. At a fixed eps, both are random: the percentage of images
that are still classified correctly is a mean over the seeds, and the difference has its standard error.
Attacks for the smallest perturbation run once: the median distance of the images that were
correct without an attack, and the geometric mean of the ratio of the two distances of an image. The last rows
are the least over all attacks of eigencore, and the least over all others, of each image and seed.
foolbox's FMN finds larger L2 distances than its DDN, whatever its steps: `fmn` is compared with DDN in L2.

The other libraries get a copy of the network whose weights need no gradient. Needs foolbox and pyautoattack.
Writes benchmarks/results/attack_counterparts.json after each norm of a network, and keeps what is there if it
was measured with the same images and versions; with --resume, that is not measured again.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from attacks import NETWORKS, Network, network
from records import machine, read, save, seconds_of
from torch import Tensor

import eigencore

NAME = "attack_counterparts"
# Radii at which some images of each network withstand an attack, and some do not.
EPS: dict[str, dict[str, tuple[float, ...]]] = {
    "demo:digits": {"Linf": (0.05, 0.1), "L2": (0.4,)},
    "demo:mnist": {"Linf": (0.05, 0.1), "L2": (1.0,)},
    "demo:mnist-robust": {"Linf": (0.2, 0.3), "L2": (2.0,)},
}
STEPS, QUERIES, LONG, TARGETS = 100, 1000, 300, 3
LEAST = "the least of each"
# Each attack with its options, and the name of the counterpart.
FIXED: dict[str, tuple[dict[str, Any], str]] = {
    "pgd": ({"steps": STEPS}, "foolbox PGD"),
    "apgd": ({"steps": STEPS}, "AutoAttack APGD-CE"),
    "apgd_t": ({"steps": STEPS}, "AutoAttack APGD-T"),
    "square": ({"queries": QUERIES}, "AutoAttack Square"),
}
SMALLEST: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "L2": {
        "ddn": ({"steps": STEPS}, "foolbox DDN"),
        "fmn": ({"steps": STEPS // 2, "restarts": 2, "norm": "L2"}, "foolbox DDN"),
        "deepfool": ({"steps": STEPS // TARGETS, "norm": "L2"}, "foolbox DeepFool"),
    },
    "Linf": {
        "fmn": ({"steps": STEPS // 2, "restarts": 2, "norm": "Linf"}, "foolbox FMN"),
        "deepfool": ({"steps": STEPS // TARGETS, "norm": "Linf"}, "foolbox DeepFool"),
    },
}
ONLY_LEAST = {"L2": ("foolbox DDN, 300 steps", "foolbox FMN"), "Linf": ()}  # further attacks of theirs


class Passes(torch.nn.Module):
    """A network that counts the forward and backward passes through it, in samples."""

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner, self.forward_passes, self.backward_passes = inner, 0, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forward_passes += len(x)
        logits: Tensor = self.inner(x)
        if logits.requires_grad:
            logits.register_hook(partial(self._count_backward, len(x)))
        return logits

    def _count_backward(self, samples: int, _: Tensor) -> None:
        self.backward_passes += samples


@dataclass
class Cost:
    """The passes and the CPU time of some runs of an attack on `images` images each."""

    images: int
    runs: int = 0
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0

    def add(self, forward: int, backward: int, seconds: float) -> None:
        self.runs += 1
        self.forward += forward
        self.backward += backward
        self.seconds += seconds

    def per_image(self) -> dict[str, float]:
        count = self.runs * self.images
        return {
            "forward": round(self.forward / count, 1),
            "backward": round(self.backward / count, 1),
            "milliseconds": round(1e3 * self.seconds / count, 2),
        }


def ours(at: Network, name: str, cost: Cost, **keywords: Any) -> Any:
    seconds, found = seconds_of(
        lambda: eigencore.attack(at.bound, name, images=at.count, batch=at.count, **keywords)
    )
    cost.add(found.forward, found.backward, seconds)
    return found


def theirs(at: Network, cost: Cost, run: Callable[[torch.nn.Module], Tensor]) -> Tensor:
    """The inputs that `run`, of another library, returns for a model."""
    model = Passes(at.model)
    seconds, moved = seconds_of(lambda: run(model))
    cost.add(model.forward_passes, model.backward_passes, seconds)
    return moved


def withstands_theirs(at: Network, name: str, norm: str, eps: float, seed: int, cost: Cost) -> np.ndarray:
    """Whether each image is still classified correctly after an attack of another library (N,)."""
    import foolbox
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.square import SquareAttack

    def their_pgd(model: torch.nn.Module) -> Tensor:
        run = getattr(foolbox.attacks, f"{norm}PGD")(steps=STEPS, rel_stepsize=0.025)
        peer = foolbox.PyTorchModel(model, bounds=(0, 1))
        return run(peer, at.images, at.labels, epsilons=eps)[1]

    keywords = {"eps": eps, "norm": norm, "seed": seed, "device": "cpu"}
    make: Any = {
        "AutoAttack APGD-CE": partial(APGDAttack, n_iter=STEPS, **keywords),
        "AutoAttack APGD-T": partial(APGDAttack_targeted, n_iter=STEPS, **keywords),
        "AutoAttack Square": partial(SquareAttack, n_queries=QUERIES, p_init=0.8, **keywords),
    }
    run = their_pgd if name == "foolbox PGD" else lambda m: make[name](m).perturb(at.images, at.labels)
    torch.manual_seed(seed)
    moved = theirs(at, cost, run)
    with torch.no_grad():
        return (at.model(moved).argmax(1) == at.labels).numpy()


def distances_of_theirs(at: Network, name: str, norm: str, cost: Cost) -> np.ndarray:
    """The distance of each image to what an attack of another library found (N,)."""
    import foolbox

    make: Any = {
        ("foolbox DDN", "L2"): lambda: foolbox.attacks.DDNAttack(steps=STEPS),
        ("foolbox DDN, 300 steps", "L2"): lambda: foolbox.attacks.DDNAttack(steps=LONG),
        ("foolbox DeepFool", "L2"): lambda: foolbox.attacks.L2DeepFoolAttack(steps=STEPS),
        ("foolbox DeepFool", "Linf"): lambda: foolbox.attacks.LinfDeepFoolAttack(steps=STEPS),
        ("foolbox FMN", "L2"): lambda: foolbox.attacks.L2FMNAttack(steps=STEPS),
        ("foolbox FMN", "Linf"): lambda: foolbox.attacks.LInfFMNAttack(steps=STEPS),
    }[name, norm]

    def run(model: torch.nn.Module) -> Tensor:
        peer = foolbox.PyTorchModel(model, bounds=(0, 1))
        return make()(peer, at.images, at.labels, epsilons=None)[1]

    torch.manual_seed(0)
    moved = theirs(at, cost, run)
    with torch.no_grad():
        fooled = (at.model(moved).argmax(1) != at.labels).numpy()
    order = 2 if norm == "L2" else np.inf
    far = torch.linalg.vector_norm((moved - at.images).flatten(1), dim=1, ord=order).double().numpy()
    return np.where(fooled, far, np.inf)


def compare_accuracies(at: Network, norm: str, radii: tuple[float, ...], seeds: int) -> dict[str, Any]:
    """How many of the images withstand each attack and its counterpart, at each eps."""
    rows: dict[str, Any] = {}
    shape = (seeds, len(radii), at.count)
    least = np.ones((2, *shape), bool)
    for label, (options, counterpart) in FIXED.items():
        both, costs = np.empty((2, *shape), bool), (Cost(at.count), Cost(at.count))
        for seed, (i, eps) in product(range(seeds), enumerate(radii)):
            found = ours(at, label, costs[0], eps=eps, norm=norm, seed=seed, **options)
            both[0, seed, i] = ~found.success
            both[1, seed, i] = withstands_theirs(at, counterpart, norm, eps, seed, costs[1])
        least &= both
        rows[label] = {"counterpart": counterpart, "eps": accuracies(radii, *both)} | per_image(*costs)
        print(f"  {norm:5} {label:9} {rows[label]}", flush=True)
    rows[LEAST] = {"counterpart": LEAST, "eps": accuracies(radii, *least)}
    print(f"  {norm:5} {LEAST} {rows[LEAST]}", flush=True)
    return {"seeds": seeds, "attacks": rows}


def accuracies(radii: tuple[float, ...], one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Per cent of the images that withstand, and how the two attacks differ, at each eps.

    Args:
        one, other: whether an image withstands (seeds, radii, N).
    """
    found = {}
    for i, eps in enumerate(radii):
        ours_, theirs_ = (100 * each[:, i].mean(axis=1) for each in (one, other))
        found[f"{eps:g}"] = {
            "ours": round(float(ours_.mean()), 2),
            "theirs": round(float(theirs_.mean()), 2),
            "error": round(float(np.sqrt((ours_.var(ddof=1) + theirs_.var(ddof=1)) / len(one))), 2),
            "images_only_ours": round(float((one[:, i] & ~other[:, i]).sum(axis=1).mean()), 1),
            "images_only_theirs": round(float((~one[:, i] & other[:, i]).sum(axis=1).mean()), 1),
        }
    return found


def compare_distances(at: Network, norm: str) -> dict[str, Any]:
    """The distances that each attack and its counterpart found."""
    rows: dict[str, Any] = {}
    own: dict[str, np.ndarray] = {}
    others: dict[str, np.ndarray] = {}
    costs: dict[str, Cost] = {}
    correct = np.ones(at.count, bool)
    for name in (*dict.fromkeys(row[1] for row in SMALLEST[norm].values()), *ONLY_LEAST[norm]):
        others[name] = distances_of_theirs(at, name, norm, costs.setdefault(name, Cost(at.count)))
    for label, (options, counterpart) in SMALLEST[norm].items():
        cost = Cost(at.count)
        found = ours(at, label, cost, **options)
        own[label], correct = found.distance, found.correct
        rows[label] = {
            "counterpart": counterpart,
            **distances(own[label][correct], others[counterpart][correct]),
            **per_image(cost, costs[counterpart]),
        }
    least = (np.min(list(each.values()), axis=0)[correct] for each in (own, others))
    rows[LEAST] = {"counterpart": f"the least of {', '.join(others)}", **distances(*least)}
    for label, row in rows.items():
        print(f"  {norm:5} {label:18} {row}", flush=True)
    return rows


def distances(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """The medians, and the geometric mean of the ratios where both were found."""
    both = np.isfinite(one) & np.isfinite(other)
    return {
        "ours": round(float(np.median(one)), 5),
        "theirs": round(float(np.median(other)), 5),
        "ratio": round(float(np.exp(np.log(one[both] / other[both]).mean())), 4),
    }


def per_image(one: Cost, other: Cost) -> dict[str, Any]:
    return {"cost": {"ours": one.per_image(), "theirs": other.per_image()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--resume", action="store_true", help="measure only what the file does not have")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of foolbox
    settings = {**machine(("foolbox", "pyautoattack")), "images": arguments.images}
    for name in arguments.networks:
        at = network(name, arguments.images)
        print(f"{name}: {at.description}", flush=True)
        parts: list[tuple[str, str, Callable[[], Any]]] = [
            *(("distances", norm, partial(compare_distances, at, norm)) for norm in SMALLEST),
            *(
                ("accuracies", norm, partial(compare_accuracies, at, norm, radii, arguments.seeds))
                for norm, radii in EPS[name].items()
            ),
        ]
        for kind, norm, measure in parts:
            if not (arguments.resume and norm in recorded(settings, name, at).get(kind, {})):
                keep(settings, name, at, kind, norm, measure())


def recorded(settings: dict[str, Any], name: str, at: Network) -> dict[str, Any]:
    """What the file of results has of a network, measured with these settings."""
    return dict(_recorded(settings).get(name, {"description": at.description}))


def keep(settings: dict[str, Any], name: str, at: Network, kind: str, norm: str, rows: Any) -> None:
    """Writes the rows of a norm into the file of results, beside what was measured with the same settings."""
    found = recorded(settings, name, at)
    found[kind] = {**found.get(kind, {}), norm: rows}
    known = {**_recorded(settings), name: found}
    save(NAME, {**settings, "networks": {each: known[each] for each in NETWORKS if each in known}})


def _recorded(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        record = read(NAME)
    except FileNotFoundError:
        return {}
    same = all(record.get(key) == value for key, value in settings.items())
    return dict(record["networks"]) if same else {}


if __name__ == "__main__":
    main()
