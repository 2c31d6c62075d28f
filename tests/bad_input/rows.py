"""The rows of the table of bad input, and short functions to write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eigencore
from eigencore.errors import EigencoreError, ProblemError, UsageError
from eigencore.problems import find_factory


def nothing(folder: Path) -> None: ...


@dataclass(frozen=True)
class Row:
    """An input, given through Python, the command or both, and the expected outcome.

    Attributes:
        given: a description of the input.
        error: the error that Python raises; None: the input is valid.
        words: parts of the message, all of which must occur; they name the culprit.
        python: a function that gives the input.
        command: a command line that gives the same input.
        code: the exit code of the command, if it is not that of the error.
        prepare: creates the files that the input needs, in the current folder.
        truth: the expected eigenvalues of a valid input.
        fault: a known fault, because of which the row is expected to fail.
        fault_of: "python" or "command", if only that one has the fault.
    """

    given: str
    error: type[BaseException] | None
    words: tuple[str, ...]
    python: Callable[[], Any] | None = None
    command: tuple[str, ...] | None = None
    code: int | None = None
    prepare: Callable[[Path], object] = nothing
    truth: Callable[[], Any] | None = None
    fault: str = ""
    fault_of: str = ""

    @property
    def exit_code(self) -> int:
        if self.code is not None:
            return self.code
        return self.error.exit_code if self.error and issubclass(self.error, EigencoreError) else 0


NO_ANALYSES = ("--analyses", "none")
QUADRATIC = ("analyze", "demo:quadratic", "--set", "problem.n=60", *NO_ANALYSES)


def asked(
    given: str,
    *words: str,
    error: type[BaseException] | None = UsageError,
    flags: tuple[str, ...] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    keywords: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """A request for a valid problem, `demo:quadratic`; `flags` give the same as options and keywords."""
    of_problem = {"n": 60, **(options or {}).get("problem", {})}
    merged = {**(options or {}), "problem": of_problem}

    def python() -> Any:
        return eigencore.analyze(
            "demo:quadratic", **{"analyses": "none", "options": merged, **(keywords or {})}
        )

    through_python = python if keywords or options else None
    return Row(given, error, words, through_python, None if flags is None else (*QUADRATIC, *flags), **more)


def made(
    name: str,
    *words: str,
    error: type[BaseException] | None = ProblemError,
    file: str = "made.py",
    flags: tuple[str, ...] = NO_ANALYSES,
    as_good_as: str = "",
    keywords: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """The problem with that name in made.py; `as_good_as` names one with the same eigenvalues."""

    def analyzed(of: str, **asked: Any) -> Any:
        return eigencore.analyze(find_factory(f"{file}:{of}")(), **{"analyses": "none", **asked})

    extra = [] if flags == NO_ANALYSES else list(flags)
    return Row(
        " ".join([name.replace("_", " "), *extra]),
        error,
        words,
        lambda: analyzed(name, **(keywords or {})),
        ("analyze", f"{file}:{name}", *flags),
        **({"truth": lambda: analyzed(as_good_as).eigen.values} if as_good_as else {}),
        **more,
    )
