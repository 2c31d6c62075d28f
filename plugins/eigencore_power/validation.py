"""Checks of a request, of options and of a state, made before the first product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eigencore.errors import OptionError, UsageError

if TYPE_CHECKING:
    from eigencore.request import Request
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


def check_state(state: Any, kind: type[Any]) -> None:
    """Checks that a state comes from the same method.

    Raises:
        UsageError: the state is not a `kind`.
    """
    if not isinstance(state, kind):
        raise UsageError(
            f"the state is a {type(state).__name__}, from another method; expected {kind.__name__}"
        )


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
