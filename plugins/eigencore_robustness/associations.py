"""The associations of the distance with its estimators, with descriptive columns and with curvature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore_robustness.statistics.added_information import AddedInformation, added_information
from eigencore_robustness.statistics.calibration import Calibration, calibration, calibration_gain
from eigencore_robustness.statistics.intervals import Interval
from eigencore_robustness.statistics.rank_correlation import spearman

if TYPE_CHECKING:
    from eigencore.space import Floats

FIRST_ORDER = "r1"
RADII = (FIRST_ORDER, "r1_in_box", "r_cautious", "r2")
DESCRIPTIONS = ("loss", "gradient_norm", "margin")
CURVATURES = ("lambda_max", "nu", "weight_curvature")
OF_CURVED_MARGINS = ("nu", "r_cautious", "r2")
CONTROLS = ("loss", "gradient_norm", FIRST_ORDER)


@dataclass(frozen=True)
class EstimatorQuality:
    """How well a radius estimates the distance. The gain over r1 is None for r1 itself."""

    calibration: Calibration
    error_gain: Interval | None


@dataclass(frozen=True)
class Associations:
    """The relations of columns to the distance, by the name of the column.

    Attributes:
        ranks: Spearman's correlation with the distance.
        estimators: the quality of the columns that estimate the distance.
        added: the information that the other radii and the curvatures add to the controls.
    """

    ranks: Mapping[str, Interval]
    estimators: Mapping[str, EstimatorQuality]
    added: Mapping[str, AddedInformation]


def associations(columns: Mapping[str, Floats], distance: Floats, seed: int) -> Associations:
    """Returns the relations of columns (n,) to the distance (n,), with one family of tests."""
    r1 = columns[FIRST_ORDER]
    # Where bounds are far away, the radius within them is r1 itself.
    radii = [
        name
        for name in RADII
        if name == FIRST_ORDER or (name in columns and not np.allclose(columns[name], r1, rtol=1e-6))
    ]

    def quality(name: str) -> EstimatorQuality:
        own = calibration(columns[name], distance, seed=seed)
        if name == FIRST_ORDER:
            return EstimatorQuality(own, None)
        return EstimatorQuality(
            own,
            calibration_gain(columns[name], r1, distance, seed=seed),
        )

    curvatures = [name for name in CURVATURES if name in columns]
    tested = {name: columns[name] for name in (*radii, *curvatures) if name != FIRST_ORDER}
    controls = {name: columns[name] for name in CONTROLS}
    return Associations(
        ranks={
            name: spearman(columns[name], distance, seed=seed)
            for name in (*radii, *DESCRIPTIONS, *curvatures)
        },
        estimators={name: quality(name) for name in radii},
        added=added_information(tested, distance, controls, seed=seed),
    )
