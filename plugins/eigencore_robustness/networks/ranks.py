"""The analysis `ranks`: which measurement ranks the samples of one network by their distance, in one row.

`robustness` asks whether measurements add information to first order; here, a study compares how the same
measurements do in many networks. Samples are the units of the tests: nothing is said of other networks.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.figures import Figure, Reference
from eigencore.results import AnalysisResult
from eigencore_robustness.over_inputs.input_fisher import fisher_norms
from eigencore_robustness.over_inputs.sample_columns import sample_columns
from eigencore_robustness.precision import highest_precision
from eigencore_robustness.samples import batches, classified_correctly
from eigencore_robustness.statistics.across_networks import infer
from eigencore_robustness.under_attack.attacker import Attacker
from eigencore_robustness.under_attack.distances import NORM
from eigencore_robustness.under_attack.smallest_perturbations import smallest_perturbations

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore_robustness.options import RanksOptions

MEASURES = ("r1", "lambda_input", "fisher", "nu", "gradient_norm", "loss", "margin")
GIVEN = {"given_loss_margin": ("loss", "margin"), "given_r1": ("loss", "margin", "r1")}
PERMUTATIONS = 2000


def ranks(context: AnalysisContext, options: RanksOptions, /) -> Generator[AnalysisResult, None, None]:
    """Yields the rank correlations of the measurements of correctly classified samples with the distance.

    The measures are r1, lambda_input, nu, gradient_norm, loss and margin, columns of `robustness`, where
    lambda_input is lambda_max, and `fisher`, the spectral norm of the Fisher matrix over the input. A measure
    that is constant, as nu in a piecewise linear network, has no numbers:

    - correct, median_distance: the number of correctly classified samples, and their median distance
    - median_MEASURE, rho_MEASURE: the median, and Spearman's correlation with the distance
    - given_loss_margin_MEASURE: Spearman's correlation with the distance, given the ranks of loss and margin
    - given_r1_MEASURE: the same, given r1 as well
    - p_..._MEASURE: the p-values of these two for all measures together, by permutations
    - rho_fisher_loss, rho_fisher_margin: Spearman's correlations of fisher with loss and margin

    Raises:
        ProblemError: fewer than two samples are classified correctly.

    Example:
        import eigencore

        run = eigencore.analyze(
            "demo:digits-numpy", k=0, analyses="ranks", options={"ranks": {"images": 40}}
        )
        print(run.analyses["ranks"].numbers["rho_r1"])
    """
    bound = context.bound
    assert bound is not None  # its entry needs capabilities that only a bound problem offers
    classifier = bound.classifier(highest_precision(bound))
    x, y = classifier.samples(options.images)
    correct = np.concatenate(
        [classified_correctly(classifier, *rows) for _, *rows in batches(x, y, options.batch)]
    )
    chosen = np.flatnonzero(correct)
    if len(chosen) < 2:
        raise ProblemError(
            f"{len(chosen)} samples are classified correctly; expected at least 2",
            hint="Check the labels and the range of the inputs.",
        )
    x, y = arrays.rows(x, chosen), arrays.rows(y, chosen)
    context.progress("ranks: smallest perturbations")
    attacker = Attacker(context.attack, classifier, x, y, options.batch, context.seed)
    distance = smallest_perturbations(attacker, NORM).distance
    samples = sample_columns(classifier, x, y, options.batch, context.seed, context.progress)
    columns = {**samples.columns, "lambda_input": samples.columns["lambda_max"]}
    columns["fisher"] = fisher_norms(classifier, x, y, options.batch)
    measured = {name: columns[name] for name in MEASURES if not (samples.flat and name == "nu")}
    numbers: dict[str, float | int | None] = {
        "correct": len(chosen),
        "median_distance": _finite(float(np.median(distance))),
        **{f"median_{name}": _finite(float(np.median(column))) for name, column in measured.items()},
    }
    for one in infer(measured, {"distance": distance}, permutations=1).associations:
        numbers[f"rho_{one.metric}"] = one.rho
    for prefix, names in GIVEN.items():
        tested = {name: column for name, column in measured.items() if name not in names}
        controls = {name: measured[name] for name in names}
        given = infer(
            tested, {"distance": distance}, controls=controls, seed=context.seed, permutations=PERMUTATIONS
        )
        for one in given.associations:
            numbers[f"{prefix}_{one.metric}"], numbers[f"p_{prefix}_{one.metric}"] = one.rho, one.family_p
    fisher = {"fisher": measured["fisher"]}
    beside = {name: measured[name] for name in GIVEN["given_loss_margin"]}
    for one in infer(fisher, beside, permutations=1).associations:
        numbers[f"rho_fisher_{one.outcome}"] = one.rho
    yield AnalysisResult(
        verdict=_verdict(numbers),
        title=f"{len(chosen)} correctly classified samples",
        numbers=numbers,
        columns={"distance": distance, **measured},
        figures=(_figure(numbers, tuple(measured), len(chosen)),),
    )


def _figure(numbers: dict[str, float | int | None], measures: tuple[str, ...], samples: int) -> Figure:
    """The correlations of each measure as bars: alone, and given the controls of GIVEN."""
    prefixes = {
        "alone": "rho",
        **{f"given {', '.join(names)}": prefix for prefix, names in GIVEN.items()},
    }
    series = {
        name: np.array([numbers.get(f"{prefix}_{one}") for one in measures], dtype=np.float64)
        for name, prefix in prefixes.items()
    }
    return Figure(
        "bar",
        "Rank correlations with the distance",
        "Spearman's rho",
        "",
        series,
        references=(Reference("x", 0.0),),
        labels=measures,
        caption=f"Spearman's correlation of each measure with the smallest {NORM} perturbation, across "
        f"{samples} correctly classified samples, alone and given the ranks of others.",
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _verdict(numbers: dict[str, float | int | None]) -> str:
    known = {name: numbers.get(f"rho_{name}") for name in ("r1", "lambda_input", "fisher")}
    listed = ", ".join(f"{value:.2f} for {name}" for name, value in known.items() if value is not None)
    return (
        f"Spearman's correlation with the distance, across the samples of this network: {listed or 'none'}."
    )
