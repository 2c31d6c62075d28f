"""Checks of the arguments that every backend takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eigencore.errors import ProblemError, UsageError

DTYPES = ("float32", "float64")
REDUCTIONS = ("infer", "mean", "sum")
CALLS = ("loss(model(x), y)", "loss(model, batch)")


def check_dtype(name: str) -> None:
    """Raises UsageError if `name` is not "float32" or "float64"."""
    if name not in DTYPES:
        raise UsageError(
            f"dtype is {name!r}; expected {' or '.join(DTYPES)}",
            hint="Use one of these: in a lower precision, rounding errors dominate a product.",
        )


def check_cpu(device: str | None, backend: str) -> None:
    """Raises UsageError if a backend that runs only on the CPU is asked for another device."""
    if device not in (None, "cpu"):
        raise UsageError(
            f"device is {device!r}; the backend {backend} runs only on the CPU", hint="Leave device out."
        )


def check_reduction(reduction: str, weight: object = None) -> None:
    """Raises UsageError if `reduction` is not "infer", "mean" or "sum", or is "sum" and weights are given."""
    if reduction not in REDUCTIONS:
        raise UsageError(f"reduction is {reduction!r}; expected 'infer', 'mean' or 'sum'")
    if reduction == "sum" and weight is not None:
        raise UsageError(
            "reduction='sum' and weight were both given", hint="Leave weight out: a sum needs no weights."
        )


def check_call(call: str | None) -> None:
    """Raises UsageError if `call` is neither None nor one of the two ways to call a loss."""
    if call is not None and call not in CALLS:
        raise UsageError(f"call is {call!r}; expected {' or '.join(map(repr, CALLS))}, or None")


def is_objective(loss: object) -> bool:
    """Whether a loss is an `eigencore.interfaces.Objective`."""
    return not _missing_of_objective(loss)


def _missing_of_objective(loss: object) -> list[str]:
    return [name for name in ("value", "grad", "hvp") if not callable(getattr(loss, name, None))]


def check_objective(loss: object) -> None:
    """Raises ProblemError if the loss is not an `eigencore.interfaces.Objective`."""
    if missing := _missing_of_objective(loss):
        raise ProblemError(
            f"the loss is a {type(loss).__name__} without {', '.join(missing)}; expected an Objective",
            hint="Give eigencore.objectives.CrossEntropy(), or implement eigencore.interfaces.Objective.",
        )


def check_finite_weights(name: str, not_finite: int, count: int) -> None:
    """Raises ProblemError if some of the `count` numbers in the weights of this name are not finite."""
    if not_finite:
        raise ProblemError(
            f"{name} contains NaN or infinite weights: {not_finite} of {count}",
            hint="Load weights from before the training diverged.",
        )


def check_reiterable(
    data: object, name: str = "data", expected: str = "a list of batches, such as [(x, y)]"
) -> None:
    """Raises ProblemError if the data can't be iterated, or can be iterated only once.

    Args:
        name: what the message calls the data.
        expected: what the hint recommends instead.
    """
    # Decided from the type, without calling iter(): a data loader's iter() can draw random numbers.
    if isinstance(data, str | bytes) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which can't be iterated; expected batches",
            hint=f"Give {expected}.",
        )
    if isinstance(data, Iterator):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which can be iterated only once; expected data that can be "
            "iterated many times",
            hint=f"Give {expected}, or call list() on the data if they fit into memory.",
        )
