"""The errors of eigencore, as a tree, with the exit code of the command for each kind.

EigencoreError            1    something failed while it ran
├── UsageError            2    an invalid request (also a ValueError)
│   ├── UnknownNameError  2    nothing has that name
│   ├── OptionError       2    an option is unknown, of the wrong type or out of range
│   └── CapabilityError   2    the problem does not offer what the entry needs
├── ProblemError          1    a model, its data or its loss cannot be used
├── OperatorError         1    a product failed, or is not that of a symmetric operator
│   ├── NotFiniteError    1    a product contains NaN or infinity
│   └── NotSymmetricError 1    the products contradict the symmetry of the operator
├── ResultError           1    a result cannot be saved or loaded
└── PluginError           4    a plugin failed
Interrupted               130  Ctrl-C (a KeyboardInterrupt), with what was computed so far
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, ClassVar


class Culprit(StrEnum):
    """Which part of a run failed.

    Attributes:
        SOLVER: the solver raised an exception, or what it returned is malformed.
        OPERATOR: a product failed, or is not that of a symmetric operator.
        CALLBACK: the caller's progress function raised an exception.
        CERTIFICATE: the solve was over, and computing its certificate failed.
        ANALYSIS: an analysis raised an exception, or what it returned is malformed.
    """

    SOLVER = "solver"
    OPERATOR = "operator"
    CALLBACK = "callback"
    CERTIFICATE = "certificate"
    ANALYSIS = "analysis"


class EigencoreError(Exception):
    """The base class of all errors that eigencore raises.

    Attributes:
        message: what is wrong and what was expected.
        hint: what to do next, or None.
        partial: the best result so far, an `EigenResult`, or None.
        culprit: the part of the run that failed, a `Culprit`; None if it did not fail during a solve or an
            analysis, or if the request itself is invalid.

    Example:
        import eigencore

        try:
            eigencore.analyze("demo:quadratc")
        except eigencore.EigencoreError as error:
            print(error.message, error.hint)
    """

    exit_code: ClassVar[int] = 1

    # `partial` is not typed as an EigenResult, because `eigencore.results` imports this module.
    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        partial: Any = None,
        culprit: Culprit | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.partial = partial
        self.culprit = culprit

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(EigencoreError, ValueError):
    exit_code = 2


class UnknownNameError(UsageError):
    """Nothing has that name; the hint suggests the nearest names, or lists all if none is near.

    Args:
        what: the kind of thing that was looked up, such as "solver".
        name: the unknown name.
        known: the names that exist.
        also: a sentence that is appended to the hint.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], *, also: str | None = None):
        known = sorted(known)
        near = get_close_matches(name, known, n=2, cutoff=0.5)
        hints = [
            f"Did you mean {' or '.join(near)}?" if near else f"Available: {', '.join(known) or 'none'}.",
            also,
        ]
        super().__init__(f"unknown {what}: {name!r}", hint=" ".join(filter(None, hints)))


class OptionError(UsageError):
    pass


class CapabilityError(UsageError):
    pass


class ProblemError(EigencoreError):
    pass


class OperatorError(EigencoreError):
    pass


class NotFiniteError(OperatorError):
    pass


class NotSymmetricError(OperatorError):
    pass


class ResultError(EigencoreError):
    pass


class PluginError(EigencoreError):
    exit_code = 4


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; `result` holds what had been computed.

    It is of the type that the function returns: an `EigenResult` of `solve`, a `Study` of `study`.
    """

    exit_code: ClassVar[int] = 130

    def __init__(self, result: Any):
        super().__init__("interrupted; the result so far is in .result")
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An error that was pickled: by default, Python would call its constructor with `args` alone."""
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


def described(error: BaseException) -> str:
    """The type and the text of an exception, as in "ValueError: x is 0"."""
    try:
        text = str(error)
    except Exception:  # an exception of other people's code may fail even at this
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def blame(error: BaseException, culprit: Culprit, kind: type[EigencoreError], failed: str) -> EigencoreError:
    """An error that names its culprit, and keeps the text of the exception.

    Args:
        error: the exception. One of our own errors is returned itself; if it names a culprit, it keeps that.
        culprit: the part of the run that failed.
        kind: the type of the error that replaces any other exception, which becomes its cause.
        failed: a clause that says what failed; the message of the new error starts with it.
    """
    if isinstance(error, EigencoreError):
        failure = error
    else:
        failure = kind(f"{failed}: {described(error)}")
        failure.__cause__ = error
    failure.culprit = failure.culprit or culprit
    return failure


def attach(error: BaseException, *, partial: Any = None, culprit: Culprit | None = None) -> None:
    """Sets `partial` and `culprit`, if they are given, on an exception of any type.

    An exception of other people's code is raised to the caller as it is, with these two attributes.
    """
    with contextlib.suppress(Exception):  # a type may refuse new attributes
        if partial is not None:
            error.partial = partial  # type: ignore[attr-defined]
        if culprit is not None:
            error.culprit = culprit  # type: ignore[attr-defined]
