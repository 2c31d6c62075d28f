"""Figures of the accuracy under attack, and of what predicts the smallest perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.figures import Figure, Reference
from eigencore_robustness.samples import evenly_spaced
from eigencore_robustness.statistics.added_information import SMALL_SHARE
from eigencore_robustness.statistics.intervals import proportion
from eigencore_robustness.under_attack.attack_evaluation import FIXED, NORM, AttackEvaluation

if TYPE_CHECKING:
    from eigencore_robustness.statistics.added_information import AddedInformation

POINTS = 60  # of a curve
MOST_SAMPLES = 200  # in a scatter plot, whose numbers are part of the JSON object
ESTIMATES = ("r1", "r1_in_box")


def accuracy_figure(of: AttackEvaluation) -> Figure:
    """The accuracy against eps: what all attacks leave, and what the smallest perturbations alone leave.

    Both are upper bounds of the accuracy against the best attack. A sample that PGD fools at a tested radius
    may have a larger smallest perturbation, so that the first bound is the lower one. It is known at every
    eps, because what fools the network within one radius is within every larger one.
    """
    radii, samples = np.array(of.radii), of.withstood.shape[1]
    first = np.where(of.withstood.all(axis=0), np.inf, radii[np.argmin(of.withstood, axis=0)])
    fooled_within = np.minimum(of.smallest.distance, first)
    steps = fooled_within[fooled_within <= radii[-1]]
    # At the steps of the curve, of which there may be thousands, and at the tested radii.
    quantiles = np.quantile(steps, np.linspace(0, 1, POINTS), method="nearest") if len(steps) else []
    x = np.unique(np.concatenate([[0.0], radii, quantiles]))
    left, alone = (
        (known[None, :] > x[:, None]).sum(axis=1) for known in (fooled_within, of.smallest.distance)
    )
    intervals = [proportion(int(count), samples) for count in left]
    low, high = (np.array([getattr(one, end) for one in intervals]) for end in ("low", "high"))
    return Figure(
        "line",
        "Accuracy against eps",
        f"eps, {NORM}",
        "accuracy",
        {"x": x, "all attacks": left / samples, "smallest perturbations alone": alone / samples},
        bands={"all attacks": (low, high)},
        references=tuple(Reference("x", eps) for eps in of.radii),
        caption=f"The share of {samples} samples that no attack fooled within eps ({NORM}), with the exact "
        f"95 % interval at each eps; {FIXED} was run at the vertical lines. The accuracy against the best "
        "attack is at most this, as it is at most what the smallest perturbations alone leave.",
    )


def predicted_figure(columns: Mapping[str, Any], labels: Mapping[str, str], norm: str) -> Figure | None:
    """The first-order radii against the smallest perturbations; None if no sample was fooled.

    Args:
        columns: per-sample columns (N,), among them `correct`, `distance` and the radii in `labels`.
        labels: what the radii are called, by column.
        norm: the norm of the distances; empty if the user supplied them.
    """
    distance = columns["distance"]
    known = columns["correct"] & np.isfinite(distance) & (distance > 0)
    rows = evenly_spaced(np.flatnonzero(known), MOST_SAMPLES)
    if not len(rows):
        return None
    series, infinite = {"x": distance[rows]}, 0
    for name, label in labels.items():
        finite = np.isfinite(columns[name][rows])
        series[label] = np.where(finite, columns[name][rows], np.nan)
        infinite += int((~finite).sum())
    samples, unknown = int(known.sum()), int((columns["correct"] & ~known).sum())
    what = f"smallest {norm} perturbation that was found" if norm else "distance that the user supplied"
    text = f"First-order radii against the {what}, of {samples} correctly classified samples"
    text += f" ({len(rows)} of them shown)" if len(rows) < samples else ""
    text += f"; {unknown} without one {'is' if unknown == 1 else 'are'} left out" if unknown else ""
    text += f"; {infinite} infinite radi{'us is' if infinite == 1 else 'i are'} left out" if infinite else ""
    return Figure(
        "scatter",
        "Predicted and true smallest perturbation",
        what,
        "first-order radius",
        series,
        references=(Reference("diagonal", 1.0, "y = x"),),
        x_scale="log",
        y_scale="log",
        caption=f"{text}. On the line, the prediction is exact.",
    )


def shares_figure(
    added: Mapping[str, AddedInformation], labels: Mapping[str, str], controls: str
) -> Figure | None:
    """The share of the variance left open by the controls that each measure explains; None without any."""
    shares = {name: one.share for name, one in added.items() if one.share.estimate is not None}
    if not shares:
        return None
    estimates, low, high = (
        np.array([getattr(one, part) for one in shares.values()], dtype=np.float64)
        for part in ("estimate", "low", "high")
    )
    samples = max(one.n for one in shares.values())
    return Figure(
        "bar",
        f"What predicts the smallest perturbation beyond {controls}",
        "share of the variance left open",
        "",
        {"share": estimates},
        bands={"share": (low, high)},
        references=(Reference("x", SMALL_SHARE, f"{100 * SMALL_SHARE:g} %"),),
        labels=tuple(labels[name] for name in shares),
        caption=f"Of the variance of the log distance that smooth functions of {controls} leave open, the "
        f"share that each measure explains, with its 95 % interval, across {samples} samples. A share below "
        f"the line, {100 * SMALL_SHARE:g} %, does not count as added information.",
    )
