"""The operator of a kind that is registered for a backend, by the plugin of the backend or by another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore.errors import UsageError
from eigencore.options import option
from eigencore.registry import load, registry, require, resolve_options

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, Params
    from eigencore.space import LinearOperator


@dataclass(frozen=True)
class CurvatureOptions:
    """The options of every kind of operator over the weights.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        damped = bound.operator("ggn", damping=0.1)
    """

    weight_decay: float = option(
        0.0,
        low=0,
        help="a number c: adds c I, the Hessian of the penalty c/2 ||w||^2 that weight decay stands for",
        when="set it to that of the optimizer, if the penalty is not part of the loss",
    )
    damping: float = option(
        0.0,
        help="a number d: adds d I to the operator, after any scaling",
        when="set it for the matrix that a damped second-order method inverts",
    )


def operator_of_kind(
    bound: Bound,
    backend: str,
    kind: str,
    params: Params,
    select: Callable[[Params], Any],
    options: Mapping[str, Any],
) -> LinearOperator:
    """The operator of the given kind: what a backend's `Bound.operator` returns.

    Args:
        bound: the bound problem, which the implementation of the kind receives.
        backend: the name of the backend.
        kind: the name of the kind.
        params: selects the parameters.
        select: returns the layout of the parameters that `params` selects, in the backend's own form.
        options: the options of the kind, as given.

    Raises:
        UnknownNameError: the backend has no kind of this name, or the kind has no option of a given name.
        OptionError: an option has a value that is not accepted.
        UsageError: parameters are selected for a kind that is not over the weights.
        CapabilityError: the problem does not offer what the kind needs.

    Example:
        import eigencore
        from eigencore.problems.sharing import operator_of_kind

        bound = eigencore.bind("demo:digits-numpy")
        hessian = operator_of_kind(bound, "numpy", "hessian", "W2", bound.select, {})
    """
    entry = registry().find_kind(backend, kind)
    if entry.needs:
        require(entry, bound.capabilities)
    if params is not None and not entry.over_weights:
        raise UsageError(
            f"params is {params!r}, but the kind {kind} is not over the weights", hint="Leave params out."
        )
    given = resolve_options(entry, options)
    operator: LinearOperator = load(entry)(bound, select(params) if entry.over_weights else None, given)
    return operator
