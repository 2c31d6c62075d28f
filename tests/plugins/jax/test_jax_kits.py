"""Every bundled solver, attack and analysis conforms on JAX, in float32, or in float64 if that is turned on.

`.ci/run` runs a part of the cases, in float32 and then with JAX_ENABLE_X64=1, since nearly all of their time
is spent on compiling. EIGEN_EFFORT=20 runs all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eigencore.entries import AnalysisEntry, AttackEntry, Entry, SolverEntry
from eigencore.interfaces import Problem
from eigencore.registry import registry
from eigencore.testing import analysis_checks, attack_checks, solver_checks
from eigencore.testing.checks import Check
from kit.effort import some_of
from kit.jax_networks import D, jax, jnp, small_jax

PRECISION = "float64" if jax.config.jax_enable_x64 else "float32"
LIBRARIES = [f"jax-{PRECISION}"]
SAMPLES = 60

KRYLOV = ("lanczos", "arpack")
FULL_BASIS = "ARPACK first tests for convergence when its basis is full, wherever it starts"
KNOWN_FAILURES = {"arpack": {"warm_start_saves_products": FULL_BASIS}}

# Two runs give the same; if not, an array or a random number depends on more than the seed.
ALWAYS = ("same_seed_same_bits", "same_seed_same_result")

# Fewer steps than usual: without compilation of the whole attack, JAX spends a millisecond on each.
ATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {},
    "pgd": {"steps": 8},
    "apgd": {"steps": 8, "restarts": 2},
    "apgd_t": {"steps": 8},
    "square": {"queries": 50},
    "ddn": {"steps": 30, "gamma": 0.1},
    "fmn": {"steps": 30, "gamma": 0.1},
    "deepfool": {"steps": 8, "targets": 1},
}
ANALYSES: dict[str, dict[str, Any]] = {
    "robustness": {"images": 40},
    "network": {"images": 8},
    "ranks": {"images": 12},
    "density": {"probes": 2, "steps": 4},
    "trace": {"products": 12},
    "diagonal": {"products": 12},
    "norms": {"probes": 3, "steps": 4},
    "batch_sharpness": {"draws": 2},
}


def bundled(kind: type[Entry]) -> set[str]:
    """The names of the bundled entries of a kind, without the adapters of other packages."""
    return {
        one.entry.name
        for one in registry().entries(kind)
        if one.plugin.distribution.lower() == "eigencore" and one.entry.extra in (None, "torch")
    }


def small_classification() -> Problem:
    """A softplus network for JAX that classifies most of 60 samples correctly."""
    apply, params = small_jax().model
    params = jax.tree.map(lambda w: jnp.asarray(4 * w, dtype=PRECISION), params)
    x = np.random.default_rng(1).uniform(size=(SAMPLES, D))
    y = np.array(apply(params, jnp.asarray(x))).argmax(axis=1)
    y[::10] = (y[::10] + 1) % 4
    data = [(x[:25], y[:25]), (x[25:], y[25:])]
    return replace(small_jax(model=(apply, params), data=data), bounds=(0.0, 1.0), name="small-jax")


def checks() -> Iterator[tuple[str, Check[Any]]]:
    """All checks, with the plugin that each is of."""
    for solver in sorted(bundled(SolverEntry)):
        for check in solver_checks(
            solver,
            libraries=LIBRARIES,
            solves_everything=solver in KRYLOV,
            known_failures=KNOWN_FAILURES.get(solver),
        ):
            yield solver, check
    for attack, options in ATTACKS.items():
        for check in attack_checks(attack, libraries=LIBRARIES, **options):
            yield attack, check
    problem = small_classification()
    for analysis, options in ANALYSES.items():
        for check in analysis_checks(analysis, problem, **options):
            yield analysis, check


def cases() -> Iterator[Any]:
    """One law of each plugin, and a random part of the other checks."""
    always, others = list[tuple[str, Check[Any]]](), list[tuple[str, Check[Any]]]()
    for plugin, check in checks():
        (always if check.name in ALWAYS else others).append((plugin, check))
    for plugin, check in [*always, *some_of(others, usual=0.05)]:
        same_worker = pytest.mark.xdist_group(plugin)  # compiles once for all its checks
        yield pytest.param(check, id=f"{plugin}-{check.name}", marks=same_worker)


def test_no_bundled_entry_is_left_out() -> None:
    assert bundled(AttackEntry) == set(ATTACKS)
    assert bundled(AnalysisEntry) == set(ANALYSES)


@pytest.mark.parametrize("check", list(cases()))
def test_it_conforms(check: Check[Any]) -> None:
    check()
