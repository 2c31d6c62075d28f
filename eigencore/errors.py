"""What can go wrong, as a tree; each kind has the exit code that the command ends with.

EigencoreError            1    it failed while running
├── UsageError            2    something was asked for that can't be (also a ValueError)
│   ├── UnknownNameError  2    nothing bears that name
│   ├── OptionError       2    an option unknown, of the wrong type or out of range
│   └── CapabilityError   2    the problem does not offer what the entry needs
├── ProblemError          1    a model, its data or its loss can't be used
├── OperatorError         1    products that no symmetric operator gives
│   ├── NotFiniteError    1
│   └── NotSymmetricError 1
├── ResultError           1    a saved result can't be written or read
└── PluginError           4    a plugin failed
Interrupted               130  Ctrl-C (a KeyboardInterrupt), with what was computed so far
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eigencore.results import EigenResult


class EigencoreError(Exception):
    """An error meant for a human: what is wrong and what was expected, and in `hint` what to do.

    `partial` is the best result so far where there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, partial: EigenResult | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.partial = partial

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(EigencoreError, ValueError):
    exit_code = 2


class UnknownNameError(UsageError):
    """Nothing bears that name; the nearest right ones are suggested."""

    def __init__(self, what: str, name: str, known: Iterable[str], *, also: str | None = None):
        known = sorted(known)
        near = get_close_matches(name, known, n=2, cutoff=0.5)
        hints = [
            f"Did you mean {' or '.join(near)}?" if near else f"There is: {', '.join(known) or 'none'}.",
            also,
        ]
        super().__init__(f"there is no {what} named {name!r}", hint=" ".join(filter(None, hints)))


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
    """Ctrl-C during a solve; `result` holds what was computed until then."""

    exit_code: ClassVar[int] = 130

    def __init__(self, result: EigenResult):
        super().__init__("interrupted; what was computed until then is in .result")
        self.result = result
