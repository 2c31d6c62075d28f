"""The state of a study as an AnalysisResult. Numbers are rounded here and in `direction_report` only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.figures import Table
from eigencore.results import AnalysisResult
from eigencore_robustness.associations import Associations
from eigencore_robustness.directions.direction_report import (
    alignment_sentences,
    alignment_table,
    path_figures,
    path_sentence,
    path_table,
    shares_left_out,
    weight_figures,
    weight_tables,
)
from eigencore_robustness.figures import ESTIMATES, accuracy_figure, predicted_figure, shares_figure
from eigencore_robustness.rounding import percent, rounded
from eigencore_robustness.statistics.intervals import MINIMUM, Interval, proportion
from eigencore_robustness.statistics.rank_correlation import minimum_detectable_correlation
from eigencore_robustness.under_attack.attack_evaluation import NORM, AttackEvaluation
from eigencore_robustness.under_attack.distances import NORM as NORM_OF_DISTANCES
from eigencore_robustness.under_attack.distances import Distances
from eigencore_robustness.under_attack.gates import Gate, GateOutcome, worst_outcome
from eigencore_robustness.verdict import CautiousRadiusCheck, remarks, verdict

if TYPE_CHECKING:
    from eigencore.figures import Figure
    from eigencore_robustness.directions.perturbation_path import PerturbationPath
    from eigencore_robustness.directions.weight_curvature import LossIncrease
    from eigencore_robustness.directions.weight_path import WeightCurve
    from eigencore_robustness.over_inputs.alignments import Alignment
    from eigencore_robustness.over_inputs.sample_images import SampleImages
    from eigencore_robustness.statistics.added_information import Finding
    from eigencore_robustness.under_attack.smallest_perturbations import SmallestPerturbations

# With longer labels the table of estimates would be wider than 80 columns.
LABELS = {
    "r1": "r1, first order",
    "r1_in_box": "r1 within bounds",
    "r_cautious": "cautious radius",
    "r2": "r2, second order",
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "margin": "logit margin",
    "lambda_max": "lambda_max, input",
    "nu": "nu, input",
    "weight_curvature": "v_1'H v_1, weights",
}
CONTROLS = "loss, gradient norm and r1"
SUMMARY = "what predicts the smallest perturbation"


@dataclass
class RobustnessReport:
    """The results of a study so far, in the order in which they become available; None if not available.

    Attributes:
        samples: the number of samples.
        correct: the number of correctly classified samples.
        columns: per-sample columns (samples,) by name.
        data: a description of the samples, such as "the first 500 validation samples".
        step: the step along the eigenvectors over the weights.
        increases: the increase of the loss at that step.
        evaluated: what withstands the attacks.
        distances: the smallest perturbations.
        warnings: what the reader must know before relying on the verdict.
        alignments: the shares of the perturbations along directions.
        path: eigenvalues along the perturbations.
        weight_curves: loss and accuracy along directions of the weights.
        images: the samples with the smallest and the largest perturbations; None if they are not images.
    """

    samples: int
    correct: int
    columns: dict[str, Any]
    data: str
    gates: tuple[Gate, ...] = ()
    evaluated: AttackEvaluation | None = None
    distances: Distances | None = None
    step: float | None = None
    increases: tuple[LossIncrease, ...] = ()
    associations: Associations | None = None
    cautious: CautiousRadiusCheck | None = None
    warnings: tuple[str, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    path: PerturbationPath | None = None
    weight_curves: tuple[WeightCurve, ...] = ()
    images: SampleImages | None = None

    def result(self) -> AnalysisResult:
        """Returns what is known so far."""
        return AnalysisResult(
            verdict=self._verdict(),
            title=" · ".join([self._samples(), *([self.distances.source] if self.distances else [])]),
            numbers=self._numbers(),
            tables={name: table for name, table in self._tables().items() if table.rows},
            columns=dict(self.columns),
            figures=self._figures(),
            warnings=(*self.warnings, *self._gates_not_passed()),
            remarks=self._remarks(),
            shown=(SUMMARY,),
        )

    def _samples(self) -> str:
        wrong = self.samples - self.correct
        excluded = f" ({wrong} misclassified)" if wrong else ""
        return f"{self.correct} correctly classified of {self.data}{excluded}"

    def _verdict(self) -> str:
        if self.associations is None or self.cautious is None:
            return "not finished"
        return verdict(self.gates, self._fooled, self.associations)

    def _remarks(self) -> tuple[str, ...]:
        if not self._conclusive or self.associations is None or self.cautious is None:
            return ()
        along = alignment_sentences(self.alignments) if self.alignments else ""
        path = path_sentence(self.path) if self.path is not None else ""
        return remarks(self.associations, self.cautious) + tuple(filter(None, (along, path)))

    def _gates_not_passed(self) -> Iterator[str]:
        for gate in self.gates:
            if gate.outcome is not GateOutcome.PASS:
                yield f"gate {gate.name}, {gate.outcome}: {gate.observed}"

    @property
    def _fooled(self) -> int:
        """The number of correctly classified samples with a known perturbation."""
        distance = self.columns.get("distance")
        return 0 if distance is None else int((self.columns["correct"] & np.isfinite(distance)).sum())

    @property
    def _conclusive(self) -> bool:
        return self._fooled >= MINIMUM and worst_outcome(self.gates) is not GateOutcome.FAIL

    def _tables(self) -> dict[str, Table]:
        tables = {}
        if self.evaluated is not None:
            title = f"accuracy under attack, {NORM}, all {self.samples} samples"
            tables[title] = _accuracies(self.evaluated)
        if self.distances is not None and self.distances.smallest is not None:
            tables["attacks that found the smallest perturbations"] = _finders(self.distances.smallest)
        if self.associations is not None:
            tables |= {
                SUMMARY: _summary(self.associations, self._conclusive),
                "rank correlation with the smallest perturbation": _correlations(self.associations),
                "estimates of the smallest perturbation (error %: median after rescaling)": _estimates(
                    self.associations
                ),
                f"share of the variance left open by {CONTROLS}": _added(self.associations, self._conclusive),
            }
        if self.step is not None:
            tables[f"mean increase of the loss at weights ± {self.step:.2g} v"] = _increases(self.increases)
        if self.alignments:
            tables["share of the smallest perturbation along directions over the input (medians)"] = (
                alignment_table(self.alignments)
            )
        if self.path is not None:
            tables[f"from {self.path.samples} samples (t = 0) to their smallest perturbation (t = 1)"] = (
                path_table(self.path)
            )
        if self.step is not None:
            tables |= weight_tables(self.weight_curves, self.step)
        return tables | {"gates": _gates(self.gates)}

    def _figures(self) -> tuple[Figure, ...]:
        found: list[Figure | None] = []
        if self.evaluated is not None:
            found.append(accuracy_figure(self.evaluated))
        if self.associations is not None and self.distances is not None:
            estimates = {name: LABELS[name] for name in ESTIMATES if name in self.associations.estimators}
            norm = NORM_OF_DISTANCES if self.distances.smallest is not None else ""
            found.append(predicted_figure(self.columns, estimates, norm))
            found.append(shares_figure(self.associations.added, LABELS, CONTROLS))
        found += [] if self.images is None else [self.images.figure()]
        found += [] if self.path is None else path_figures(self.path)
        found += weight_figures(self.weight_curves, self.samples) if self.weight_curves else ()
        return tuple(figure for figure in found if figure is not None)

    def _numbers(self) -> dict[str, float | int | str | None]:
        numbers: dict[str, float | int | str | None] = {}
        distance = self.columns.get("distance")
        if distance is not None:
            fooled = distance[self.columns["correct"] & np.isfinite(distance)]
            if self.evaluated is not None:
                withstood = self.evaluated.withstood.mean(axis=1)
                pairs = zip(self.evaluated.radii, withstood, strict=True)
                listed = ", ".join(f"{percent(share):g} at {eps:g}" for eps, share in pairs)
                numbers[f"accuracy % under attack, {NORM}"] = listed
            numbers |= {"median distance": rounded(float(np.median(fooled)), 4)} if len(fooled) else {}
            numbers["not fooled"] = self.correct - self._fooled
            numbers |= shares_left_out(self.alignments, len(fooled))
        r2 = self.columns.get("r2")
        if r2 is not None and np.isinf(r2).any():
            numbers["r2 infinite"] = int(np.isinf(r2).sum())
        if self.path is not None and self.path.unconverged:
            numbers["eigenvalues along the path that did not converge"] = self.path.unconverged
        if self.associations is not None and self._fooled > 3:
            numbers["detectable |rho|"] = rounded(minimum_detectable_correlation(self._fooled), 2)
        return numbers


def _accuracies(of: AttackEvaluation) -> Table:
    rows = []
    for eps, withstood, alone in zip(of.radii, of.withstood, of.fixed, strict=True):
        share = proportion(int(withstood.sum()), len(withstood))
        shares = (share.estimate, share.low, share.high, alone.accuracy)
        rows.append((eps, *map(percent, shares)))
    return Table(("eps", "accuracy %", "95 % low", "95 % high", f"{of.fixed[0].attack} alone"), tuple(rows))


def _finders(of: SmallestPerturbations) -> Table:
    rows = []
    for i, one in enumerate(of.attacks):
        own = one.distance[one.correct & one.success]
        median = rounded(float(np.median(own)), 4) if len(own) else None
        missed = int((one.correct & ~one.success).sum())
        rows.append((one.attack, one.options["steps"], int((of.found_by == i).sum()), median, missed))
    return Table(("attack", "steps", "smallest for", "its median", "not fooled"), tuple(rows))


def _summary(found: Associations, conclusive: bool) -> Table:
    """Returns the estimates of the other tables in a row per radius and curvature, without intervals."""
    rows = []
    for name, ranks in found.ranks.items():
        quality, more = found.estimators.get(name), found.added.get(name)
        if quality is None and more is None:
            continue
        rows.append(
            (
                LABELS[name],
                rounded(ranks.estimate, 3),
                None if quality is None else percent(quality.calibration.error.estimate),
                None if more is None else percent(more.share.estimate),
                _short(more.finding) if more is not None and conclusive else None,
            )
        )
    return Table(("measure", "Spearman", "error %", "share left open %", "finding"), tuple(rows))


def _correlations(found: Associations) -> Table:
    rows = [(LABELS[name], *_with_ends(ranks)) for name, ranks in found.ranks.items()]
    return Table(("measure", "Spearman", "95 % low", "95 % high"), tuple(rows))


def _estimates(found: Associations) -> Table:
    rows = []
    for name, one in found.estimators.items():
        error, gain = one.calibration.error, one.error_gain
        ends = (error.estimate, error.low, error.high)
        gains = (None,) * 3 if gain is None else (gain.estimate, gain.low, gain.high)
        rows.append(
            (LABELS[name], rounded(one.calibration.ratio.estimate, 2), *map(percent, (*ends, *gains)))
        )
    return Table(("measure", "ratio", "error %", "low", "high", "less than r1", "from", "to"), tuple(rows))


def _added(found: Associations, conclusive: bool) -> Table:
    rows = [
        (
            LABELS[name],
            *map(percent, (one.share.estimate, one.share.low, one.share.high)),
            rounded(one.r2_gain, 3),
            rounded(one.vif, 1),
            _short(one.finding) if conclusive else None,
        )
        for name, one in found.added.items()
    ]
    return Table(("measure", "share %", "low", "high", "R2 gain", "VIF", "finding"), tuple(rows))


def _short(finding: Finding) -> str:
    """Returns the finding in one word, so that a table is no wider than 80 columns."""
    return str(finding).partition(" ")[0]


def _increases(increases: Sequence[LossIncrease]) -> Table:
    rows = [
        tuple(rounded(x, 4) for x in (one.eigenvalue, one.model, one.along, one.random)) for one in increases
    ]
    return Table(("eigenvalue", "quadratic model", "along v", "random, same norm per layer"), tuple(rows))


def _gates(gates: Sequence[Gate]) -> Table:
    return Table(
        ("gate", "outcome", "observed"),
        tuple((gate.name, str(gate.outcome), gate.observed) for gate in gates),
    )


def _with_ends(of: Interval) -> list[float | None]:
    """Returns the estimate and the ends of its interval, to three decimals."""
    return [rounded(x, 3) for x in (of.estimate, of.low, of.high)]
