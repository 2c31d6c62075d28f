"""What curvature says about how easily a network is fooled."""

from __future__ import annotations

from eigencore.entries import AnalysisEntry, Capability
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_analyses() -> list[AnalysisEntry]:
    return [
        AnalysisEntry(
            name="robustness",
            summary="do curvature and first order tell how small a perturbation fools the network?",
            load="eigencore_robustness.analysis:robustness",
            options="eigencore_robustness.options:RobustnessOptions",
            needs=frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT, Capability.INPUT_PRODUCTS}),
        )
    ]
