"""Claim: the least of a few cheap attacks is nearer the smallest distance known than 1000 steps of `ddn`.

    python benchmarks/smallest_perturbations.py [--images 200] [--networks demo:digits demo:mnist ...]

Each attack, and the least of several for each image, on the first test images of each network: how far their
L2 distances exceed the smallest one that any run here found, in the mean and at most, with the passes and the
CPU time per image. The smallest distance known is an upper bound of the distance to the boundary.

Writes benchmarks/results/smallest_perturbations.json after each network.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from attacks import NETWORKS
from records import machine, save, seconds_of

import eigencore

# The attacks with their options. The last ones serve as the reference only.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddn": ("ddn", {}),
    "deepfool": ("deepfool", {}),
    "fmn": ("fmn", {}),
    "deepfool, 50 steps": ("deepfool", {"steps": 50}),
    "ddn, 1000 steps": ("ddn", {"steps": 1000}),
    "fmn, 1 search of 200 steps": ("fmn", {"steps": 200, "restarts": 1}),
    "fmn, 20 searches": ("fmn", {"restarts": 20}),
    "deepfool, 100 steps": ("deepfool", {"steps": 100}),
}
TOGETHER = (
    ("ddn", "deepfool"),
    ("ddn", "fmn"),
    ("deepfool", "fmn"),
    ("ddn", "deepfool", "fmn"),
    ("deepfool, 50 steps", "fmn"),
    ("ddn", "deepfool, 50 steps", "fmn"),
)


def measure(name: str, images: int) -> dict[str, Any]:
    bound = eigencore.bind(name)
    found, costs = {}, {}
    for label, (attack, options) in RUNS.items():
        seconds, result = seconds_of(
            lambda attack=attack, options=options: eigencore.attack(
                bound, attack, images=images, batch=images, **options
            )
        )
        found[label] = result.distance[result.correct]
        costs[label] = np.array([result.forward, result.backward, 1e3 * seconds]) / images
        print(f"  {label:34} {costs[label]}", flush=True)
    best = np.min(list(found.values()), axis=0)
    rows = {}
    for labels in (*((label,) for label in RUNS), *TOGETHER):
        excess = np.min([found[label] for label in labels], axis=0) / best - 1
        forward, backward, milliseconds = np.sum([costs[label] for label in labels], axis=0)
        rows[" and ".join(labels)] = {
            "mean": round(100 * float(excess.mean()), 3),
            "largest": round(100 * float(excess.max()), 2),
            "forward": round(float(forward), 1),
            "backward": round(float(backward), 1),
            "milliseconds": round(float(milliseconds), 1),
        }
        print(f"  {' and '.join(labels):34} {rows[' and '.join(labels)]}", flush=True)
    return {"images": len(best), "median": round(float(np.median(best)), 4), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = {**machine(), "networks": {}}
    for name in arguments.networks:
        print(name, flush=True)
        record["networks"][name] = measure(name, arguments.images)
        path = save("smallest_perturbations", record)
    print(path)


if __name__ == "__main__":
    main()
