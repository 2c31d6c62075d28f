"""A placebo for curvature: networks whose decisions stay the same while their curvature over the input moves.

    python docs/studies/placebo.py

writes docs/studies/placebo.jsonl; if it is stopped, the same line continues. The page placebo.md describes
the study and its results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from eigencore_robustness import infer

ROWS = Path(__file__).with_name("placebo.jsonl")
PAGE = ROWS.with_suffix(".md")
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "analyses": ("network", "ranks"),
    "options": {"network": {"images": None, "eps": 0.1}, "ranks": {"images": None}},
}

# Adversarial training with these radii (Linf) gives networks of different distances.
RADII = (0.0, 0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1)
FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0)
SHARPNESS = (3.0, 10.0, 30.0, 100.0, 300.0, float("inf"))
SHARPENED = (0, 1, 6, 11)  # the networks whose ReLUs are replaced by softplus
EPOCHS, BATCH, RATE = 30, 32, 2e-3
PGD_STEPS = 3


def networks() -> Iterator[eigencore.Member]:
    """Each network with its logits multiplied, and some with softplus of each sharpness for ReLU."""
    for number, radius in enumerate(RADII):
        for factor in FACTORS:
            yield _member("logits", number, radius, factor, float("inf"))
    for number in SHARPENED:
        for sharpness in SHARPNESS[:-1]:
            yield _member("softplus", number, RADII[number], 1.0, sharpness)


def _member(part: str, number: int, radius: float, factor: float, sharpness: float) -> eigencore.Member:
    known = {"part": part, "network": number, "radius": radius, "factor": factor}
    smooth = sharpness < float("inf")
    what = f"softplus {sharpness:g}" if smooth else f"logits x {factor:g}"
    return eigencore.Member(
        f"network {number}, {what}",
        partial(problem, number, radius, factor, sharpness),
        {**known, "sharpness": sharpness if smooth else None},
        group=f"network {number}",
    )


class Multiplied(nn.Module):
    """A network whose logits are multiplied by a factor."""

    def __init__(self, network: nn.Module, factor: float):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.network(x)


def network(sharpness: float) -> nn.Module:
    """3,818 weights; the activation is softplus(sharpness x) / sharpness, or ReLU if that is infinite."""

    def activation() -> nn.Module:
        # Beyond the threshold of nn.Softplus, 20 / sharpness, it would be exactly linear.
        return nn.ReLU() if sharpness == float("inf") else nn.Softplus(sharpness, threshold=40)

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        activation(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def problem(number: int, radius: float, factor: float, sharpness: float) -> eigencore.Problem:
    """The network of this number, trained with ReLU, with another factor or activation."""
    x, y = images()
    model = network(sharpness)
    model.load_state_dict(trained(number, radius, x[:TRAINING], y[:TRAINING]).state_dict())
    return eigencore.Problem(
        model=Multiplied(model, factor).eval(),
        data=[(x[:TRAINING], y[:TRAINING])],
        loss=nn.CrossEntropyLoss(),
        validation=[(x[TRAINING:], y[TRAINING:])],
        bounds=(0.0, 1.0),
        reduction="mean",
        backend="torch",
    )


def trained(number: int, radius: float, x: Tensor, y: Tensor) -> nn.Module:
    """The network of this number after training by Adam on images that are perturbed within the radius."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        model = network(float("inf"))
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x)).split(BATCH):
                inputs = perturbed(model, x[chosen], y[chosen], radius)
                optimizer.zero_grad()
                cross_entropy(model(inputs), y[chosen]).backward()
                optimizer.step()
    return model


def perturbed(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Images of greater loss within the radius, by projected gradient descent from a random start."""
    if not radius:
        return x
    delta = (2 * torch.rand_like(x) - 1) * radius
    for _ in range(PGD_STEPS):
        moved = (x + delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), y), moved)
        delta = (delta + radius / 2 * gradient.sign()).clamp(-radius, radius)
    return (x + delta).clamp(0, 1)


# -- the page ----------------------------------------------------------------------------------------------

METRICS = {
    "network.median_r1": "median r1",
    "network.median_lambda_input": "median λ of the loss over the input",
    "ranks.median_fisher": "median norm of the Fisher matrix over the input",
    "network.lambda_clean": "λ₁ over the weights",
    "network.lambda_scaled": "λ₁ over the weights, scaled",
    "network.train_loss": "loss of the training images",
}
DISTANCE = "network.median_distance"
CHOSEN = (0.3, 1.0, 3.0)  # where λ over the input falls as the factor grows


def parts(study: eigencore.Study) -> dict[str, str]:
    """The tables of the page, by their marks."""
    c = study.columns
    return {
        "across": across(c),
        "within": within(c),
        "softplus": softplus(c),
        "pictures": pictured(PAGE, figures(study)),
    }


def across(c: Mapping[str, Any]) -> str:
    """Metrics against the distance across the networks, for three choices of a factor for each network."""
    columns = []
    for rows in choices(c).values():
        chosen = {name: c[name][rows] for name in (*METRICS, DISTANCE)}
        found = infer(
            {name: chosen[name] for name in METRICS}, {DISTANCE: chosen[DISTANCE]}, seed=SETTINGS["seed"]
        )
        columns.append([f"{rho(one.rho)} ({p_value(one.family_p)})" for one in found.associations])
    return table(
        ["ρ with the median distance (p of all)", *choices(c)],
        [(name, *cells) for name, *cells in zip(METRICS.values(), *columns, strict=True)],
    )


def choices(c: Mapping[str, Any]) -> dict[str, list[int]]:
    """The rows of three studies of the networks, which differ in the factor of each network alone."""
    of = {
        (int(c["network"][i]), float(c["factor"][i])): i
        for i, part in enumerate(c["part"])
        if part == "logits"
    }
    order = sorted(range(len(RADII)), key=lambda number: c[DISTANCE][of[number, 1.0]])
    steps = [CHOSEN[place * len(CHOSEN) // len(order)] for place in range(len(order))]
    return {
        "all factors 1": [of[number, 1.0] for number in order],
        "larger factors for larger distances": [of[pair] for pair in zip(order, steps, strict=True)],
        "smaller factors for larger distances": [of[pair] for pair in zip(order, steps[::-1], strict=True)],
    }


def within(c: Mapping[str, Any]) -> str:
    """What ranks the samples of a network, for each factor: means over the networks."""
    rows = []
    same = _rows(c, "logits", "factor", 1.0)
    for factor in FACTORS:
        these = _rows(c, "logits", "factor", factor)
        rows.append(
            (
                f"{factor:g}",
                f"{100 * _largest_change(c, these, same):.1f} %",
                float(np.median(c["network.median_lambda_input"][these])),
                *(rho(float(c[f"ranks.{name}"][these].mean())) for name in ("rho_r1", "rho_fisher")),
                *(rho(float(c[f"ranks.rho_fisher_{name}"][these].mean())) for name in ("margin", "loss")),
                *(_given(c, name, these) for name in ("given_loss_margin_fisher", "given_r1_fisher")),
            )
        )
    return table(
        [
            *("factor", "change of distances", "median λ", "ρ of r1", "ρ of Fisher"),
            *("Fisher, margin", "Fisher, loss", "Fisher given loss, margin", "and given r1"),
        ],
        rows,
    )


def softplus(c: Mapping[str, Any]) -> str:
    """The same for each sharpness of the activation; nu is the curvature of the margin."""
    rows = []
    networks = np.isin(c["network"], SHARPENED)
    relu = [i for i in _rows(c, "logits", "factor", 1.0) if networks[i]]
    for sharpness in SHARPNESS:
        smooth = sharpness < float("inf")
        these = _rows(c, "softplus", "sharpness", sharpness) if smooth else relu
        nu = c["ranks.median_nu"][these]
        rows.append(
            (
                f"{sharpness:g}" if smooth else "ReLU",
                f"{100 * _largest_change(c, these, relu):.1f} %",
                f"{cell(float(nu.min()))} to {cell(float(nu.max()))}" if smooth else "0 almost everywhere",
                rho(float(c["ranks.rho_r1"][these].mean())),
                rho(float(c["ranks.rho_nu"][these].mean())) if smooth else rho(None),
                _given(c, "given_r1_nu", these) if smooth else rho(None),
            )
        )
    return table(
        ["sharpness", "change of distances", "median ν", "ρ of r1", "ρ of ν", "ν given loss, margin and r1"],
        rows,
    )


def _rows(c: Mapping[str, Any], part: str, column: str, value: float) -> list[int]:
    return [i for i in range(len(c["part"])) if c["part"][i] == part and c[column][i] == value]


def _largest_change(c: Mapping[str, Any], these: Sequence[int], same: Sequence[int]) -> float:
    """The largest relative change of a network's median distance."""
    before = {c["network"][i]: c[DISTANCE][i] for i in same}
    return max(abs(c[DISTANCE][i] / before[c["network"][i]] - 1) for i in these)


def _given(c: Mapping[str, Any], name: str, these: Sequence[int]) -> str:
    """The mean partial correlation, and for how many networks it is significant."""
    significant = int((c[f"ranks.p_{name}"][these] < 0.05).sum())
    return f"{rho(float(c[f'ranks.{name}'][these].mean()))} ({significant} of {len(these)})"


def figures(study: eigencore.Study) -> tuple[Figure, ...]:
    """Curvature against distance across networks for the three choices, and its ranks for each factor."""
    c = study.columns
    chosen = choices(c)
    every = np.concatenate(list(chosen.values()))
    owner = np.repeat(list(chosen), [len(rows) for rows in chosen.values()])
    distances = {name: np.where(owner == name, c[DISTANCE][every], np.nan) for name in chosen}
    lines = {
        name: np.array(
            [float(c[f"ranks.rho_{key}"][_rows(c, "logits", "factor", one)].mean()) for one in FACTORS]
        )
        for key, name in (("r1", "r1"), ("fisher", "Fisher norm"), ("margin", "margin"), ("loss", "loss"))
    }
    return (
        Figure(
            "scatter",
            f"the same {len(RADII)} networks with three choices of factors on their logits",
            "median λ of the loss over the input",
            "median distance",
            {"x": c["network.median_lambda_input"][every], **distances},
            x_scale="log",
            caption="The median distance of the samples against the median largest eigenvalue of the loss "
            f"over the input, of {len(RADII)} networks, for three choices of a factor on the logits of "
            "each, which changes the eigenvalue and no decision.",
        ),
        Figure(
            "line",
            "what ranks the samples of a network by their distance",
            "factor on the logits",
            "Spearman's ρ with the distance, mean of the networks",
            {"x": np.array(FACTORS), **lines},
            x_scale="log",
            caption="Spearman's correlation of each measure with the distance, across the samples of a "
            f"network: the mean of {len(RADII)} networks, at each factor on the logits.",
        ),
    )


def main() -> None:
    """Runs what is missing of the study, and writes its tables and pictures into the page."""
    study = eigencore.study(networks, out=ROWS, progress=print, **SETTINGS)
    write(PAGE, parts(study))
    draw(PAGE, figures(study))


if __name__ == "__main__":
    main()
