"""The analysis `robustness`: first-order margins, curvature and the smallest perturbations of a network.

`eigencore_robustness.infer` tests rank correlations across networks; see `statistics.across_networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.entries import AnalysisEntry, Capability
from eigencore.hookspecs import hookimpl

if TYPE_CHECKING:
    from eigencore_robustness.statistics.across_networks import infer as infer


@hookimpl
def eigen_analyses() -> list[AnalysisEntry]:
    return [
        AnalysisEntry(
            name="robustness",
            summary="do first-order margins and curvature predict how easily the network is fooled?",
            load="eigencore_robustness.analysis:robustness",
            options="eigencore_robustness.options:RobustnessOptions",
            needs=frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT, Capability.INPUT_PRODUCTS}),
        )
    ]


def __getattr__(name: str) -> object:  # SciPy is imported when it is needed
    if name != "infer":
        raise AttributeError(f"module 'eigencore_robustness' has no attribute {name!r}")
    from eigencore_robustness.statistics.across_networks import infer

    return infer
