"""Solvers by short recurrences: `deflated_power`, `accel_power` with momentum, and `lobpcg`."""

from __future__ import annotations

from eigencore.entries import Capability, SolverEntry
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_solvers() -> list[SolverEntry]:
    needs = frozenset({Capability.PRODUCTS})
    return [
        SolverEntry(
            name="deflated_power",
            summary="power iteration with deflation: simple, and slow if gaps are small",
            load="eigencore_power.deflated:deflated_power",
            options="eigencore_power.options:DeflatedPowerOptions",
            needs=needs,
            vectors="eigencore_power.deflated:vectors_held",
            refuses_non_finite=True,
            which=("LM",),
        ),
        SolverEntry(
            name="accel_power",
            summary="block power iteration with momentum, also on minibatches; more products than lanczos",
            load="eigencore_power.accelerated:accel_power",
            options="eigencore_power.options:AccelPowerOptions",
            needs=needs,
            vectors="eigencore_power.accelerated:vectors_held",
            refuses_non_finite=True,
            which=("LM",),
        ),
        SolverEntry(
            name="lobpcg",
            summary="locally optimal block iteration: any end in little memory, more products than lanczos",
            load="eigencore_power.lobpcg:lobpcg",
            needs=needs,
            vectors="eigencore_power.lobpcg:vectors_held",
            refuses_non_finite=True,
        ),
    ]
