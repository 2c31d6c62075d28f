"""Checks of a request, of options and of a state, made before the first product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eigencore.errors import OptionError, UsageError

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array
    from eigencore_power.options import AccelPowerOptions


def check_end(request: Request, solver: str) -> None:
    """Checks that the eigenvalues of largest magnitude are requested.

    Raises:
        UsageError: `which` is not LM.
    """
    if request.which != "LM":
        raise UsageError(
            f"which is {request.which}; {solver} finds LM only",
            hint='Use solver="lobpcg", or solver="lanczos".',
        )


def check_state(operator: LinearOperator, state: Any, kind: type[Any]) -> None:
    """Checks that a state comes from the same method and fits the operator.

    Raises:
        UsageError: the state is not a `kind`, or its vectors have another length or data type.
    """
    if not isinstance(state, kind):
        raise UsageError(
            f"the state is a {type(state).__name__}, from another solver or method; expected {kind.__name__}"
        )
    check_vectors(operator, state.block.X.T)


def check_vectors(operator: LinearOperator, V: Array) -> None:
    """Checks that the vectors (n, b) of a state fit the operator.

    Raises:
        UsageError: they have another length or data type.
    """
    if V.shape[0] != operator.shape[0] or V.dtype != operator.dtype:
        raise UsageError("this state comes from an operator of another size or data type")


def check_effective(options: AccelPowerOptions) -> None:
    """Checks that options of minibatches are given only together with `batches`.

    Raises:
        OptionError: `variance_reduction` is turned off, or `epoch` is given, without `batches`.
    """
    if options.batches is not None:
        return
    for name, value, default in (
        ("variance_reduction", options.variance_reduction, True),
        ("epoch", options.epoch, None),
    ):
        if value != default:
            raise OptionError(
                f"accel_power.{name} is {value}, but it has no effect without accel_power.batches",
                hint=f"Set batches, or leave {name} out.",
            )
