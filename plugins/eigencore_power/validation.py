"""Checks of a request, of options and of a state, made before the first product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eigencore.errors import OptionError, UsageError

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array
    from eigencore_power.options import AccelPowerOptions


def check_end(request: Request, solver: str, ends: tuple[str, ...]) -> None:
    """Checks that the solver can find the requested end of the spectrum.

    Raises:
        UsageError: `which` is not one of `ends`.
    """
    if request.which not in ends:
        raise UsageError(
            f"which is {request.which}; {solver} finds {', '.join(ends)} only",
            hint='Use solver="lanczos", or solver="arpack".',
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
    X: Array = state.block.X
    if X.shape[1] != operator.shape[0] or X.dtype != operator.dtype:
        raise UsageError("this state comes from an operator of another size or data type")


def check_options_for_one_end(request: Request, options: AccelPowerOptions) -> None:
    """Checks that options that apply to LM only keep their defaults for LA and SA.

    Raises:
        OptionError: `momentum` is a number, or `batches` is given.
    """
    if options.momentum != "auto":
        raise OptionError(
            f"which is {request.which} and accel_power.momentum is {options.momentum}; "
            "a fixed momentum damps a range around zero, so it finds LM only",
            hint="Leave momentum at auto, or request LM.",
        )
    if options.batches is not None:
        raise OptionError(
            f"which is {request.which} and accel_power.batches is {options.batches}; "
            "momentum on minibatches damps a range around zero, so it finds LM only",
            hint="Omit batches, so that all steps use all of the data, or request LM.",
        )
