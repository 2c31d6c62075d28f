"""The state of a solve whose pairs have all converged, which is the same for every method of this package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eigencore.errors import UsageError

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array


@dataclass(frozen=True)
class ConvergedState:
    """The converged vectors (n, k), the same array as in the result; their products are computed again.

    That takes one product for each vector, as many as one more step would take.
    """

    vectors: Array


def state_after(state: Any, vectors: Array, converged: bool) -> Any:
    """Returns the state that a result keeps: its own vectors once all pairs have converged."""
    return ConvergedState(vectors) if converged else state


def begin_from(operator: LinearOperator, request: Request, state: Any) -> tuple[Request, Any]:
    """Returns the request and the state to begin from; converged vectors become the start block.

    Raises:
        UsageError: the vectors have another length or data type than those of the operator.
    """
    if not isinstance(state, ConvergedState):
        return request, state
    X = state.vectors
    if X.shape[0] != operator.shape[0] or X.dtype != operator.dtype:
        raise UsageError("this state comes from an operator of another size or data type")
    return replace(request, start=operator.xp.asarray(X, device=operator.device)), None
