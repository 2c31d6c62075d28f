"""The analysis `network`: the numbers by which networks are compared, of one network, in one row.

Eigenvalues are over the weights, of the Hessian of the loss over all data: of the clean loss, and of the
robust loss, whose inputs are the worst ones in a ball and are held fixed; as they are, and of D H D with
D = |w|, which does not change when weights are rescaled (the kind `scaled`). All other numbers are of the
samples: accuracy and loss under attack, distances, first-order margins, and curvature over the input.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.entries import Capability
from eigencore.errors import EigencoreError
from eigencore.figures import Figure
from eigencore.objectives import CrossEntropy
from eigencore.operators import release
from eigencore.problems.sharing import input_range
from eigencore.results import AnalysisResult
from eigencore_robustness.over_inputs.first_order import first_order
from eigencore_robustness.over_inputs.input_eigenpairs import largest_eigenpairs
from eigencore_robustness.precision import highest_precision
from eigencore_robustness.samples import batches
from eigencore_robustness.statistics.intervals import proportion
from eigencore_robustness.under_attack.attack_evaluation import FIXED
from eigencore_robustness.under_attack.attack_evaluation import NORM as NORM_OF_BALL
from eigencore_robustness.under_attack.attacker import Attacker
from eigencore_robustness.under_attack.distances import NORM
from eigencore_robustness.under_attack.smallest_perturbations import smallest_perturbations
from eigencore_robustness.under_attack.worst_inputs import robust_problem, worst_inputs

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext, Bound, Classifier
    from eigencore.space import Array
    from eigencore_robustness.options import NetworkOptions

RADIUS = 0.1  # of the input range


def network(context: AnalysisContext, options: NetworkOptions, /) -> Generator[AnalysisResult, None, None]:
    """Yields the results after each part: the samples, the clean loss, the robust loss.

    The numbers, None where one is not available, which a warning explains:

    - clean_accuracy, robust_accuracy, robust_accuracy_low, robust_accuracy_high: the share of samples that
      are classified correctly, that of those that withstand PGD in the ball of radius eps (Linf), and its
      exact 95 % interval (Clopper and Pearson 1934)
    - robust_loss: the mean over the samples of the largest cross-entropy that was found in the ball
    - median_distance, median_r1: the medians of the smallest L2 perturbation that deepfool or fmn
      finds, and of its first-order estimate r1; both are 0 for misclassified samples
    - median_lambda_input, median_gradient: the medians of the largest eigenvalue of each sample's Hessian of
      the cross-entropy over the input, and of the norm of its gradient
    - train_loss: the loss over all data of the problem; train_robust_loss: at the worst inputs in the ball
    - lambda_clean, lambda_scaled, lambda_robust, lambda_robust_scaled: the largest eigenvalues over the
      weights of the clean and of the robust loss, as they are and scaled
    - eps, samples: the radius, and the number of samples

    Example:
        import eigencore

        run = eigencore.analyze(
            "demo:digits-numpy", k=0, analyses="network", options={"network": {"images": 40}}
        )
        print(run.analyses["network"].numbers["robust_accuracy"])
    """
    bound = context.bound
    assert bound is not None  # its entry needs capabilities that only a bound problem offers
    found = _Numbers()
    precise = bound.classifier(highest_precision(bound))
    x, y = precise.samples(options.images)
    eps = RADIUS * input_range(x, precise.bounds) if options.eps == "auto" else options.eps
    context.progress("network: accuracy, loss and distances under attack")
    found.numbers |= _under_attack(context, precise, x, y, eps, options.batch)
    yield found.result()
    context.progress("network: margins and curvature over the input")
    found.numbers |= _over_inputs(precise, x, y, options.batch, context.seed)
    yield found.result()
    context.progress("network: eigenvalues of the clean loss")
    if Capability.WEIGHT_LOSS in bound.capabilities:
        found.numbers["train_loss"] = bound.loss()
    pairs = context.pairs
    given = context.kind == "hessian" and not any(context.kind_options.values()) and pairs is not None
    if given and pairs is not None and len(pairs.values) and pairs.converged[0] and pairs.values[0] > 0:
        found.numbers["lambda_clean"] = float(pairs.values[0])
    else:
        found.numbers["lambda_clean"] = found.eigenvalue(context, bound, "hessian")
    found.numbers["lambda_scaled"] = found.eigenvalue(context, bound, "scaled")
    yield found.result()
    context.progress("network: eigenvalues of the robust loss")
    try:
        robust = robust_problem(context, eps, options.batch)
    except EigencoreError as error:
        found.warnings.append(f"there are no numbers of the robust loss over the data: {error.message}")
    else:
        found.numbers["train_robust_loss"] = robust.loss()
        found.numbers["lambda_robust"] = found.eigenvalue(context, robust, "hessian")
        found.numbers["lambda_robust_scaled"] = found.eigenvalue(context, robust, "scaled")
    yield found.result()


NAMES = (
    *("clean_accuracy", "robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", "robust_loss"),
    *("median_distance", "median_r1", "median_lambda_input", "median_gradient"),
    *("train_loss", "train_robust_loss"),
    *("lambda_clean", "lambda_scaled", "lambda_robust", "lambda_robust_scaled"),
    *("eps", "samples"),
)


@dataclass
class _Numbers:
    """The numbers that are known so far, and warnings."""

    numbers: dict[str, float | int | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def result(self) -> AnalysisResult:
        known = {name: _finite(self.numbers.get(name)) for name in NAMES}
        return AnalysisResult(
            verdict=_verdict(known),
            title="one network",
            numbers=known,
            figures=_figures(known),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def eigenvalue(self, context: AnalysisContext, bound: Bound, kind: str) -> float | None:
        """The largest eigenvalue of the operator of this kind; None, with a warning, if there is none."""
        try:
            operator = bound.operator(kind, context.params)
            solved = context.solve(operator, 1, which="LA", seed=context.seed)
            release(operator)
        except EigencoreError as error:
            self.warnings.append(f"there is no eigenvalue of the kind {kind}: {error.message}")
            return None
        if not solved.converged[0]:
            self.warnings.append(f"the eigenvalue of the kind {kind} did not converge: {solved.advice}")
            return None
        return float(solved.values[0])


def _under_attack(
    context: AnalysisContext, classifier: Classifier, x: Array, y: Array, eps: float, batch: int
) -> dict[str, float | int | None]:
    attacker = Attacker(context.attack, classifier, x, y, batch, context.seed)
    result = attacker.run(FIXED, eps=eps, norm=NORM_OF_BALL)
    withstood = proportion(int((~result.success).sum()), len(result.success))
    _, losses = worst_inputs(classifier, x, y, eps, batch, context.seed)
    return {
        "clean_accuracy": float(result.correct.mean()),
        "robust_accuracy": withstood.estimate,
        "robust_accuracy_low": withstood.low,
        "robust_accuracy_high": withstood.high,
        "robust_loss": float(losses.mean()),
        "median_distance": float(np.median(smallest_perturbations(attacker, NORM).distance)),
        "eps": eps,
        "samples": len(result.success),
    }


def _over_inputs(
    classifier: Classifier, x: Array, y: Array, batch: int, seed: int
) -> dict[str, float | int | None]:
    parts = []
    for at, rows, labels in batches(x, y, batch):
        product = classifier.input_products(CrossEntropy(), rows, labels)
        curvature = largest_eigenpairs(product, rows.shape, classifier, seed + at).values[:, 0]
        _, gradient = classifier.value_and_grad(CrossEntropy(), rows, labels)
        norm = arrays.to_host(classifier.xp.linalg.vector_norm(gradient, axis=1))
        predicted = arrays.to_host(classifier.xp.argmax(classifier.logits(rows), axis=1))
        correct = np.flatnonzero(predicted == arrays.to_host(labels))
        r1 = np.zeros(rows.shape[0])
        if len(correct):
            chosen = arrays.rows(rows, correct), arrays.rows(labels, correct)
            r1[correct] = arrays.to_host(first_order(classifier, *chosen).radius)
        parts.append((r1, curvature, norm))
    names = ("median_r1", "median_lambda_input", "median_gradient")
    columns = map(np.concatenate, zip(*parts, strict=True))
    return {name: float(np.median(column)) for name, column in zip(names, columns, strict=True)}


def _finite(value: float | int | None) -> float | int | None:
    """A median is infinite if most samples were not broken, and JSON has no infinity."""
    return value if value is None or math.isfinite(value) else None


def _verdict(known: dict[str, float | int | None]) -> str:
    low, high = known["robust_accuracy_low"], known["robust_accuracy_high"]
    clean, robust = known["clean_accuracy"], known["robust_accuracy"]
    assert clean is not None
    assert robust is not None
    assert low is not None
    assert high is not None
    text = (
        f"Of {known['samples']} samples, {100 * clean:.1f} % are correct, and {100 * robust:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}] under PGD (Linf {known['eps']:g})."
    )
    if known["lambda_clean"] is not None:
        text += f" The top eigenvalue over weights is {known['lambda_clean']:.4g}"
        of_robust = known["lambda_robust"]
        text += "." if of_robust is None else f", {of_robust:.4g} at the worst inputs."
    return text


def _figures(known: dict[str, float | int | None]) -> tuple[Figure, ...]:
    """The accuracies, and the largest eigenvalues once both are known."""
    names = ("clean_accuracy", "robust_accuracy", "robust_accuracy_low", "robust_accuracy_high")
    clean, robust, low, high = (np.float64(known[name]) for name in names)
    accuracies = Figure(
        "bar",
        "Accuracy without and under attack",
        "accuracy",
        "",
        {"accuracy": np.array([clean, robust])},
        bands={"accuracy": (np.array([np.nan, low]), np.array([np.nan, high]))},
        labels=("no perturbation", f"{FIXED}, eps {known['eps']:g}"),
        caption=f"The share of {known['samples']} samples that are classified correctly, without a "
        f"perturbation and under {FIXED} ({NORM_OF_BALL} {known['eps']:g}), with its exact 95 % interval.",
    )
    eigenvalues = [known[name] for name in ("lambda_clean", "lambda_robust")]
    if None in eigenvalues:
        return (accuracies,)
    return (
        accuracies,
        Figure(
            "bar",
            "Largest eigenvalue of the clean and the robust loss",
            "eigenvalue over the weights",
            "",
            {"eigenvalue over the weights": np.array(eigenvalues)},
            labels=("clean loss", "robust loss"),
            caption="The largest eigenvalue of the Hessian over the weights, of the loss over all data and "
            f"of that at the worst inputs within {NORM_OF_BALL} {known['eps']:g}.",
        ),
    )
