"""What goes with the distance: estimators of it, what merely describes a sample, and curvature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore_robustness.statistics import (
    Added,
    Calibration,
    Interval,
    added,
    calibration,
    calibration_gain,
    spearman,
    spearman_gain,
)

if TYPE_CHECKING:
    from eigencore.space import Floats

FIRST_ORDER = "r1"
ESTIMATORS = (FIRST_ORDER, "r1_in_box", "r_cautious")
DESCRIPTIONS = ("loss", "gradient_norm", "margin")
CURVATURES = ("lambda_max", "nu", "weight_curvature")
CONTROLS = ("loss", "gradient_norm", FIRST_ORDER)


@dataclass(frozen=True)
class Estimator:
    """A radius beside the distance. The gains over r1 are None for r1 itself."""

    calibration: Calibration
    rank_gain: Interval | None
    error_gain: Interval | None


@dataclass(frozen=True)
class Associations:
    """With the distance of n samples; by the name of the column."""

    ranks: Mapping[str, Interval]
    estimators: Mapping[str, Estimator]
    added: Mapping[str, Added]


def associations(columns: Mapping[str, Floats], distance: Floats, seed: int) -> Associations:
    """Of those columns that are there and hold numbers; the curvatures are one family of tests."""
    r1 = columns[FIRST_ORDER]

    def estimator(name: str) -> Estimator:
        own = calibration(columns[name], distance, seed=seed)
        if name == FIRST_ORDER:
            return Estimator(own, None, None)
        return Estimator(
            own,
            spearman_gain(columns[name], r1, distance, seed=seed),
            calibration_gain(columns[name], r1, distance, seed=seed),
        )

    curvatures = {name: columns[name] for name in CURVATURES if name in columns}
    controls = {name: columns[name] for name in CONTROLS}
    return Associations(
        ranks={
            name: spearman(columns[name], distance, seed=seed)
            for name in (*ESTIMATORS, *DESCRIPTIONS, *CURVATURES)
            if name in columns
        },
        estimators={name: estimator(name) for name in ESTIMATORS if name in columns},
        added=added(curvatures, distance, controls, seed=seed),
    )
