"""Convergence, the same for every method of this package: the test of residuals, and the state after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.request import precision_floor

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class ConvergedState:
    """The converged vectors (n, k), the same array as in the result; their products are computed again.

    That takes one product for each vector, as many as one more step would take.
    """

    vectors: Array


def threshold_ratios(
    operator: LinearOperator, request: Request, values: Floats, residuals: Floats, norm: float
) -> Floats:
    """Returns the residuals (m,), each divided by its threshold; a pair has converged at 1 or less.

    Args:
        values: the Ritz values (m,).
        norm: a lower bound of ||A||.
    """
    thresholds = request.thresholds(values, precision_floor(arrays.eps(operator), norm))
    # A threshold of zero belongs to a zero operator, whose residuals are zero.
    return residuals / np.where(thresholds > 0, thresholds, 1.0)


def state_after(state: Any, vectors: Array, converged: bool) -> Any:
    """Returns the state that a result keeps: its own vectors once all pairs have converged."""
    return ConvergedState(vectors) if converged else state


def begin_from(operator: LinearOperator, request: Request, state: Any) -> tuple[Request, Any]:
    """Returns the request and the state to begin from; converged vectors become the start block."""
    if not isinstance(state, ConvergedState):
        return request, state
    return replace(request, start=operator.xp.asarray(state.vectors, device=operator.device)), None
