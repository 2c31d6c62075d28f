"""The analysis `robustness`: do first-order margins and curvature predict how easily a network is fooled?

Two kinds of top eigenvalues occur. Those of each sample's loss and margin over the *input* are computed here;
those over the *weights* are computed with the operator, before the analysis. The label of every number states
which kind it is.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import ProblemError
from eigencore.problems.sharing import ImageAxes, input_range
from eigencore_robustness.associations import OF_CURVED_MARGINS, associations
from eigencore_robustness.directions.perturbation_path import perturbation_path
from eigencore_robustness.directions.weight_curvature import loss_increases, sample_curvature
from eigencore_robustness.directions.weight_path import weight_curves
from eigencore_robustness.options import radii
from eigencore_robustness.over_inputs.alignments import alignments, perturbations, without_placebos
from eigencore_robustness.over_inputs.input_eigenpairs import TOL
from eigencore_robustness.over_inputs.sample_columns import sample_columns
from eigencore_robustness.over_inputs.sample_images import sample_images, samples_to_show
from eigencore_robustness.precision import highest_precision
from eigencore_robustness.report import RobustnessReport
from eigencore_robustness.samples import batches, classified_correctly
from eigencore_robustness.under_attack import gates
from eigencore_robustness.under_attack.attack_evaluation import evaluate_attacks
from eigencore_robustness.under_attack.attacker import Attacker
from eigencore_robustness.under_attack.distances import NORM, Distances, attack_distances, supplied_distances
from eigencore_robustness.verdict import CautiousRadiusCheck

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import AnalysisContext, Bound, Problem
    from eigencore.results import AnalysisResult
    from eigencore.space import Floats, Space
    from eigencore_robustness.options import RobustnessOptions
    from eigencore_robustness.over_inputs.sample_columns import Columns

# A loss of this many rounding units of 1, the probability that it is computed from, is known to a percent.
KNOWN_TO_A_PERCENT = 100


def robustness(
    context: AnalysisContext, options: RobustnessOptions, /
) -> Generator[AnalysisResult, None, None]:
    """Evaluates the attack, finds the distances, and relates them to first-order margins and curvature.

    Yields:
        The results so far after each part; the last result is complete.

    Raises:
        ProblemError: no sample is classified correctly.
        OptionError: the distances supplied by the user do not fit the samples.

    Example:
        import eigencore

        run = eigencore.analyze(
            "demo:digits-numpy", k=2, analyses="robustness", options={"robustness": {"images": 50}}
        )
        print(run.analyses["robustness"].verdict)
    """
    bound, problem = context.bound, context.problem
    assert bound is not None  # its entry needs capabilities that only a bound problem offers
    classifier = bound.classifier()
    samples = classifier.samples(options.images)
    x = samples[0]
    distances = None if options.distances is None else supplied_distances(options.distances, x.shape[0])
    if not any(
        classified_correctly(classifier, *rows).any() for _, *rows in batches(*samples, options.batch)
    ):
        raise ProblemError(
            "no sample is classified correctly", hint="Check the labels and the range of the inputs."
        )
    attacker = Attacker(context.attack, classifier, *samples, options.batch, context.seed)
    context.progress("robustness: accuracy under attack")
    evaluated = evaluate_attacks(attacker, radii(options.eps, input_range(x, classifier.bounds)))
    correct = evaluated.correct
    report = RobustnessReport(
        samples=len(correct),
        correct=int(correct.sum()),
        columns={
            "sample": np.arange(len(correct)),
            "label": evaluated.fixed[0].labels,
            "correct": correct,
            "distance_linf": evaluated.smallest.distance,
        },
        data=_description(context, len(correct), options.images),
        gates=(gates.samples_are_held_out(_has_validation(problem)), *evaluated.gates),
        evaluated=evaluated,
    )
    yield report.result()

    if distances is None:
        context.progress("robustness: smallest perturbations")
        distances = attack_distances(attacker, correct)
    report.distances = distances
    report.gates += distances.gates
    report.columns["distance"] = distances.values
    if distances.smallest is not None:
        report.columns["found_by"] = distances.smallest.names
    yield report.result()

    yield from _curvature(bound, context, options, report, distances)


def _curvature(
    bound: Bound,
    context: AnalysisContext,
    options: RobustnessOptions,
    report: RobustnessReport,
    distances: Distances,
) -> Generator[AnalysisResult, None, None]:
    eigen = context.eigen
    correct = report.columns["correct"]
    precision = highest_precision(bound)
    classifier = bound.classifier(precision)
    other = _other_than_the_hessian(context)
    report.warnings = (other,) * bool(other)
    chosen = np.flatnonzero(correct)
    x, y = (arrays.rows(part, chosen) for part in classifier.samples(options.images))
    moves = None
    if distances.smallest is not None:
        moved = classifier.xp.astype(arrays.rows(distances.smallest.inputs, chosen), classifier.dtype)
        moves = perturbations(classifier, x, y, moved, options.batch, context.seed)
    distance = distances.values[correct]
    shown = samples_to_show(distance, ImageAxes.of(classifier)) if moves is not None else None
    measured = sample_columns(
        classifier, x, y, options.batch, context.seed, context.progress, moves, kept=shown
    )
    columns, flat = measured.columns, measured.flat
    if moves is not None:
        report.alignments = alignments(columns, x.shape[1], context.seed)
        columns = without_placebos(columns)
        if shown is not None and len(shown):
            report.images = sample_images(
                classifier, x, y, moves, shown, measured, rows=chosen, distance=distance, norm=NORM
            )
    of_operator = f"of the operator {context.kind}" if other else "over weights"
    report.gates += (
        gates.precision_suffices(precision is not None, _lost_share(columns, classifier)),
        gates.eigenpairs_converged(eigen, _converged_share(columns, flat), of_operator),
    )
    if (
        not other
        and Capability.WEIGHT_LOSS in bound.capabilities
        and eigen.converged[:1].any()
        and np.any(eigen.values)
    ):
        context.progress("robustness: loss along the eigenvectors")
        of_weights = sample_curvature(bound, eigen, x, y, context.params, options.batch, precision)
        columns = {**columns, "weight_curvature": of_weights}
        report.step, report.increases = loss_increases(bound, eigen, context.params, context.seed)
    report.columns |= {name: _expanded(column, correct) for name, column in columns.items()}
    fooled = np.isfinite(distance)
    below = int((distance < columns["r_cautious"])[fooled].sum())
    report.cautious = CautiousRadiusCheck(below, int(fooled.sum()), flat)
    context.progress("robustness: correlations with the distance")
    # If the margins are flat, nu contains only rounding errors.
    usable = {name: columns[name] for name in columns if not (flat and name in OF_CURVED_MARGINS)}
    report.associations = associations(usable, distance, context.seed)
    yield report.result()

    if moves is not None and fooled.any():
        context.progress("robustness: eigenvalues along the perturbations")
        report.path = perturbation_path(
            classifier, x, y, moves.moved, moves.reached, options.batch, context.seed
        )
        yield report.result()
    if report.step is not None:
        context.progress("robustness: loss and accuracy along directions of the weights")
        x, y = bound.classifier().samples(options.images)
        report.weight_curves = weight_curves(
            bound, eigen, x, y, context.params, report.step, options.batch, context.seed
        )
        yield report.result()


def _description(context: AnalysisContext, samples: int, most: int | None) -> str:
    """Returns which samples these are: "the first 500 validation samples"."""
    first = "the first " if samples == most else ""
    return f"{first}{samples} {'validation' if _has_validation(context.problem) else 'training'} samples"


def _has_validation(problem: Problem | None) -> bool:
    """Whether the samples are known not to be those that the operator depends on."""
    return problem is not None and problem.validation is not None


def _other_than_the_hessian(context: AnalysisContext) -> str:
    """What is left out because the eigenpairs are not those of the Hessian of the loss; empty if they are."""
    if context.kind == "hessian" and not any(context.kind_options.values()):
        return ""
    changed = "" if context.kind != "hessian" else " with " + ", ".join(context.kind_options)
    return (
        f"the eigenpairs are those of the operator {context.kind}{changed}, not of the Hessian of the loss: "
        "the samples' curvature along the first eigenvector and the increase of the loss along the "
        "eigenvectors are left out"
    )


def _converged_share(columns: Columns, flat: bool) -> float:
    """Returns the share of samples whose eigenvalues over the input converged."""
    passed = columns["lambda_max_residual"] <= 2 * TOL * np.abs(columns["lambda_max"])
    if not flat:
        passed &= columns["nu_residual"] <= 2 * TOL * np.abs(columns["nu"])
    return float(np.mean(passed))


def _lost_share(columns: Columns, space: Space) -> float:
    """Returns the share of samples whose loss is so small that rounding changes it by a percent or more."""
    return float(np.mean(columns["loss"] < KNOWN_TO_A_PERCENT * arrays.eps(space)))


def _expanded(column: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """Returns a column of the chosen samples as a column of all samples, NaN for the others."""
    whole = np.full(len(chosen), np.nan)
    whole[chosen] = column
    return whole
