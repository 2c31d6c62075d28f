"""The analysis `robustness` of the samples of a network; `network` and `ranks`, which compare networks.

`infer` tests rank correlations across networks, and `infer_study` those of the columns of a study.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.entries import AnalysisEntry, Capability, CommandEntry
from eigencore.hookspecs import hookimpl

if TYPE_CHECKING:
    from eigencore_robustness.networks.network_inference import infer_study as infer_study
    from eigencore_robustness.statistics.across_networks import infer as infer

CLASSIFIER = frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT, Capability.INPUT_PRODUCTS})


@hookimpl
def eigen_analyses() -> list[AnalysisEntry]:
    return [
        AnalysisEntry(
            name="robustness",
            summary="do first-order margins and curvature predict how easily the network is fooled?",
            load="eigencore_robustness.analysis:robustness",
            options="eigencore_robustness.options:RobustnessOptions",
            needs=CLASSIFIER,
        ),
        AnalysisEntry(
            name="network",
            summary="the numbers by which networks are compared, of one network",
            load="eigencore_robustness.networks.network:network",
            options="eigencore_robustness.options:NetworkOptions",
            needs=CLASSIFIER,
            eigenpairs=False,
            by_default=False,
        ),
        AnalysisEntry(
            name="ranks",
            summary="which measurements rank the samples of one network by their distance",
            load="eigencore_robustness.networks.ranks:ranks",
            options="eigencore_robustness.options:RanksOptions",
            needs=CLASSIFIER,
            eigenpairs=False,
            by_default=False,
        ),
    ]


@hookimpl
def eigen_commands() -> list[CommandEntry]:
    return [
        CommandEntry(
            name="study",
            summary="analyze many networks, a row each",
            load="eigencore_robustness.networks.commands:study",
            extra="study",
        )
    ]


def __getattr__(name: str) -> object:  # SciPy is imported when it is needed
    if name == "infer":
        from eigencore_robustness.statistics.across_networks import infer

        return infer
    if name == "infer_study":
        from eigencore_robustness.networks.network_inference import infer_study

        return infer_study
    raise AttributeError(f"module 'eigencore_robustness' has no attribute {name!r}")
