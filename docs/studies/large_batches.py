"""Large batches, curvature and robustness: 48 small networks on handwritten digits, trained to the same loss.

    python docs/studies/large_batches.py

writes docs/studies/large-batches.jsonl; if it is stopped, the same line continues. The page large-batches.md
describes the study and its results.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_tables import cell, draw, p_value, pictured, rho, table, write
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import eigencore
from eigencore.figures import Figure
from eigencore_demo.digits import TRAINING, images
from eigencore_robustness import infer_study
from eigencore_robustness.networks.network_inference import StudyInference

ROWS = Path(__file__).with_name("large-batches.jsonl")
PAGE = ROWS.with_suffix(".md")
SETTINGS: dict[str, Any] = {"seed": 0, "options": {"network": {"images": None, "eps": 0.1}}}

BATCHES, RATES, DECAYS = (16, 64, 256, 1024), (0.02, 0.05, 0.1), (0.0, 3e-3)
# Training stops when the loss of the training images, not perturbed, is below TARGET for the first time.
TARGET, MOST_STEPS, MOMENTUM = 0.05, 20_000, 0.9
EPS, PGD_STEPS = 0.1, 3  # of adversarial training (Linf), with steps of PGD_STEP
PGD_STEP = 0.05


def networks() -> Iterator[eigencore.Member]:
    """A network for each combination of batch size, learning rate, weight decay and adversarial training."""
    grid = itertools.product(BATCHES, RATES, DECAYS, (False, True))
    for seed, (batch, rate, decay, adversarial) in enumerate(grid):
        known = {"batch": batch, "rate": rate, "decay": decay, "adversarial": adversarial, "net_seed": seed}
        name = f"batch {batch}, rate {rate:g}, decay {decay:g}{', adversarial' if adversarial else ''}"
        yield eigencore.Member(name, partial(train, seed, batch, rate, decay, adversarial), known)


def network() -> nn.Module:
    """3,818 weights; the activation is smooth."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def train(seed: int, batch: int, rate: float, decay: float, adversarial: bool) -> eigencore.Problem:
    """The problem of a network after training by SGD to the loss TARGET."""
    x, y = images()
    held_out = (x[TRAINING:], y[TRAINING:])
    x, y = x[:TRAINING], y[:TRAINING]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=decay)
        for step, chosen in enumerate(_batches(len(x), batch)):
            # The loss is looked at after every 256 samples, or every larger batch.
            if step * min(batch, 256) % 256 == 0 and _loss(model, x, y) < TARGET:
                break
            if step == MOST_STEPS:
                raise RuntimeError(
                    f"the loss is {_loss(model, x, y):.3f} after {step} steps; it is not matched"
                )
            inputs = perturbed(model, x[chosen], y[chosen]) if adversarial else x[chosen]
            optimizer.zero_grad()
            cross_entropy(model(inputs), y[chosen]).backward()
            optimizer.step()
    model.zero_grad()
    return eigencore.Problem(
        model=model.eval(),
        data=[(x, y)],
        loss=nn.CrossEntropyLoss(),
        validation=[held_out],
        bounds=(0.0, 1.0),
        reduction="mean",
        backend="torch",
    )


def perturbed(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Images of greater loss within EPS, by projected gradient descent from a random start."""
    delta = (2 * torch.rand_like(x) - 1) * EPS
    for _ in range(PGD_STEPS):
        moved = (x + delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), y), moved)
        delta = (delta + PGD_STEP * gradient.sign()).clamp(-EPS, EPS)
    return (x + delta).clamp(0, 1)


def _batches(n: int, size: int) -> Iterator[Tensor]:
    """Random batches without end, each sample once in an epoch."""
    while True:
        yield from torch.randperm(n).split(min(size, n))


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(cross_entropy(model(x), y))


# -- the page ----------------------------------------------------------------------------------------------

METRICS = {
    "network.median_r1": "median r1",
    "network.median_lambda_input": "median curvature over the input",
    "network.lambda_clean": "λ₁",
    "network.lambda_scaled": "λ₁, scaled",
    "network.lambda_robust": "λ₁ of the robust loss",
    "network.lambda_robust_scaled": "λ₁ of the robust loss, scaled",
    "trace.trace": "trace",
}
DESIGN = {
    "batch": "batch size",
    "rate": "learning rate",
    "ratio": "learning rate / batch size",
    "decay": "weight decay",
}
OUTCOMES = {
    "network.robust_accuracy": "robust accuracy",
    "network.robust_loss": "robust loss",
    "network.median_distance": "median distance",
}


def parts(study: eigencore.Study) -> dict[str, str]:
    """The tables and sentences of the page, by their marks."""
    c = study.columns
    robust = c["adversarial"] == 1
    spans = [
        (
            name,
            *(
                f"{cell(float(c[column][rows].min()))} to {cell(float(c[column][rows].max()))}"
                for rows in (~robust, robust)
            ),
        )
        for column, name in {
            "network.train_loss": "loss of the training images",
            "network.clean_accuracy": "clean accuracy",
            **OUTCOMES,
            **METRICS,
        }.items()
    ]
    shown = (("network.lambda_clean", "λ₁"), ("network.robust_accuracy", "robust accuracy"))
    plain = ~robust & (c["decay"] == 0)
    by_batch = [
        (
            size,
            *(
                float(c[column][plain & (c["batch"] == size) & (c["rate"] == rate)][0])
                for column, _ in shown
                for rate in RATES
            ),
        )
        for size in BATCHES
    ]
    design = infer_study(
        {**c, "ratio": c["rate"] / c["batch"]},
        metrics=list(DESIGN),
        outcomes=["network.lambda_clean", *OUTCOMES],
    )
    found = infer_study(c)
    return {
        "pictures": pictured(PAGE, figures(study)),
        "spans": table(["", "ordinary training", "adversarial training"], spans),
        "batches": table(
            ["batch size", *(f"{name}, rate {rate:g}" for _, name in shown for rate in RATES)], by_batch
        ),
        "metrics": _associations(found, METRICS, OUTCOMES),
        "design": _associations(
            design,
            DESIGN,
            {"network.lambda_clean": "λ₁", **OUTCOMES},
        ),
        "verdict": f"> {found.verdict}",
    }


def _associations(found: StudyInference, metrics: dict[str, str], outcomes: dict[str, str]) -> str:
    """A row for each metric: rho with each outcome, and its p-value for all pairs together."""
    assert found.found is not None
    pairs = {(one.metric, one.outcome): one for one in found.found.associations}
    rows = [
        (name, *(f"{rho(pairs[m, o].rho)} ({p_value(pairs[m, o].family_p)})" for o in outcomes))
        for m, name in metrics.items()
    ]
    return table(["ρ (p of all)", *outcomes.values()], rows)


def figures(study: eigencore.Study) -> tuple[Figure, ...]:
    """Sharpness and the first-order margin of every network against its robust accuracy."""
    c = study.columns
    robust = c["adversarial"] == 1
    return tuple(
        Figure(
            "scatter",
            f"{name} and robust accuracy of {len(robust)} networks",
            name,
            "accuracy under PGD (Linf 0.1)",
            {
                "x": c[column],
                "ordinary training": np.where(robust, np.nan, c["network.robust_accuracy"]),
                "adversarial training": np.where(robust, c["network.robust_accuracy"], np.nan),
            },
            x_scale="log",
            caption=f"The accuracy under PGD against {name}, of {int((~robust).sum())} networks with "
            f"ordinary and {int(robust.sum())} with adversarial training.",
        )
        for column, name in (("network.lambda_clean", "λ₁"), ("network.median_r1", "median r1"))
    )


def main() -> None:
    """Runs what is missing of the study, and writes its tables and pictures into the page."""
    study = eigencore.study(networks, out=ROWS, progress=print, **SETTINGS)
    write(PAGE, parts(study))
    draw(PAGE, figures(study))


if __name__ == "__main__":
    main()
