"""Which columns of a study are tested against which, and what `infer` says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import UnknownNameError, UsageError
from eigencore.figures import Figure, Reference
from eigencore.findings import AnalysisResult
from eigencore_robustness.statistics.across_networks import infer

if TYPE_CHECKING:
    from eigencore.space import Floats
    from eigencore_robustness.statistics.across_networks import NetworkInference

METRICS = (
    *("network.lambda_clean", "network.lambda_scaled", "network.lambda_robust"),
    *("network.lambda_robust_scaled", "trace.trace"),
    *("network.median_r1", "network.median_lambda_input"),
)
OUTCOMES = ("network.robust_accuracy", "network.robust_loss", "network.median_distance")
CONTROLS = ("network.train_loss", "adversarial")


@dataclass(frozen=True)
class StudyInference:
    """The inference on the rows of a study.

    Attributes:
        metrics, outcomes, controls: the names of the columns.
        found: the associations; None if there is no metric or no outcome.
        reason: why there are none.
    """

    metrics: tuple[str, ...]
    outcomes: tuple[str, ...]
    controls: tuple[str, ...]
    found: NetworkInference | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """What may be said, with the controls."""
        if self.found is None:
            return f"No inference: {self.reason}."
        controlled = f" Controls: {', '.join(self.controls)}." if self.controls else " Controls: none."
        return self.found.verdict + ("" if self.found.reason else controlled)

    @property
    def findings(self) -> AnalysisResult:
        """The inference as a part of the report of a study."""
        if self.found is None:
            return AnalysisResult(verdict=self.verdict)
        return AnalysisResult(
            verdict=self.verdict,
            numbers={"networks": self.found.networks, "independent units": self.found.units},
            tables={"rank correlations across networks": self.found.table},
            figures=(self._figure(self.found),),
        )

    def _figure(self, found: NetworkInference) -> Figure:
        """The correlations of each metric as bars, a series for each outcome."""
        rho = {(one.metric, one.outcome): one.rho for one in found.associations}
        controlled = f", given {' and '.join(self.controls)}" if self.controls else ""
        edges = (-found.detectable, found.detectable) if not found.reason else ()
        text = (
            f"Spearman's correlations of metrics with outcomes across {found.networks} networks{controlled}."
        )
        if edges:
            text += (
                f" Between the lines, at |rho| of {found.detectable:.2f}, a correlation would mostly go "
                "unnoticed."
            )
        return Figure(
            "bar",
            "Rank correlations across networks",
            "Spearman's rho",
            "",
            {
                outcome: np.array([rho[metric, outcome] for metric in self.metrics], dtype=np.float64)
                for outcome in self.outcomes
            },
            references=tuple(Reference("x", edge) for edge in edges),
            labels=self.metrics,
            caption=text,
        )


def infer_study(
    columns: Mapping[str, Any],
    *,
    metrics: Iterable[str] | None = None,
    outcomes: Iterable[str] | None = None,
    controls: Iterable[str] | None = None,
    seed: int = 0,
) -> StudyInference:
    """What the rows of a study show, by `infer`, with its groups.

    Args:
        columns: those of `eigencore.study`, (rows,) each.
        metrics, outcomes, controls: names of columns; None: of METRICS, OUTCOMES and CONTROLS those that the
            study has. A column without a value in any row, and a control that is the same in all rows, is
            left out of these.
        seed: seed of the permutations.

    Raises:
        UnknownNameError: there is no such column.
        UsageError: a column holds text.

    Example:
        import numpy as np
        from eigencore_robustness import infer_study

        rng = np.random.default_rng(0)
        margin, other = rng.standard_normal((2, 24))
        columns = {"margin": margin, "other": other, "accuracy": margin + 0.3 * rng.standard_normal(24)}
        found = infer_study(columns, metrics=["margin", "other"], outcomes=["accuracy"], controls=[])
        print(found.verdict)
    """
    x, y, held = (
        _chosen(columns, given, default)
        for given, default in ((metrics, METRICS), (outcomes, OUTCOMES), (controls, CONTROLS))
    )
    if controls is None:
        held = {name: column for name, column in held.items() if len(set(column[~np.isnan(column)])) > 1}
    names = tuple(x), tuple(y), tuple(held)
    for what, chosen, default in (("metrics", x, METRICS), ("outcomes", y, OUTCOMES)):
        if not chosen:
            return StudyInference(*names, None, f"the study has none of the {what} {', '.join(default)}")
    if not np.isfinite(np.stack([*x.values(), *y.values(), *held.values()])).all(axis=0).any():
        return StudyInference(*names, None, "every network lacks one of the columns")
    groups = list(columns["group"]) if "group" in columns else None
    groups = None if groups is None else [one if isinstance(one, str) else None for one in groups]
    return StudyInference(*names, infer(x, y, controls=held, groups=groups, seed=seed))


def _chosen(
    columns: Mapping[str, Any], given: Iterable[str] | None, default: Iterable[str]
) -> dict[str, Floats]:
    if given is None:
        known = {name: columns[name] for name in default if name in columns and _is_numeric(columns[name])}
        return {name: column for name, column in known.items() if not np.isnan(column).all()}
    chosen = {}
    for name in given:
        if name not in columns:
            raise UnknownNameError("column", name, columns)
        if not _is_numeric(columns[name]):
            raise UsageError(f"the column {name} holds text; expected numbers")
        chosen[name] = np.asarray(columns[name], dtype=np.float64)
    return chosen


def _is_numeric(column: Any) -> bool:
    return np.asarray(column).dtype != object
