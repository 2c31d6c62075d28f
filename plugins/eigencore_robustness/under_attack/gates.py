"""Gates: conditions for a conclusion. Each passes, warns or fails, and reports what was observed.

Here are those of the network and its samples; `attack_gates` and `distance_gates` have the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.results import EigenResult
    from eigencore.space import Array

HALF_A_POINT = 0.005 + 1e-9  # with a margin for rounding: a share of 1 in 200 is not exactly .005


class GateOutcome(StrEnum):
    """The outcome of a gate."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Gate:
    """A condition and its outcome.

    Attributes:
        observed: what was observed and, unless the gate passed, what that means.
    """

    name: str
    outcome: GateOutcome
    observed: str


def judged(
    name: str, value: float, limits: tuple[float, float], observed: str, meaning: str, passed: str = ""
) -> Gate:
    """Returns a gate that passes up to the first limit, and warns up to the second one.

    Args:
        observed: what was observed.
        meaning: what that means, unless the gate passes.
        passed: what was observed if the gate passes, where this needs other words.
    """
    if value <= limits[0]:
        return Gate(name, GateOutcome.PASS, passed or observed)
    outcome = GateOutcome.WARN if value <= limits[1] else GateOutcome.FAIL
    return Gate(name, outcome, f"{observed}: {meaning}")


def worst_outcome(gates: Sequence[Gate]) -> GateOutcome:
    """Returns the worst outcome of the gates."""
    order = [GateOutcome.PASS, GateOutcome.WARN, GateOutcome.FAIL]
    return max((gate.outcome for gate in gates), key=order.index)


def logits_are_deterministic(first: Array, second: Array) -> Gate:
    """Whether two passes over the same inputs give the same logits (N, c)."""
    xp = arrays.namespace(first)
    change = float(xp.max(xp.abs(first - second)))
    return judged(
        "deterministic",
        change,
        (0.0, 0.0),
        f"logits change by up to {change:.2g} between two passes",
        "attacks on a random network must average over its randomness, and these attacks do not",
        passed="two passes in evaluation mode agree exactly",
    )


def outputs_are_logits(logits: Array) -> Gate:
    """Whether the outputs (N, c) are logits; a softmax in the network saturates and so masks gradients."""
    xp = arrays.namespace(logits)
    deviation = float(xp.max(xp.abs(xp.sum(logits, axis=1) - 1)))
    if float(xp.min(logits)) >= 0 and deviation < 1e-3:
        return Gate(
            "logits", GateOutcome.FAIL, "outputs are probabilities: remove the softmax from the network"
        )
    return Gate("logits", GateOutcome.PASS, "outputs are logits")


def bounds_are_known(bounds: tuple[Array, Array] | None) -> Gate:
    """Whether the problem states the bounds (d,) of the entries of an input."""
    if bounds is not None:
        low, high = (_range(bound) for bound in bounds)
        return Gate("bounds", GateOutcome.PASS, f"inputs stay between {low} and {high}")
    return Gate(
        "bounds", GateOutcome.WARN, "unknown, so perturbed inputs may not be valid inputs; set Problem.bounds"
    )


def samples_are_held_out(held_out: bool) -> Gate:
    """Whether the samples come from the validation data."""
    if held_out:
        return Gate("samples", GateOutcome.PASS, "from the validation data")
    return Gate(
        "samples",
        GateOutcome.WARN,
        "from the data of the loss, because no validation data are given: the network may have been trained "
        "on them",
    )


def precision_suffices(float64: bool, lost_share: float) -> Gate:
    """Whether margins and curvatures are computed in float64 or, without it, lose nothing.

    Args:
        lost_share: the share of samples whose loss is so small that rounding changes it by a percent.
    """
    if float64:
        return Gate("precision", GateOutcome.PASS, "margins and curvatures are computed in float64")
    return judged(
        "precision",
        lost_share,
        (0.0, 1.0),
        "the backend has no float64, and rounding changes the loss of "
        f"{100 * lost_share:.1f} % of the samples by a percent or more",
        "the ranks of their losses and curvatures are uncertain",
        passed="the backend has no float64; no loss is so small that rounding changes it by a percent",
    )


def eigenpairs_converged(eigen: EigenResult, input_share: float, which: str = "over weights") -> Gate:
    """Whether all eigenpairs converged: those of the operator, and this share of those over the inputs."""
    converged, k = int(np.sum(eigen.converged)), eigen.k
    observed = f"{converged} of {k} converged {which}, {100 * input_share:.1f} % over inputs"
    passed = converged == k and input_share == 1
    return Gate("eigenpairs", GateOutcome.PASS if passed else GateOutcome.WARN, observed)


def _range(bound: Array) -> str:
    """Returns the number that all entries (d,) are equal to, or the least and the largest of them."""
    least, most = float(arrays.namespace(bound).min(bound)), float(arrays.namespace(bound).max(bound))
    return f"{least:g}" if least == most else f"{least:.3g}..{most:.3g}"
