"""What the analysis has found so far, as an AnalysisResult: here, and only here, numbers are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.results import AnalysisResult, Table
from eigencore_robustness.associations import Associations
from eigencore_robustness.gates import Gate, Outcome, worst
from eigencore_robustness.statistics import MINIMUM, Interval, proportion, smallest_detectable
from eigencore_robustness.strength import NORM
from eigencore_robustness.verdict import Cautious, verdict

if TYPE_CHECKING:
    from eigencore.results import AttackResult
    from eigencore_robustness.weight_space import Along

LABELS = {
    "r1": "r1, first order",
    "r1_in_box": "r1 inside the input bounds",
    "r_cautious": "cautious radius",
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "margin": "logit margin",
    "lambda_max": "lambda_max, input",
    "nu": "nu, input",
    "weight_curvature": "v_1'H v_1, weights",
}


@dataclass
class Found:
    """What there is so far, in the order in which it comes; None: not yet, or not to be had."""

    samples: int
    correct: int
    columns: dict[str, Any]
    data: str
    gates: tuple[Gate, ...] = ()
    attacks: tuple[AttackResult, ...] = ()
    along: tuple[Along, ...] = ()
    step: float | None = None
    whence: str = ""
    associations: Associations | None = None
    cautious: Cautious | None = None
    warnings: list[str] = field(default_factory=list)

    def result(self) -> AnalysisResult:
        wrong = self.samples - self.correct
        titles = [f"{self.correct} correct of {self.data}, {wrong} misclassified apart", self.whence]
        return AnalysisResult(
            verdict=self._verdict(),
            title=" · ".join(filter(None, titles)),
            numbers=self._numbers(),
            tables={name: table for name, table in self._tables().items() if table.rows},
            columns=dict(self.columns),
            warnings=tuple(self.warnings),
        )

    def _verdict(self) -> str:
        if self.associations is None or self.cautious is None:
            return "not finished"
        return verdict(self.gates, self.correct, self.associations, self.cautious)

    @property
    def _conclusive(self) -> bool:
        return self.correct >= MINIMUM and worst(self.gates) is not Outcome.FAIL

    def _tables(self) -> dict[str, Table]:
        tables = {f"accuracy under PGD, {NORM}, all {self.samples} samples": _accuracies(self.attacks)}
        if self.associations is not None:
            tables |= {
                "smallest perturbation and its estimates": _estimates(self.associations),
                "its top eigenvalues, alone and given loss, gradient norm and r1": _eigenvalues(
                    self.associations, self._conclusive
                ),
            }
        if self.step is not None:
            tables[f"mean rise of the loss at weights ± {self.step:.2g} v, by eigenvector"] = _along(
                self.along
            )
        return tables | {"gates": _gates(self.gates)}

    def _numbers(self) -> dict[str, float | int | None]:
        numbers: dict[str, float | int | None] = {}
        distance = self.columns.get("distance")
        if distance is not None:
            broken = distance[self.columns["correct"] & np.isfinite(distance)]
            numbers |= {"broken": len(broken), "unbroken": self.correct - len(broken)}
            numbers |= {"median distance": _rounded(float(np.median(broken)), 4)} if len(broken) else {}
        if self.associations is not None and self.correct > 3:
            numbers["smallest |rho| that so many samples show"] = _rounded(
                smallest_detectable(self.correct), 2
            )
        return numbers


def _accuracies(attacks: Sequence[AttackResult]) -> Table:
    rows = []
    for attack in attacks:
        n, survived = len(attack.success), int((~attack.success).sum())
        share = proportion(survived, n)
        rows.append((attack.eps, *(_percent(x) for x in (share.estimate, share.low, share.high))))
    return Table(("eps", "accuracy %", "low", "high"), tuple(rows))


def _estimates(found: Associations) -> Table:
    rows = []
    for name, ranks in found.ranks.items():
        if name in found.added:
            continue
        row: list[Any] = [LABELS[name], *_three(ranks)]
        if name in found.estimators:
            estimator = found.estimators[name]
            gain = estimator.rank_gain
            row += [
                _rounded(estimator.calibration.ratio.estimate, 2),
                _percent(estimator.calibration.error.estimate),
                None if gain is None else _rounded(gain.estimate, 3),
            ]
        else:
            row += [None] * 3
        rows.append(tuple(row))
    return Table(("measure", "Spearman", "low", "high", "ratio", "error %", "over r1"), tuple(rows))


def _eigenvalues(found: Associations, conclusive: bool) -> Table:
    rows = [
        (
            LABELS[name],
            _rounded(found.ranks[name].estimate, 3),
            *_three(one.partial),
            _rounded(one.vif, 1),
            _rounded(one.r2.gain, 3),
            str(one.standing) if conclusive else None,
        )
        for name, one in found.added.items()
    ]
    return Table(("eigenvalue", "Spearman", "given", "low", "high", "VIF", "R2 gain", "finding"), tuple(rows))


def _along(along: Sequence[Along]) -> Table:
    rows = [
        (_rounded(one.eigenvalue, 4), *(_rounded(x, 4) for x in (one.model, one.rise, one.random)))
        for one in along
    ]
    return Table(("eigenvalue", "quadratic model", "along v", "random, as large per layer"), tuple(rows))


def _gates(gates: Sequence[Gate]) -> Table:
    return Table(
        ("gate", "outcome", "seen"), tuple((gate.name, str(gate.outcome), gate.seen) for gate in gates)
    )


def _three(of: Interval) -> list[float | None]:
    return [_rounded(x, 3) for x in (of.estimate, of.low, of.high)]


def _percent(share: float | None) -> float | None:
    return None if share is None else _rounded(100 * share, 1)


def _rounded(x: float | None, digits: int) -> float | None:
    # Adding zero turns -0.0 into 0.0.
    return None if x is None or not np.isfinite(x) else round(x, digits) + 0.0
