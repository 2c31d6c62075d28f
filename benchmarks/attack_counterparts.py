"""Claim: at equal passes, an attack is at most two of 60 images or 3 % behind its counterpart elsewhere.

    python benchmarks/attack_counterparts.py [--images 60] [--networks demo:mnist demo:mnist-robust ...]

Each attack runs beside its counterpart in foolbox or AutoAttack, with the same number of gradient steps or
queries, on the first test images of each network: the percentage that is still classified correctly at each
eps, or the median distance of those that were correct without an attack. The last rows are the least over all
attacks of eigencore, and the least over all others, of each image. `fmn` has no counterpart that works as the
paper says (foolbox's finds larger distances whatever its steps), so that it is compared with DDN in L2, and
with foolbox's FMN and DeepFool in Linf.

The other libraries get a copy of the network whose weights require no gradient. Needs foolbox and
pyautoattack; writes benchmarks/results/attack_counterparts.json.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from attacks import NETWORKS, Network, network
from records import machine, save

import eigencore

# Radii at which some images of each network withstand an attack, and some do not.
EPS: dict[str, dict[str, tuple[float, ...]]] = {
    "demo:digits": {"Linf": (0.05, 0.1), "L2": (0.4,)},
    "demo:mnist": {"Linf": (0.05, 0.1), "L2": (1.0,)},
    "demo:mnist-robust": {"Linf": (0.2, 0.3), "L2": (2.0,)},
}
STEPS, QUERIES, LONG = 100, 1000, 300
# Each attack with its options, and the name of the counterpart.
FIXED: dict[str, tuple[str, dict[str, Any], str]] = {
    "pgd": ("pgd", {"steps": STEPS}, "foolbox PGD"),
    "apgd": ("apgd", {"steps": STEPS}, "AutoAttack APGD-CE"),
    "apgd_t": ("apgd_t", {"steps": STEPS}, "AutoAttack APGD-T"),
    "square": ("square", {"queries": QUERIES}, "AutoAttack Square"),
}
SMALLEST: dict[str, dict[str, tuple[str, dict[str, Any], str]]] = {
    "L2": {
        "ddn": ("ddn", {"steps": STEPS}, "foolbox DDN"),
        "fmn": ("fmn", {"steps": STEPS, "norm": "L2"}, "foolbox DDN"),
        "deepfool": ("deepfool", {"steps": 33, "norm": "L2"}, "foolbox DeepFool"),
    },
    "Linf": {
        "fmn": ("fmn", {"steps": STEPS, "norm": "Linf"}, "foolbox FMN"),
        "deepfool": ("deepfool", {"steps": 33, "norm": "Linf"}, "foolbox DeepFool"),
    },
}


def withstands_theirs(at: Network, name: str, norm: str, eps: float) -> np.ndarray:
    """Whether each image is still classified correctly after an attack of another library (N,)."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.square import SquareAttack

    torch.manual_seed(0)
    if name == "foolbox PGD":
        import foolbox

        run = getattr(foolbox.attacks, f"{norm}PGD")(steps=STEPS, rel_stepsize=0.025)
        return ~run(at.peer, at.images, at.labels, epsilons=eps)[2].numpy()
    model, keywords = at.model, {"eps": eps, "norm": norm, "seed": 0, "device": "cpu"}
    make: Any = {
        "AutoAttack APGD-CE": lambda: APGDAttack(model, n_iter=STEPS, **keywords),
        "AutoAttack APGD-T": lambda: APGDAttack_targeted(model, n_iter=STEPS, **keywords),
        "AutoAttack Square": lambda: SquareAttack(model, n_queries=QUERIES, p_init=0.8, **keywords),
    }[name]
    moved = make().perturb(at.images, at.labels)
    with torch.no_grad():
        return (model(moved).argmax(1) == at.labels).numpy()


def distances_of_theirs(at: Network, name: str, norm: str) -> np.ndarray:
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
    torch.manual_seed(0)
    moved, _, success = make()(at.peer, at.images, at.labels, epsilons=None)
    order = 2 if norm == "L2" else np.inf
    far = torch.linalg.vector_norm((moved - at.images).flatten(1), dim=1, ord=order).double().numpy()
    return np.where(success.numpy(), far, np.inf)


def compare_accuracies(at: Network, norm: str, radii: tuple[float, ...]) -> dict[str, Any]:
    """Per cent of the images that withstand each attack and its counterpart, at each eps."""
    rows: dict[str, Any] = {}
    least = {who: [np.ones(at.count, bool)] * len(radii) for who in ("ours", "theirs")}
    for label, (name, options, counterpart) in FIXED.items():
        found = eigencore.attack(
            at.bound, name, eps=radii, images=at.count, batch=at.count, norm=norm, **options
        )
        both = {
            "ours": [~one.success for one in found],
            "theirs": [withstands_theirs(at, counterpart, norm, eps) for eps in radii],
        }
        for who, each in both.items():
            least[who] = [one & other for one, other in zip(least[who], each, strict=True)]
        rows[label] = {"counterpart": counterpart} | {who: percents(each) for who, each in both.items()}
        print(f"  {norm:5} {label:9} {rows[label]}", flush=True)
    rows["the least of each"] = {"counterpart": "the least of each"} | {
        w: percents(e) for w, e in least.items()
    }
    print(f"  {norm:5} {'least':9} {rows['the least of each']}", flush=True)
    return rows


def percents(each: list[np.ndarray]) -> list[float]:
    return [round(100 * float(one.mean()), 2) for one in each]


def compare_distances(at: Network, norm: str) -> dict[str, Any]:
    """The median distances that each attack and its counterpart found."""
    rows: dict[str, Any] = {}
    ours: list[np.ndarray] = []
    theirs = {name: distances_of_theirs(at, name, norm) for name in _others(norm)}
    correct = np.ones(at.count, bool)
    for label, (name, options, counterpart) in SMALLEST[norm].items():
        found = eigencore.attack(at.bound, name, images=at.count, batch=at.count, **options)
        correct = found.correct
        ours.append(found.distance)
        rows[label] = {"counterpart": counterpart, "ours": _median(found.distance[correct])}
        rows[label]["theirs"] = _median(theirs[counterpart][correct])
    best = {"ours": np.min(ours, axis=0), "theirs": np.min(list(theirs.values()), axis=0)}
    rows["the least of each"] = {"counterpart": f"the least of {', '.join(theirs)}"} | {
        who: _median(each[correct]) for who, each in best.items()
    }
    for label, row in rows.items():
        print(f"  {norm:5} {label:18} {row}", flush=True)
    return rows


def _others(norm: str) -> tuple[str, ...]:
    both = ("foolbox DeepFool", "foolbox FMN")
    return ("foolbox DDN", "foolbox DDN, 300 steps", *both) if norm == "L2" else both


def _median(distances: np.ndarray) -> float:
    return round(float(np.median(distances)), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of foolbox
    record = {**machine(("foolbox", "pyautoattack")), "images": arguments.images, "networks": {}}
    for name in arguments.networks:
        at = network(name, arguments.images)
        print(f"{name}: {at.description}", flush=True)
        record["networks"][name] = {
            "description": at.description,
            "eps": EPS[name],
            "distances": {norm: compare_distances(at, norm) for norm in SMALLEST},
            "accuracies": {norm: compare_accuracies(at, norm, radii) for norm, radii in EPS[name].items()},
        }
    print(save("attack_counterparts", record))


if __name__ == "__main__":
    main()
