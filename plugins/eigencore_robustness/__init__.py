"""The analysis `robustness`: first-order margins, curvature and the smallest perturbations of a network."""

from __future__ import annotations

from eigencore.entries import AnalysisEntry, Capability
from eigencore.hookspecs import hookimpl


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
