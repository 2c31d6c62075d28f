"""What a look of a monitor computes, by name.

- `lambda_max`: the largest eigenvalue of the Hessian, further ones that are near the threshold, and the
  threshold itself (Cohen et al., Gradient descent on neural networks typically occurs at the edge of
  stability, ICLR 2021).
- `preconditioned_sharpness`: the largest eigenvalue of P^-1 H for the preconditioner P of the optimizer, with
  its threshold (Cohen et al., Adaptive gradient methods at the edge of stability, 2022, arXiv:2207.14484).
- `critical_sharpness`: see `critical_step`.
- `alignment`: |cos| of the gradient and the first eigenvector, and the share of the squared gradient in the
  space of all tracked eigenvectors (Gur-Ari et al., Gradient descent happens in a tiny subspace, 2018).

Every other name is that of an analysis, such as `trace` or `batch_sharpness`, whose numbers are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.analyses import Planned, run_analyses
from eigencore.attacks.attack import attack
from eigencore.entries import AnalysisEntry
from eigencore.errors import ProblemError, UnknownNameError
from eigencore.interfaces import AnalysisContext
from eigencore.pipeline.monitoring.critical_step import critical_step, curvature_along, parabola_step
from eigencore.pipeline.monitoring.tracked_pairs import TrackedPairs
from eigencore.problems import bind_with
from eigencore.registry import load, registry, require, resolve_options
from eigencore.runs import load as load_run
from eigencore.solving import Budget, Interruption
from eigencore.solving.solve import solve

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.results import EigenResult
    from eigencore.training import Moment

# Options that suit repeated looks better than those of a single analysis; those that are given go before.
PRESETS: Mapping[str, Mapping[str, Any]] = {"batch_sharpness": {"draws": 8, "largest": False}}
FIRST_STEP = 1e-3  # where the search for the critical step begins without a learning rate


@dataclass
class Memory:
    """What a look leaves to the next one.

    Attributes:
        pairs, preconditioned: the eigenpairs of the Hessian, and of the preconditioned Hessian.
        curvature: that along the update by the critical step that was found last, or None.
    """

    pairs: TrackedPairs
    preconditioned: TrackedPairs
    curvature: float | None = None


@dataclass
class Look:
    """One look: what it works with, and what the row says besides the numbers.

    Attributes:
        batch: the batch of the step before, or None.
        threshold: replaces that of the optimizer, unless it is None.
        complete: whether to show that no larger eigenvalue was missed.
        matvecs, certificate, proved: products so far, and the certificate of the tracked pairs.
        failed: why a quantity could not be computed, by its name.
    """

    moment: Moment
    memory: Memory
    batch: Any
    threshold: float | None
    complete: bool
    seed: int
    matvecs: float = 0.0
    certificate: str = ""
    proved: bool | None = None
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def hessian(self) -> LinearOperator:
        return self.moment.bound.operator()

    @cached_property
    def pairs(self) -> EigenResult:
        """The largest eigenpairs of the Hessian."""
        return self._follow("lambda_max", self.memory.pairs, self.hessian, self.threshold_of_hessian)

    @property
    def threshold_of_hessian(self) -> float | None:
        return self.moment.rule.threshold if self.threshold is None else self.threshold

    def preconditioned_pairs(self) -> EigenResult:
        """The largest eigenpairs of the preconditioned Hessian."""
        operator = self.moment.bound.operator("preconditioned")
        threshold = self.moment.rule.preconditioned_threshold
        return self._follow("preconditioned_sharpness", self.memory.preconditioned, operator, threshold)

    def _follow(
        self, name: str, tracked: TrackedPairs, operator: LinearOperator, threshold: float | None
    ) -> EigenResult:
        found = tracked.follow(operator, threshold, complete=self.complete, seed=self.seed)
        self.matvecs += found.matvecs
        self.certificate = self.certificate or found.certificate.level
        # If two operators are solved, both must be complete.
        self.proved = found.complete if self.proved is None else self.proved and found.complete
        if not found.converged.all():
            self.failed[name] = found.advice
        return found


Numbers = dict[str, float]
Quantity = Callable[[Look], Numbers]


def lambda_max(look: Look) -> Numbers:
    """`lambda_max`, `lambda_2` and so on, their `residual` and the `threshold`."""
    return {**_values(look.pairs), **_known("threshold", look.threshold_of_hessian)}


def preconditioned_sharpness(look: Look) -> Numbers:
    """`preconditioned_sharpness`, `preconditioned_2` and so on, their residual and threshold."""
    found = _values(look.preconditioned_pairs(), "preconditioned_", "preconditioned_sharpness")
    return {**found, **_known("preconditioned_threshold", look.moment.rule.preconditioned_threshold)}


def critical_sharpness(look: Look) -> Numbers:
    """`critical_sharpness`, the ends of its interval, its threshold 2 / learning rate, and the `loss`."""
    rate = look.moment.rule.learning_rate
    curvature, look.memory.curvature = look.memory.curvature, None
    with look.moment.update_line(look.batch) as line:
        found = critical_step(line, parabola_step(line, curvature) if curvature else rate or FIRST_STEP)
    look.memory.curvature = curvature_along(line, found.step) if found.step else curvature
    value, low, high = found.sharpness
    ends = {"critical_low": low, "critical_high": high, "critical_passes": float(found.passes)}
    threshold = _known("critical_threshold", 2 / rate if rate else None)
    return {"critical_sharpness": value, **ends, **threshold, "loss": line.loss}


def alignment(look: Look) -> Numbers:
    """`alignment` with the first eigenvector, and `gradient_share` in the space of all tracked ones."""
    vectors, operator = look.pairs.vectors, look.hessian
    gradient = look.moment.bound.gradient()
    length = arrays.norm(gradient, operator)
    if not (math.isfinite(length) and length > 0):
        raise ProblemError(f"the norm of the gradient is {length:g}")
    along = arrays.to_host(arrays.total(vectors.T @ gradient, operator)) / length
    if not len(along):
        raise ProblemError("no eigenvector was found")
    return {"alignment": float(abs(along[0])), "gradient_share": min(1.0, float(np.sum(along**2)))}


OWN: Mapping[str, Quantity] = {
    "lambda_max": lambda_max,
    "preconditioned_sharpness": preconditioned_sharpness,
    "critical_sharpness": critical_sharpness,
    "alignment": alignment,
}


def find_quantities(names: Iterable[str], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Quantity]:
    """The functions that compute the quantities of these names.

    Args:
        options: options of analyses, by name.

    Raises:
        UnknownNameError: a name is neither that of a quantity nor that of an analysis.
        UsageError, PluginError: an option is invalid, or an analysis can't be loaded.
    """
    found: dict[str, Quantity] = {}
    for name in names:
        if name in OWN:
            found[name] = OWN[name]
            continue
        known = {one.entry.name for one in registry().entries(AnalysisEntry)}
        if name.partition("@")[0] not in known:
            raise UnknownNameError("quantity", name, {*OWN, *known})
        entry = registry().find(AnalysisEntry, name)
        load(entry)
        resolved = resolve_options(entry, {**PRESETS.get(entry.name, {}), **options.get(entry.name, {})})
        found[name] = partial(_analysed, Planned(entry.name, entry, resolved))
    return found


def _analysed(planned: Planned, look: Look) -> Numbers:
    """The numbers of an analysis: NAME.NUMBER, or NAME for the one that has the analysis's own name."""
    bound = look.moment.bound
    require(planned.entry, bound.capabilities)
    pairs = look.pairs if planned.entry.eigenpairs else None
    context = AnalysisContext(
        operator=look.hessian,
        pairs=pairs,
        bound=bound,
        problem=None,
        kind="hessian",
        params=None,
        attack=partial(attack, bound),
        solve=solve,
        load=load_run,
        bind=partial(bind_with, options={}, backend=None, device=None, dtype=None),
        seed=look.seed,
        progress=lambda news: None,
    )
    findings = run_analyses([planned], context, Budget(None, None, 0, Interruption()))
    if findings.stopped:
        raise KeyboardInterrupt
    if findings.raised is not None:
        raise findings.raised
    for failure in findings.failed.values():
        assert failure.error is not None
        raise failure.error
    result = findings.results[planned.name]
    look.matvecs += result.matvecs
    numbers = {name: x for name, x in result.numbers.items() if isinstance(x, int | float)}
    return {
        planned.name if name == planned.name else f"{planned.name}.{name}": float(x)
        for name, x in numbers.items()
    }


def _values(found: EigenResult, prefix: str = "lambda_", first: str = "lambda_max") -> Numbers:
    """The converged eigenvalues by name, and the residual of the first; NaN for what did not converge."""
    values = np.where(found.converged, found.values, math.nan)
    named = {first if i == 0 else f"{prefix}{i + 1}": float(x) for i, x in enumerate(values)}
    residual = {f"{first}_residual": float(found.residuals[0])} if len(values) else {}
    return {**named, **residual}


def _known(name: str, value: float | None) -> Numbers:
    return {} if value is None else {name: value}
