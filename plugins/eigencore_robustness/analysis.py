"""The analysis `robustness`: do first order and curvature tell how small a perturbation fools the network?

Which top eigenvalue is meant is said at each number: those of each sample's loss and margin over the *input*
are computed here; those over the *weights* came before, with the operator.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import ProblemError
from eigencore_robustness import gates
from eigencore_robustness.associations import associations
from eigencore_robustness.curvature import TOL
from eigencore_robustness.distances import Distances, found_by_attack, handed_in
from eigencore_robustness.options import radii
from eigencore_robustness.report import Found
from eigencore_robustness.samples import batches, columns_of
from eigencore_robustness.strength import right, strength
from eigencore_robustness.verdict import Cautious
from eigencore_robustness.weight_space import loss_along, sample_parts

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import AnalysisContext, Classifier
    from eigencore.results import AnalysisResult
    from eigencore.space import Array, Floats
    from eigencore_robustness.options import RobustnessOptions
    from eigencore_robustness.samples import Columns


def robustness(
    context: AnalysisContext, options: RobustnessOptions, /
) -> Generator[AnalysisResult, None, None]:
    """First how strong the attack is; then the distances; then curvature and what it adds.

    Raises:
        ProblemError: no sample is classified correctly.
        OptionError: the distances that were handed in don't fit.
    """
    classifier = context.bound.classifier()
    samples = classifier.samples(options.images)
    x = samples[0]
    distances = None if options.distances is None else handed_in(options.distances, x.shape[0])
    if not any(right(classifier, *rows).any() for _, *rows in batches(*samples, options.batch)):
        raise ProblemError(
            "no sample is classified correctly", hint="Look at the labels, and at the inputs' range."
        )
    context.progress("robustness: accuracy under attack")
    tested = strength(
        context.attack,
        classifier,
        samples,
        radii(options.eps, _spread(classifier, x)),
        options.batch,
        context.seed,
    )
    correct = tested.attacks[0].correct
    found = Found(
        samples=len(correct),
        correct=int(correct.sum()),
        columns={"sample": np.arange(len(correct)), "label": tested.attacks[0].labels, "correct": correct},
        data=_told(context, len(correct), options.images),
        gates=(gates.samples_are_held_out(context.problem.validation is not None), *tested.gates),
        attacks=tested.attacks,
    )
    yield found.result()

    if distances is None:
        context.progress("robustness: smallest perturbations")
        distances = found_by_attack(
            context.attack, samples, options.batch, context.seed, classifier=classifier
        )
    found.whence = distances.whence
    found.columns["distance"] = distances.values
    yield found.result()

    yield from _curvature(context, options, found, samples, distances)


def _curvature(
    context: AnalysisContext,
    options: RobustnessOptions,
    found: Found,
    samples: tuple[Array, Array],
    distances: Distances,
) -> Generator[AnalysisResult, None, None]:
    correct = found.columns["correct"]
    exact = context.bound.classifier("float64")
    chosen = np.flatnonzero(correct)
    x, y = (arrays.rows(part, chosen) for part in exact.samples(options.images))
    columns, flat = columns_of(exact, x, y, options.batch, context.seed, context.progress)
    found.gates += (gates.eigenpairs_converged(context.eigen, _converged(columns, flat)),)
    if _over_weights(context):
        context.progress("robustness: the loss along the eigenvectors")
        x, y = (arrays.rows(part, chosen) for part in samples)
        parts = sample_parts(context.bound, context.eigen, x, y, context.params, options.batch)
        columns = {**columns, "weight_curvature": parts}
        found.step, found.along = loss_along(context.bound, context.eigen, context.params, context.seed)
    found.columns |= {name: _spread_out(column, correct) for name, column in columns.items()}
    distance = distances.values[correct]
    broken = np.isfinite(distance)
    below = int((distance < columns["r_cautious"])[broken].sum())
    found.cautious = Cautious(below, int(broken.sum()), flat)
    context.progress("robustness: what goes with the distance")
    # Where margins are flat, nu is a column of rounding.
    usable = {name: columns[name] for name in columns if not (flat and name in ("nu", "r_cautious"))}
    found.associations = associations(usable, distance, context.seed)
    yield found.result()


def _told(context: AnalysisContext, samples: int, most: int | None) -> str:
    """Which samples these are: "the first 500 validation samples"."""
    first = "the first " if samples == most else ""
    return f"{first}{samples} {'training' if context.problem.validation is None else 'validation'} samples"


def _over_weights(context: AnalysisContext) -> bool:
    """Whether there is a v_1 over the weights to follow, of the Hessian itself."""
    return (
        context.kind == "hessian"
        and Capability.WEIGHT_LOSS in context.bound.capabilities
        and bool(context.eigen.converged[:1].any())
    )


def _converged(columns: Columns, flat: bool) -> float:
    """The share of samples whose eigenvalues over the input did."""
    passed = columns["lambda_max_residual"] <= 2 * TOL * np.abs(columns["lambda_max"])
    if not flat:
        passed &= columns["nu_residual"] <= 2 * TOL * np.abs(columns["nu"])
    return float(np.mean(passed))


def _spread(classifier: Classifier, x: Array) -> float:
    """The range of an input: what the bounds say, or else the samples."""
    if classifier.bounds is not None:
        return classifier.bounds[1] - classifier.bounds[0]
    return float(classifier.xp.max(x) - classifier.xp.min(x))


def _spread_out(column: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """A column of the chosen samples as one of all: NaN for the others."""
    whole = np.full(len(chosen), np.nan)
    whole[chosen] = column
    return whole
