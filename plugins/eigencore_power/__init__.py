"""Power iteration: with deflation (`deflated_power`), and with momentum (`accel_power`)."""

from __future__ import annotations

from eigencore.entries import Capability, SolverEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    needs = frozenset({Capability.PRODUCTS})
    return [
        SolverEntry(
            name="deflated_power",
            summary="power iteration with deflation: simple, and slow where gaps are small",
            load="eigencore_power.deflated:deflated_power",
            options="eigencore_power.deflated:DeflatedPowerOptions",
            needs=needs,
            which=("LM",),
        ),
        SolverEntry(
            name="accel_power",
            summary="power iteration with momentum, in blocks: simple steps, more products than lanczos",
            load="eigencore_power.accelerated:accel_power",
            options="eigencore_power.accelerated:AccelPowerOptions",
            needs=needs,
            which=("LM", "LA", "SA"),
        ),
    ]
