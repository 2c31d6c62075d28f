"""Tables, figures and sentences on directions: of perturbations, along their path, and of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore.figures import Figure, Table, fitting_scale
from eigencore_robustness.directions.perturbation_path import POINTS
from eigencore_robustness.directions.weight_curvature import MODEL_INCREASE
from eigencore_robustness.directions.weight_path import MULTIPLES
from eigencore_robustness.over_inputs.alignments import SPANS
from eigencore_robustness.rounding import alike, percent, significant
from eigencore_robustness.verdict import listed

if TYPE_CHECKING:
    from eigencore_robustness.directions.perturbation_path import PerturbationPath
    from eigencore_robustness.directions.weight_path import WeightCurve
    from eigencore_robustness.over_inputs.alignments import Alignment
    from eigencore_robustness.statistics.intervals import Interval

LABELS = {
    "share_v1": "v_1",
    **{f"share_v{k}": f"v_1 to v_{k}" for k in SPANS if k > 1},
    "share_gradient": "loss gradient",
    "share_margin_gradient": "margin gradient",
}


# -- perturbations -----------------------------------------------------------------------------------------


def alignment_table(found: Iterable[Alignment]) -> Table:
    """Returns the median shares in percent: of the sample's own perturbation, and by chance."""
    rows = []
    for one in found:
        own, same, others = one.own, one.of_same_classes, one.of_others
        cosine = None if own.estimate is None else significant(math.sqrt(own.estimate))
        shares = (own.estimate, own.low, own.high, same.estimate, others.estimate, one.random)
        rows.append((LABELS[one.name], cosine, *map(percent, shares)))
    columns = ("along", "|cos|", "share %", "low", "high", "same pair", "others", "random")
    return Table(columns, tuple(rows))


def shares_left_out(found: Iterable[Alignment], moved: int) -> dict[str, float | int | None]:
    """Returns how many of the moved samples have no share along a direction, by direction; without zeros."""
    counts = {f"no share along {LABELS[one.name]}": moved - one.own.n for one in found}
    return {name: count for name, count in counts.items() if count}


def alignment_sentences(found: Iterable[Alignment]) -> str:
    """Returns the shares along the first eigenvector, beside those along gradients and by chance."""
    by_name = {one.name: one for one in found}
    first = by_name["share_v1"]
    if first.own.low is None or first.random is None:
        return ""
    gradients = [
        f"{_share(by_name[name].own)} along the {LABELS[name]}"
        for name in ("share_gradient", "share_margin_gradient")
        if by_name[name].own.low is not None
    ]
    chance = [f"{100 * first.random:.1f} % for random directions"]
    for of, whose in (
        (first.of_others, "other samples"),
        (first.of_same_classes, "other samples with the same label and target"),
    ):
        if of.estimate is not None:
            chance.append(f"{100 * of.estimate:.0f} % for perturbations of {whose}")
    return (
        f"The smallest perturbation has a median share of {_share(first.own)} along v_1, the top eigenvector "
        f"of the loss over the input{', beside ' if gradients else ''}{' and '.join(gradients)}. Along v_1, "
        f"this share is {listed(chance)}."
    )


def _share(of: Interval) -> str:
    estimate, low, high = (100 * (x or 0.0) for x in (of.estimate, of.low, of.high))
    return f"{estimate:.0f} % [{low:.0f}, {high:.0f}]"


# -- the path of a perturbation ----------------------------------------------------------------------------


def path_table(path: PerturbationPath) -> Table:
    """Returns the medians at the points of the path, and the quartiles of the eigenvalues."""
    medians = [path.quartiles(name)[1] for name in ("loss", "margin")]
    spread = [path.quartiles(name)[j] for name in ("lambda_max", "nu") for j in (1, 0, 2)]
    rows = zip(POINTS, *map(alike, (*medians, *spread)), strict=True)
    columns = ("t", "loss", "margin", "lambda_max", "lower", "upper", "nu", "lower", "upper")
    return Table(columns, tuple(rows))


def path_figures(path: PerturbationPath) -> tuple[Figure, ...]:
    """Returns the eigenvalues, and loss and margin, along the path: medians and quartiles."""
    eigenvalues = _quartile_figure(
        path,
        ("lambda_max", "nu"),
        "Eigenvalues over the input along the perturbation",
        "eigenvalue",
        "The largest eigenvalues of the Hessians of the loss (lambda_max) and of minus the margin (nu), over "
        "the input,",
    )
    # They span orders of magnitude, and some are zero or negative.
    positive = [x for name in ("lambda_max", "nu") for x in eigenvalues.series[name] if x > 0]
    return (
        replace(eigenvalues, y_scale="symlog", linear=float(min(positive))) if positive else eigenvalues,
        _quartile_figure(
            path,
            ("loss", "margin"),
            "Loss and margin along the perturbation",
            "loss, margin",
            "The cross-entropy, and the logit margin to the class that is reached,",
        ),
    )


def _quartile_figure(
    path: PerturbationPath, names: Sequence[str], title: str, y_label: str, caption: str
) -> Figure:
    """The medians of quantities along the path, with quartiles; the caption says what they are."""
    quartiles = {name: path.quartiles(name) for name in names}
    return Figure(
        "line",
        title,
        "share of the way to the perturbed input",
        y_label,
        {"x": np.array(POINTS), **{name: middle for name, (_, middle, _) in quartiles.items()}},
        bands={name: (low, high) for name, (low, _, high) in quartiles.items()},
        caption=f"{caption} on the way from {path.samples} samples (0) to their smallest perturbations (1): "
        "medians, with quartiles as bands.",
    )


def path_sentence(path: PerturbationPath) -> str:
    """Returns how the eigenvalues change from the samples to the perturbed inputs."""
    loss, margin = path.change("lambda_max"), path.change("nu")
    if loss is None:
        return ""
    text = f"From the sample to the perturbed input, lambda_max of the loss changes by a factor of {loss:.3g}"
    if margin is not None:
        text += f", nu of the margin by {margin:.3g}"
    return f"{text} (medians of {path.samples} samples)."


# -- directions of the weights -----------------------------------------------------------------------------


def weight_tables(curves: Sequence[WeightCurve], step: float) -> dict[str, Table]:
    """Returns loss and accuracy of the samples at multiples of the step along each direction."""
    columns = ("direction", *(f"{m:g}" for m in MULTIPLES))
    return {
        f"cross-entropy of the samples at weights + m x {step:.2g} v, by m": Table(
            columns, tuple((one.name, *map(significant, one.loss)) for one in curves)
        ),
        "accuracy % of the samples at the same weights": Table(
            columns, tuple((one.name, *map(percent, one.accuracy)) for one in curves)
        ),
    }


def weight_figures(curves: Sequence[WeightCurve], samples: int) -> tuple[Figure, ...]:
    """Returns loss and accuracy of so many samples along the directions."""
    x_label = "multiples of the step along the direction"
    return tuple(
        Figure(
            "line",
            f"{label} along directions of the weights",
            x_label,
            label.lower(),
            {"x": np.array(MULTIPLES), **{one.name: getattr(one, name) for one in curves}},
            y_scale="linear" if name == "accuracy" else fitting_scale(x for one in curves for x in one.loss),
            caption=f"{label} of {samples} samples as the weights move along {_described(curves)}, at "
            "multiples of the step at which the quadratic model of the loss increases by "
            f"{MODEL_INCREASE:g} along v_1.",
        )
        for name, label in (("loss", "Cross-entropy"), ("accuracy", "Accuracy"))
    )


def _described(curves: Sequence[WeightCurve]) -> str:
    """The directions in words: eigenvectors of the Hessian, and what they are compared with."""
    words = {
        "random": "a random direction with the norm of v_1 in every parameter",
        "gradient": "the gradient",
    }
    return listed([words.get(one.name, one.name) for one in curves])
